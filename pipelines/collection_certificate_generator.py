"""Issues certificates.

An event says that a learner gets a certificate. This job issues it, notes it in the learner's enrolment, where portal
and app find it, revokes the one that it replaces, and tells the learner by e-mail, SMS and feed.

With enable.rc.certificate (the default) the certificate is a record of Sunbird RC, which also draws it. Without, it is
an Open Badges document of this job's own, with picture and QR code inside, signed when the event has keys, kept in
cloud storage and registered with the certificate registry.

Reads   {env}.generate.certificate.request
Writes  {env}.telemetry.raw (AUDIT events), {env}.generate.certificate.failed (dead letters)
Tables  user_enrolments (column issued_certificates), course_batch of sunbird_courses; cert_registry of sunbird and
        the Elasticsearch index certs, where an old certificate that RC does not know is removed
Asks    Sunbird RC; or cloud storage, certificate registry and encryption service; the user service to tell the learner

Certificates of one enrolment are issued in turn: two events at the same time give one certificate. A certificate that
is issued already is counted in skipped-event-count. An event that can not be handled goes to the failed topic and may
be sent again. A create whose outcome nobody knows is looked for before it is tried again; with
rc.search.before.create every create is.

Differs from the Scala job: an event, a service's refusal or a blocked user never stop the job; the new certificate is
there before the old one goes; a repeated re-issue makes no second certificate; the SMS is an SMS; legacy certificates
are signed, verifiable and well-formed whatever the names hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import apache_beam as beam
from pydantic import SecretStr, model_validator

from io_connectors.services import CertificateRegistryService, SigningService, TemplateStore, UserService
from pipelines.certificate_stores import (
    object_store,
    sunbird_rc,
)
from pipelines.channels import WithoutKey
from pipelines.clock import any_character, epoch_millis, new_uuid
from pipelines.settings import CassandraSettings, CloudSettings, HttpSettings, KafkaSettings, key
from pipelines.stores import calls, cassandra, cloud_paths, elasticsearch, http
from transforms.certificate.credential import unwanted_texts
from transforms.dead_letter import FAILED
from transforms.decode import Record
from transforms.issue_certificates import AUDIT, TELL, IssueCertificates, IssueStores, SelectGenerateRequests
from transforms.issuers import BadgeIssuer, CredentialIssuer, Issues
from transforms.tell_learners import ByLearner, FeedLearners, NotifyLearners, TellStores

NAME = "collection-certificate-generator"

# This many workers could share the work.
SHARDS = 1_000


class Settings(KafkaSettings, CassandraSettings, CloudSettings, HttpSettings):
    """spec: collection-certificate-generator §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.generate.certificate.request", "generate events")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-certificate-generator-group",
        "consumer group; to take over from a running job, the group that it used",
    )
    audit_topic: str = key("kafka.output.audit.topic", "{env}.telemetry.raw", "AUDIT events")
    failed_topic: str = key("kafka.output.failed.topic", "{env}.generate.certificate.failed", "dead letters")

    with_rc: bool = key("enable.rc.certificate", True, "issue with Sunbird RC; false: as files of our own")
    suppress_signatories: bool = key("enable.suppress.exception", True, "accept signatory lists with gaps")

    rc_base_path: str | None = key("service.rc.basePath", None, "Sunbird RC, with its path; needed with RC")
    rc_entity: str = key("service.rc.entity", "TrainingCertificate", "RC's name for a certificate")
    rc_api_key: SecretStr | None = key("service.rc.rcApiKey", None, "value of the header Authorization, as it is")
    rc_search_first: bool = key(
        "rc.search.before.create", False, "look for a record that a run that was cut short has made, before each create"
    )
    unwanted: str = key(
        "task.rc.badcharlist", r"\x00,\\aaa,\aaa,Ø,Ý", "texts removed from what RC gets, separated by commas"
    )

    registry_base_path: str | None = key("service.certreg.basePath", None, "certificate registry; needed without RC")
    signing_base_path: str | None = key("service.enc.basePath", None, "encryption service; for events with keys")
    learner_base_path: str | None = key("service.learner.basePath", None, "user service, which tells the learners")
    certificate_domain: str | None = key(
        "cert_domain_url", None, "address that certificates are under; /certs is appended; needed without RC"
    )
    store_kind: str | None = key(
        "cert_cloud_storage_type", None, "azure, aws, s3, oci, cephs3, minio, gcloud or local; needed without RC"
    )
    store_container: str | None = key("cert_container_name", None, "container of the certificates; needed without RC")
    store_key: SecretStr | None = key("cert_cloud_storage_key", None, "account, access key id or client e-mail")
    store_secret: SecretStr | None = key("cert_cloud_storage_secret", None, "its secret")
    store_endpoint: str | None = key("cert_cloud_storage_endpoint", None, "address of the store; a directory for local")
    instance_name: str = key("sunbird_instance_name", "Sunbird", "name of the installation, in the SMS")

    keyspace: str = key("lms-cassandra.keyspace", "sunbird_courses", "keyspace of enrolments and batches")
    enrolments_table: str = key("lms-cassandra.user_enrolments.table", "user_enrolments", "enrolments")
    batches_table: str = key("lms-cassandra.course_batch.table", "course_batch", "batches, with their notify templates")
    registry_keyspace: str = key("lms-cassandra.sbkeyspace", "sunbird", "keyspace of the certificate registry")
    registry_table: str = key("lms-cassandra.certreg.table", "cert_registry", "legacy certificates")
    elasticsearch_hosts: str = key("es.basePath", "localhost:9200", "Elasticsearch: host:port[,host:port…]")

    calls_at_once: int = key("task.calls.at.once", 64, "enrolments that a worker waits for side by side", ge=1, le=512)

    @model_validator(mode="after")
    def _needed(self) -> Settings:
        needed = {"service.rc.basePath": self.rc_base_path}
        if not self.with_rc:
            needed = {
                "service.certreg.basePath": self.registry_base_path,
                "cert_domain_url": self.certificate_domain,
                "cert_cloud_storage_type": self.store_kind,
                "cert_container_name": self.store_container,
            }
        mode = "true" if self.with_rc else "false"
        missing = [
            f"{name}: is missing, and needed with enable.rc.certificate = {mode}. "
            f"Write it into a --config file or pass --set {name}=VALUE."
            for name, value in needed.items()
            if not value
        ]
        if missing:
            raise ValueError("\n".join(missing))
        return self


