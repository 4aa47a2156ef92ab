"""Decides who gets a certificate.

An event says that learners of a course batch may have earned a certificate. This job reads the certificate templates
of the batch, checks for each learner and template whether the criteria are met (enrolment, score of the assessments,
attributes of the user), and asks for each certificate with all that it needs.

Reads   {env}.issue.certificate.request (events of action issue-certificate)
Writes  {env}.generate.certificate.request, {env}.issue.certificate.failed (dead letters)
Tables  course_batch, user_enrolments, user_activity_agg of sunbird_courses, read only
Redis   metadata of contents (redis-meta, database 5), of courses (redis, database 0), read only
Asks    the content service for what Redis does not have, the user service for the learner

Who has the certificate already gets none, unless the event says reIssue. A learner who does not meet the criteria is
counted in skipped-event-count; `sunbird-pipelines trace` tells which criterion it was. An error in one template or of
one learner goes to the failed topic and stops nobody else.

Differs from the Scala job: every learner of an event is checked, not only the first; criteria `user` and `users` both
count; scores may be compared with decimals, several operators and plain numbers; a template that is broken, a user or
a content that is not known, never stop the job; and learners are waited for side by side.
"""

from __future__ import annotations

from collections.abc import Callable

import apache_beam as beam

from io_connectors.services import ContentService, UserService
from pipelines.channels import WithoutKey
from pipelines.clock import epoch_millis, new_uuid
from pipelines.settings import CassandraSettings, CloudSettings, HttpSettings, KafkaSettings, MetaRedisSettings, key
from pipelines.stores import calls, cassandra, cloud_paths, http, meta_redis, redis
from transforms.check_certificates import (
    GENERATE,
    CertificateRules,
    CertificateTables,
    CheckCertificates,
    CheckStores,
)
from transforms.dead_letter import FAILED
from transforms.decode import Record
from transforms.issue_requests import SelectIssueRequests

NAME = "collection-cert-pre-processor"

# This many workers could share the work.
SHARDS = 1_000


class Settings(KafkaSettings, CassandraSettings, MetaRedisSettings, CloudSettings, HttpSettings):
    """spec: collection-cert-pre-processor §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.issue.certificate.request", "issue events")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-collection-cert-pre-processor-group",
        "consumer group; to take over from a running job, the group that it used",
    )
    generate_topic: str = key("kafka.output.topic", "{env}.generate.certificate.request", "generate events")
    failed_topic: str = key("kafka.output.failed.topic", "{env}.issue.certificate.failed", "dead letters")

    keyspace: str = key("lms-cassandra.keyspace", "sunbird_courses", "keyspace of the three tables")
    batches_table: str = key("lms-cassandra.course_batch.table", "course_batch", "batches with their templates")
    enrolments_table: str = key("lms-cassandra.user_enrolments.table", "user_enrolments", "enrolments")
    aggregates_table: str = key("lms-cassandra.user_activity_agg.table", "user_activity_agg", "scores")
    assessments_table: str = key("lms-cassandra.assessment_aggregator.table", "assessment_aggregator", "not read")

    collection_database: int = key("redis.database.collectionCache.id", 0, "Redis database of courses", ge=0)
    content_database: int = key("redis.database.contentCache.id", 5, "Redis database of contents (redis-meta)", ge=0)
    cache_expiry: int = key(
        "content.cache.expiry", 60, "seconds that a worker remembers a content's type and a course's name", ge=1
    )

    content_base_path: str | None = key("service.content.basePath", None, "content service, http://host:port")
    content_read_path: str = key("content_read_api", "/content/v3/read", "its path")
    learner_base_path: str | None = key("service.learner.basePath", None, "user and organisation service")
    user_read_path: str = key("user_read_api", "/private/user/v1/read", "its path")

    certificate_domain: str = key("cert_domain_url", ..., "address that certificates are under; /certs is appended")
    assessment_types: list[str] = key(
        "assessment.metrics.supported.contenttype", ["SelfAssess"], "types of content that count as assessment"
    )
    tolerant: bool = key(
        "enable.suppress.exception", True, "leave out a content without metadata; false: such an event fails"
    )
    calls_at_once: int = key("task.calls.at.once", 64, "learners that a worker waits for side by side", ge=1, le=512)


def stores(settings: Settings) -> CheckStores:
    """The stores and services that the settings name."""
    client = http(settings, settings.calls_at_once)
    return CheckStores(
        tables=cassandra(settings),
        content_cache=meta_redis(settings, settings.content_database),
        collection_cache=redis(settings, settings.collection_database),
        contents=ContentService(settings.content_base_path, settings.content_read_path, client),
        users=UserService(settings.learner_base_path, settings.user_read_path, client),
        calls=calls(NAME, settings.calls_at_once),
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """Nothing beyond the defaults."""
    return {}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: CheckStores,
    batch_size: int = 500,
    clock: Callable[[], int] = epoch_millis,
    new_id: Callable[[], str] = new_uuid,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; for each output topic the (key, value) records to write."""
    selected = records | "Select requests" >> beam.ParDo(SelectIssueRequests(NAME, SHARDS)).with_outputs(
        FAILED, main="requests"
    )

    checked = selected.requests | "Check certificates" >> beam.ParDo(
        CheckCertificates(
            NAME,
            stores,
            CertificateTables(
                batches=f"{settings.keyspace}.{settings.batches_table}",
                enrolments=f"{settings.keyspace}.{settings.enrolments_table}",
                aggregates=f"{settings.keyspace}.{settings.aggregates_table}",
            ),
            CertificateRules(
                assessment_types=tuple(settings.assessment_types),
                tolerant=settings.tolerant,
                certificates_path=f"{settings.certificate_domain}/certs",
                paths=cloud_paths(settings),
            ),
            size=batch_size,
            remembered_seconds=settings.cache_expiry,
            clock=clock,
            new_id=new_id,
        )
    ).with_outputs(GENERATE, FAILED)

    failed = (selected[FAILED], checked[FAILED]) | "All failed" >> beam.Flatten()
    return {
        settings.generate_topic: checked[GENERATE] | "Requests without key" >> WithoutKey(),
        settings.failed_topic: failed | "Failed without key" >> WithoutKey(),
    }
