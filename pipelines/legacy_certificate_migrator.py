"""Moves certificates of the time before Sunbird RC into RC.

A Spark job of the installation sends one event for each old certificate. This job makes the record in RC, lets the
learner's enrolment point to it, and revokes the old certificate. It runs during a migration only, can be stopped at
any moment, and may be sent the same events again: how far each certificate came stands in the column `reason` of its
row in the registry.

Reads   {env}.legacy.certificate.migrate
Writes  {env}.telemetry.raw (AUDIT events); dead letters where kafka.output.failed.topic says so, else they are only
        logged and counted
Tables  cert_registry of sunbird, user_enrolments of sunbird_courses
Asks    Sunbird RC; Elasticsearch, whose document of the old certificate (index certs) is removed

A certificate without enrolment stays as it is, and its event is a dead letter. A learner who has a newer certificate
keeps it: the event is counted in skipped-event-count. The files in cloud storage stay.

Differs from the Scala job: the old certificate is revoked only when an enrolment points to the new one; `revoked` is
written only when both stores have done it; a newer certificate is not replaced; and no event stops the job.
"""

from __future__ import annotations

from collections.abc import Callable

import apache_beam as beam
from pydantic import SecretStr

from pipelines.certificate_stores import sunbird_rc
from pipelines.channels import WithoutKey
from pipelines.clock import epoch_millis, new_uuid
from pipelines.settings import CassandraSettings, CloudSettings, HttpSettings, KafkaSettings, key
from pipelines.stores import calls, cassandra, cloud_paths, elasticsearch, http
from transforms.certificate.credential import unwanted_texts
from transforms.dead_letter import FAILED
from transforms.decode import Record
from transforms.issue_certificates import AUDIT
from transforms.migrate_certificates import MigrateCertificates, MigrationStores, SelectMigrations

NAME = "legacy-certificate-migrator"

# This many workers could share the work.
SHARDS = 1_000


class Settings(KafkaSettings, CassandraSettings, CloudSettings, HttpSettings):
    """spec: legacy-certificate-migrator §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.legacy.certificate.migrate", "migrate events")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-certificate-migrator-group",
        "consumer group; to take over from a running job, the group that it used",
    )
    audit_topic: str = key("kafka.output.audit.topic", "{env}.telemetry.raw", "AUDIT events")
    failed_topic: str | None = key(
        "kafka.output.failed.topic", None, "dead letters; not set: they are only logged and counted"
    )

    suppress_signatories: bool = key("enable.suppress.exception", False, "accept signatory lists with gaps")
    with_rc: bool = key("enable.rc.certificate", True, "without effect on this job")

    rc_base_path: str = key("service.rc.basePath", ..., "Sunbird RC, with its path", min_length=1)
    rc_entity: str = key("service.rc.entity", "TrainingCertificate", "RC's name for a certificate")
    rc_api_key: SecretStr | None = key("service.rc.rcApiKey", None, "value of the header Authorization, as it is")
    unwanted: str = key(
        "task.rc.badcharlist", r"\x00,\\aaa,\aaa,Ø,Ý", "texts removed from what RC gets, separated by commas"
    )

    keyspace: str = key("lms-cassandra.keyspace", "sunbird_courses", "keyspace of the enrolments")
    enrolments_table: str = key("lms-cassandra.user_enrolments.table", "user_enrolments", "enrolments")
    registry_keyspace: str = key("lms-cassandra.sbkeyspace", "sunbird", "keyspace of the certificate registry")
    registry_table: str = key("lms-cassandra.certreg.table", "cert_registry", "legacy certificates")
    elasticsearch_hosts: str = key("es.basePath", "localhost:9200", "Elasticsearch: host:port[,host:port…]")

    calls_at_once: int = key("task.calls.at.once", 64, "enrolments that a worker waits for side by side", ge=1, le=512)


def stores(settings: Settings) -> MigrationStores:
    """The stores and services that the settings name."""
    client = http(settings, settings.calls_at_once)
    return MigrationStores(
        tables=cassandra(settings),
        enrolments=f"{settings.keyspace}.{settings.enrolments_table}",
        registry=f"{settings.registry_keyspace}.{settings.registry_table}",
        credentials=sunbird_rc(settings.rc_base_path, settings.rc_entity, settings.rc_api_key, client),
        entity=settings.rc_entity,
        documents=elasticsearch(settings.elasticsearch_hosts),
        calls=calls(NAME, settings.calls_at_once),
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """Nothing beyond the defaults."""
    return {}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: MigrationStores,
    batch_size: int = 500,
    clock: Callable[[], int] = epoch_millis,
    new_id: Callable[[], str] = new_uuid,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; for each output topic the (key, value) records to write."""
    selected = records | "Select migrations" >> beam.ParDo(
        SelectMigrations(NAME, SHARDS, suppress_signatories=settings.suppress_signatories)
    ).with_outputs(FAILED, main="migrations")

    migrated = selected.migrations | "Migrate certificates" >> beam.ParDo(
        MigrateCertificates(
            NAME,
            stores,
            size=batch_size,
            suppress_signatories=settings.suppress_signatories,
            paths=cloud_paths(settings),
            unwanted=unwanted_texts(settings.unwanted),
            clock=clock,
            new_id=new_id,
        )
    ).with_outputs(AUDIT, FAILED)

    failed = (
        (selected[FAILED], migrated[FAILED]) | "All failed" >> beam.Flatten() | "Failed without key" >> WithoutKey()
    )
    outputs = {settings.audit_topic: migrated[AUDIT] | "Audit without key" >> WithoutKey()}
    # without a topic they have been logged and counted, which is all that the installation asked for
    return outputs | ({settings.failed_topic: failed} if settings.failed_topic else {})
