"""Keeps every learner's progress in a course.

The LMS reports which contents a learner completed. This job counts views and completions of each content, computes
how many required contents of the course and of its units are done, updates the enrolment, and, when the course is
complete, requests the certificate. It tells telemetry about every content started, content completed and course
completed.

Reads   {env}.coursebatch.job.request (events of action batch-enrolment-update)
Writes  {env}.telemetry.raw (AUDIT events), {env}.issue.certificate.request, {env}.activity.agg.failed (dead letters)
Tables  user_content_consumption, user_activity_agg, user_enrolments of sunbird_courses
Redis   the relation cache (database 10, made by relation-cache-updater); checksums of what was counted (database 13)

A content is counted once while its checksum lives (7 days). A course without leaf nodes in the relation cache is
not counted: its events go to the failed topic, ready to be replayed once relation-cache-updater has run.

Differs from the Scala job: contents of one event are merged before the course is computed, untouched rows are not
rewritten, a record that can not be read or a course without leaf nodes never stops the job, and a redelivered record
repeats what it did the first time instead of counting again.
"""

from __future__ import annotations

from collections.abc import Callable

import apache_beam as beam

from io_connectors.services import SearchService
from pipelines.channels import WithoutKey
from pipelines.clock import epoch_millis, new_uuid
from pipelines.settings import CassandraSettings, DedupRedisSettings, HttpSettings, KafkaSettings, key
from pipelines.stores import cassandra, dedup_redis, http, redis
from transforms.consumption import SelectConsumption, consumption_of
from transforms.dead_letter import FAILED
from transforms.decode import Record
from transforms.progress import Rules
from transforms.update_progress import AUDIT, CERTIFICATE, ProgressStores, ProgressTables, UpdateProgress

NAME = "activity-aggregate-updater"

# Beside a job that handled the event before, whose checksums would leave nothing to compare.
IN_THE_SHADOW = {"dedup": False}


class Settings(KafkaSettings, CassandraSettings, DedupRedisSettings, HttpSettings):
    """spec: activity-aggregate-updater §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.coursebatch.job.request", "consumption events")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-activity-aggregate-updater-group",
        "consumer group; to take over from a running job, the group that it used",
    )
    audit_topic: str = key(
        "kafka.output.audit.topic", "{env}.telemetry.raw", "AUDIT events", seed_names=["kafka.audit.topic"]
    )
    certificate_topic: str = key(
        "kafka.output.certissue.topic",
        "{env}.issue.certificate.request",
        "certificate requests",
        seed_names=["kafka.certissue.topic"],
    )
    failed_topic: str = key("kafka.output.failed.topic", "{env}.activity.agg.failed", "dead letters")

    keyspace: str = key("lms-cassandra.keyspace", "sunbird_courses", "keyspace of the three tables")
    consumption_table: str = key(
        "lms-cassandra.consumption.table",
        "user_content_consumption",
        "views and completions of each content",
        seed_names=["lms-cassandra.content_consumption.table"],
    )
    aggregates_table: str = key(
        "lms-cassandra.user_activity_agg.table", "user_activity_agg", "completed contents of courses and units"
    )
    enrolments_table: str = key("lms-cassandra.user_enrolments.table", "user_enrolments", "enrolments")

    relation_cache_database: int = key("redis.database.relationCache.id", 10, "Redis database of the relation cache")
    dedup_database: int = key("dedup-redis.database.index", 13, "Redis database of the checksums")
    checksum_expiry: int = key("dedup-redis.database.expiry", 604_800, "seconds that a checksum lives", ge=1)
    plan_expiry: int = key(
        "dedup-redis.plan.expiry",
        86_400,
        "seconds that it is remembered what a record did, for the case that it is delivered again after a crash",
        ge=1,
    )

    dedup: bool = key("activity.input.dedup.enabled", True, "count a content once while its checksum lives")
    unit_aggregates: bool = key("activity.module.aggs.enabled", True, "keep aggregates of units too")
    skip_completed_enrolments: bool = key(
        "activity.filter.processed.enrolments", True, "leave completed enrolments alone"
    )
    collection_status_expiry: int = key(
        "activity.collection.status.cache.expiry", 3_600, "seconds that a collection's status is remembered", ge=1
    )
    search_base_path: str | None = key(
        "service.search.basePath", None, "search service, asked about a course without leaf nodes; http://host:port"
    )

    events_per_unit: int = key(
        "threshold.batch.read.size",
        1,
        "events that are merged into one unit of work; 1: each is handled as if alone, however many travel together",
        ge=1,
    )
    unit_interval: int = key(
        "threshold.batch.read.interval",
        60,
        "seconds after which a unit of work closes, when it takes more than 1",
        ge=1,
    )
    statements_per_batch: int = key("threshold.batch.write.size", 10, "statements in one CQL batch", ge=1)
    shards: int = key("task.window.shards", 1_000, "shards of the learners; a learner's events keep their order", ge=1)


def stores(settings: Settings) -> ProgressStores:
    """The stores that the settings name."""
    return ProgressStores(
        tables=cassandra(settings),
        relation_cache=redis(settings, settings.relation_cache_database),
        dedup=dedup_redis(settings, settings.dedup_database) if settings.dedup else None,
        collections=SearchService(settings.search_base_path, http(settings)),
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """A unit of work of several events waits for them with the bundle: half its time in each of the two steps."""
    return {"max_bundle_time_mills": settings.unit_interval * 500} if settings.events_per_unit > 1 else {}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: ProgressStores,
    batch_size: int = 2_000,
    clock: Callable[[], int] = epoch_millis,
    new_id: Callable[[], str] = new_uuid,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; for each output topic the (key, value) records to write."""
    selected = records | "Select consumption" >> beam.ParDo(
        SelectConsumption(NAME, settings.shards, consumption_of, "batch-enrolment-update-count")
    ).with_outputs(FAILED, main="work")

    progress = selected.work | "Update progress" >> beam.ParDo(
        UpdateProgress(
            NAME,
            stores,
            ProgressTables(
                consumption=f"{settings.keyspace}.{settings.consumption_table}",
                aggregates=f"{settings.keyspace}.{settings.aggregates_table}",
                enrolments=f"{settings.keyspace}.{settings.enrolments_table}",
            ),
            Rules(settings.unit_aggregates, settings.skip_completed_enrolments),
            size=batch_size,
            events_per_unit=settings.events_per_unit,
            statements_per_batch=settings.statements_per_batch,
            checksum_expiry=settings.checksum_expiry,
            plan_expiry=settings.plan_expiry,
            status_expiry=settings.collection_status_expiry,
            clock=clock,
            new_id=new_id,
        )
    ).with_outputs(AUDIT, CERTIFICATE, FAILED)

    failed = (selected[FAILED], progress[FAILED]) | "All failed" >> beam.Flatten()
    return {
        settings.audit_topic: progress[AUDIT] | "Audit without key" >> WithoutKey(),
        settings.certificate_topic: progress[CERTIFICATE] | "Requests without key" >> WithoutKey(),
        settings.failed_topic: failed | "Failed without key" >> WithoutKey(),
    }
