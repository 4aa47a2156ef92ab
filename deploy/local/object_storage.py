"""An object store that speaks S3: the server of the PyPI package moto. What it holds is gone when it ends."""

import importlib.util
import sys
from typing import Any, ClassVar

import requests

from deploy.local.errors import StackError
from deploy.local.processes import LOOPBACK, accepts_connections
from deploy.local.service import Service, Surroundings

CONTAINER = "certificates"
PUBLIC_CONTAINER = "contents"


class ObjectStorage(Service):
    """The store of certificates, and of the contents' files; it takes any key and secret."""

    name = "object-storage"
    ports: ClassVar = {"object-storage": 9000}
    processes = ("object-storage",)

    def prepare(self, around: Surroundings) -> None:
        if any(importlib.util.find_spec(package) is None for package in ("moto", "flask", "flask_cors")):
            raise StackError(
                "there is no object store: install the extra 'stack' of this project "
                "(pip install 'sunbird-pipelines[stack]')"
            )

    def start(self, process: str, around: Surroundings) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(around.ports["object-storage"])]
        around.processes.start(process, command, {}, around.data("object-storage"))

    def healthy(self, process: str, around: Surroundings) -> bool:
        return accepts_connections(around.ports["object-storage"])

    def populate(self, environment: str, around: Surroundings) -> None:
        for container, access in ((CONTAINER, "private"), (PUBLIC_CONTAINER, "public-read")):
            try:
                answer = requests.put(
                    f"{self._endpoint(around)}/{container}", headers={"x-amz-acl": access}, timeout=30
                )
            except requests.RequestException as error:
                raise StackError(f"the object store does not answer: {error}") from error
            if not answer.ok:
                raise StackError(f"the object store refuses the container {container!r}: status {answer.status_code}")

    def settings(self, around: Surroundings) -> dict[str, Any]:
        return {
            "cert_cloud_storage_type": "s3",
            "cert_cloud_storage_key": "local",
            "cert_cloud_storage_secret": "local",
            "cert_cloud_storage_endpoint": self._endpoint(around),
            "cert_container_name": CONTAINER,
            "cloud_storage_type": "s3",
            "cloud_storage_key": "local",
            "cloud_storage_secret": "local",
            "cloud_storage_endpoint": self._endpoint(around),
            "cloud_storage_container": PUBLIC_CONTAINER,
        }

    @staticmethod
    def _endpoint(around: Surroundings) -> str:
        return f"http://{LOOPBACK}:{around.ports['object-storage']}"
