"""Stand-ins for the HTTP services of Sunbird that the jobs call (see deploy.local.stub_server)."""

import sys
from typing import Any, ClassVar

from deploy.local.notification_providers import FCM_KEY, FCM_PATH, SMS_KEY, SMS_PATH
from deploy.local.processes import LOOPBACK, accepts_connections
from deploy.local.service import Service, Surroundings

RC_KEY = "stub-rc-key"
RC_ENTITY = "TrainingCertificate"


class Stubs(Service):
    """One small HTTP server for all of them."""

    name = "stubs"
    ports: ClassVar = {"stubs": 8099}
    processes = ("stubs",)

    def start(self, process: str, around: Surroundings) -> None:
        command = [sys.executable, "-m", "deploy.local.stub_server", str(around.ports["stubs"])]
        around.processes.start(process, command, {}, around.data("stubs"))

    def healthy(self, process: str, around: Surroundings) -> bool:
        return accepts_connections(around.ports["stubs"])

    def settings(self, around: Surroundings) -> dict[str, Any]:
        address = f"http://{LOOPBACK}:{around.ports['stubs']}"
        return {
            "service.search.basePath": address,
            "service.content.basePath": address,
            "service.content_service.basePath": address,
            "content_read_api": "/content/v3/read",
            "service.learner.basePath": address,
            "user_read_api": "/private/user/v1/read",
            "service.userorg.basePath": address,
            "service.taxonomy.basePath": address,
            "service.lms.basePath": address,
            "sunbird_sso_url": f"{address}/auth/",
            "sunbird_sso_realm": "sunbird",
            "sunbird_sso_client_id": "stub-client",
            "sunbird_sso_client_secret": "stub-client-secret",
            "sunbird_keycloak_user_federation_provider_id": "stub-provider",
            "service.rc.basePath": f"{address}/registry-service/api/v1",
            "service.rc.entity": RC_ENTITY,
            "service.rc.rcApiKey": RC_KEY,
            "service.certreg.basePath": address,
            "service.enc.basePath": address,
            "cert_domain_url": address,
            "sunbird_msg_91_baseurl": f"{address}/",
            "sunbird_msg_91_post_url": SMS_PATH,
            "sms_auth_key": SMS_KEY,
            "sms_default_sender": "TesSun",
            "sunbird_fcm_url": f"{address}/{FCM_PATH}",
            "fcm_account_key": FCM_KEY,
            # CLOUD_BASE_PATH/NAME.svg is one of the stubs' templates
            "cloud_storage_base_url": address,
            "content_cloud_storage_container": "templates",
            "program-service-baseUrl": address,
            "service.sourcing.content.basePath": f"{address}/sourcing",
            "content_auto_creator.gdrive.base_url": address,
            "source.baseUrl": address,
            "schema.basePath": f"{address}/schemas",
        }