@dataclass(frozen=True)
class Stores:
    """What the two parts of the job need."""

    issue: IssueStores
    tell: TellStores


def stores(settings: Settings) -> Stores:
    """The stores and services that the settings name."""
    tables, waiting = cassandra(settings), calls(NAME, settings.calls_at_once)
    return Stores(
        issue=IssueStores(
            tables=tables,
            enrolments=f"{settings.keyspace}.{settings.enrolments_table}",
            issuer=_rc_issuer(settings) if settings.with_rc else _badge_issuer(settings),
            calls=waiting,
        ),
        tell=TellStores(
            tables=tables,
            batches=f"{settings.keyspace}.{settings.batches_table}",
            users=UserService(
                settings.learner_base_path, "/private/user/v1/read", http(settings, settings.calls_at_once)
            ),
            calls=waiting,
        ),
    )


def _rc_issuer(settings: Settings) -> Issues:
    client = http(settings, settings.calls_at_once)
    return CredentialIssuer(
        credentials=sunbird_rc(settings.rc_base_path, settings.rc_entity, settings.rc_api_key, client),
        entity=settings.rc_entity,
        paths=cloud_paths(settings),
        unwanted=unwanted_texts(settings.unwanted),
        search_first=settings.rc_search_first,
        tables=cassandra(settings),
        registry_table=f"{settings.registry_keyspace}.{settings.registry_table}",
        documents=elasticsearch(settings.elasticsearch_hosts),
    )


def _badge_issuer(settings: Settings) -> Issues:
    client = http(settings, settings.calls_at_once)
    return BadgeIssuer(
        base=f"{settings.certificate_domain}/certs",
        paths=cloud_paths(settings),
        templates=TemplateStore(client),
        signing=SigningService(settings.signing_base_path, client),
        objects=object_store(
            settings.store_kind,
            settings.store_container,
            settings.store_key,
            settings.store_secret,
            settings.store_endpoint,
        ),
        registry=CertificateRegistryService(settings.registry_base_path, client),
        choose=any_character,
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """Nothing beyond the defaults."""
    return {}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: Stores,
    batch_size: int = 500,
    clock: Callable[[], int] = epoch_millis,
    new_id: Callable[[], str] = new_uuid,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; for each output topic the (key, value) records to write."""
    selected = records | "Select requests" >> beam.ParDo(
        SelectGenerateRequests(NAME, SHARDS, suppress_signatories=settings.suppress_signatories)
    ).with_outputs(FAILED, main="requests")

    issued = selected.requests | "Issue certificates" >> beam.ParDo(
        IssueCertificates(
            NAME,
            stores.issue,
            size=batch_size,
            suppress_signatories=settings.suppress_signatories,
            clock=clock,
            new_id=new_id,
        )
    ).with_outputs(AUDIT, TELL, FAILED)

    told = issued[TELL] | "By learner" >> ByLearner(SHARDS)
    _ = told | "Notify learners" >> beam.ParDo(
        NotifyLearners(
            NAME,
            stores.tell,
            size=batch_size,
            paths=cloud_paths(settings),
            instance_name=settings.instance_name,
            clock=clock,
        )
    )
    _ = told | "Feed learners" >> beam.ParDo(FeedLearners(NAME, stores.tell, size=batch_size))

    failed = (selected[FAILED], issued[FAILED]) | "All failed" >> beam.Flatten()
    return {
        settings.audit_topic: issued[AUDIT] | "Audit without key" >> WithoutKey(),
        settings.failed_topic: failed | "Failed without key" >> WithoutKey(),
    }
