"""Scores the attempts at assessments.

A learner answers a course's assessment, and the LMS sends the answers as one event. This job scores the attempt and
stores it question by question, works out the best score and the number of attempts of each assessment of the course,
and asks for a certificate. An event without answers has the latter two done again.

Reads   {env}.telemetry.assess
Writes  {env}.issue.certificate.request, {env}.telemetry.assess.failed (the event, with metadata.validation_error)
Tables  assessment_aggregator, user_activity_agg of sunbird_courses
Redis   leaf nodes of courses (redis-meta, database 10) and metadata of contents (redis-meta, database 5), read only
Asks    the content service for the number of questions, with assessment.skip.missingRecords, if Redis does not know it

The leaf nodes are looked for on redis-meta, relation-cache-updater writes them to redis: both must be the same server.
Otherwise no content is ever found not to belong to its course (cache-hit-miss-count grows with each event).

Of the events of one attempt the latest counts, whatever the order in which they come; one that comes again changes
nothing and asks for the certificate again, which is not issued twice.

Differs from the Scala job: a failed event says why it failed, text that is not JSON is kept, null answers and events
without ids never stop the job, an attempt that was stored before a crash still gets its totals and its certificate
request, dates in agg_details are UTC, and a store that is away stops the job instead of losing the attempt.
"""

from __future__ import annotations

from collections.abc import Callable

import apache_beam as beam

from io_connectors.services import ContentReadApi
from pipelines.channels import WithoutKey
from pipelines.clock import epoch_millis, new_uuid
from pipelines.settings import CassandraSettings, HttpSettings, KafkaSettings, MetaRedisSettings, key
from pipelines.stores import calls, cassandra, http, meta_redis
from transforms.assessment_scores import CERTIFICATE, AssessmentStores, AssessmentTables, ScoreAssessments
from transforms.assessment_selection import SelectAssessments
from transforms.dead_letter import FAILED
from transforms.decode import Record

NAME = "assessment-aggregator"

# This many workers could share the work.
SHARDS = 1_000


class Settings(KafkaSettings, CassandraSettings, MetaRedisSettings, HttpSettings):
    """spec: assessment-aggregator §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.telemetry.assess", "attempts")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-assessment-aggregator-group",
        "consumer group; to take over from a running job, the group that it used",
    )
    certificate_topic: str = key(
        "kafka.output.certissue.topic", "{env}.issue.certificate.request", "certificate requests"
    )
    failed_topic: str = key(
        "kafka.failed.topic",
        "{env}.telemetry.assess.failed",
        "failed events",
        seed_names=["kafka.output.failed.topic"],
    )

    keyspace: str = key("lms-cassandra.keyspace", "sunbird_courses", "keyspace of both tables")
    attempts_table: str = key("lms-cassandra.table", "assessment_aggregator", "attempts with their questions")
    aggregates_table: str = key(
        "lms-cassandra.activitytable",
        "user_activity_agg",
        "best scores and numbers of attempts",
        seed_names=["lms-cassandra.activityytable"],
    )
    question_type: str = key("lms-cassandra.questionudttype", "question", "not needed: the table says it")
    enrolments_table: str = key("lms-cassandra.enrolmentstable", "user_enrolments", "not read")

    relation_cache_database: int = key(
        "redis.database.relationCache.id", 10, "Redis database of the relation cache (redis-meta)", ge=0
    )
    content_database: int = key("redis.database.contentCache.id", 5, "Redis database of contents (redis-meta)", ge=0)

    limit_questions: bool = key(
        "assessment.skip.missingRecords", False, "turn away attempts with more questions than the content has"
    )
    content_read_prefix: str = key(
        "content.read.api",
        "http://dev.sunbirded.org/api/content/v1/read/",
        "where the content service is asked for a content; its id is appended",
    )
    cache_expiry: int = key(
        "content.cache.expiry", 60, "seconds that a worker remembers how many questions the service says", ge=1
    )
    calls_at_once: int = key("task.calls.at.once", 64, "contents that a worker asks for side by side", ge=1, le=512)
    detail_type: str = key("user.activity.agg.type", "attempt_metrics", "type of the entries in agg_details")


def stores(settings: Settings) -> AssessmentStores:
    """The stores and services that the settings name."""
    return AssessmentStores(
        tables=cassandra(settings),
        relation_cache=meta_redis(settings, settings.relation_cache_database),
        content_cache=meta_redis(settings, settings.content_database) if settings.limit_questions else None,
        contents=ContentReadApi(settings.content_read_prefix, http(settings, settings.calls_at_once)),
        calls=calls(NAME, settings.calls_at_once),
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """Nothing beyond the defaults."""
    return {}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: AssessmentStores,
    batch_size: int = 500,
    clock: Callable[[], int] = epoch_millis,
    new_id: Callable[[], str] = new_uuid,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; for each output topic the (key, value) records to write."""
    selected = records | "Select assessments" >> beam.ParDo(SelectAssessments(NAME, SHARDS)).with_outputs(
        FAILED, main="attempts"
    )

    scored = selected.attempts | "Score assessments" >> beam.ParDo(
        ScoreAssessments(
            NAME,
            stores,
            AssessmentTables(
                attempts=f"{settings.keyspace}.{settings.attempts_table}",
                aggregates=f"{settings.keyspace}.{settings.aggregates_table}",
            ),
            detail_type=settings.detail_type,
            size=batch_size,
            remembered_seconds=settings.cache_expiry,
            clock=clock,
            new_id=new_id,
        )
    ).with_outputs(CERTIFICATE, FAILED)

    return {
        settings.certificate_topic: scored[CERTIFICATE] | "Requests without key" >> WithoutKey(),
        settings.failed_topic: (selected[FAILED], scored[FAILED]) | "All failed" >> beam.Flatten(),
    }
