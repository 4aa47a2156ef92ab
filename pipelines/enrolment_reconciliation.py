"""Counts a learner's progress in a course again.

A learner presses "sync progress" because the progress looks wrong. This job reads all that the learner has consumed
in that course and batch, counts what is done of the course and of its units, and updates the enrolment. When that
completes the course, it requests the certificate and tells telemetry. It counts as activity-aggregate-updater does,
by the same functions, and writes no consumption.

Reads   {env}.batch.enrolment.sync.request (events of action user-enrolment-sync)
Writes  {env}.telemetry.raw (AUDIT events), {env}.issue.certificate.request,
        {env}.enrolment.reconciliation.failed (dead letters)
Tables  user_content_consumption (read only), user_activity_agg, user_enrolments of sunbird_courses
Redis   the relation cache (database 10, made by relation-cache-updater), read only

Nothing consumed, nothing written. An enrolment that is completed, or that there is none of, is left alone; its
aggregates are written all the same. A course without leaf nodes in the relation cache is not counted: the event goes
to the failed topic, together with what was consumed.

What is written are absolute values, so an event may come again and again. One thing gets lost when a worker dies
between the write that completes an enrolment and Kafka: the certificate request, for the event that comes again finds
it completed. The batch's owner can issue the certificate.

Differs from the Scala job: optional contents are not required, a course without leaf nodes and bad ids never stop the
job, a unit without leaf nodes keeps its row, no enrolment is made that never was, and the failed event can be read.
"""

from __future__ import annotations

from collections.abc import Callable

import apache_beam as beam

from io_connectors.services import SearchService
from pipelines.channels import WithoutKey
from pipelines.clock import epoch_millis, new_uuid
from pipelines.settings import CassandraSettings, HttpSettings, KafkaSettings, RedisSettings, key
from pipelines.stores import cassandra, http, redis
from transforms.consumption import SelectConsumption
from transforms.dead_letter import FAILED
from transforms.decode import Record
from transforms.progress import Rules
from transforms.progress_rows import ProgressTables
from transforms.reconcile_progress import (
    AUDIT,
    CERTIFICATE,
    ReconcileProgress,
    ReconciliationStores,
    reconciliation_of,
)

NAME = "enrolment-reconciliation"

# This many workers could share the work.
SHARDS = 1_000
# Events that go through the stores together: what is written and not yet said is no more than that.
AT_ONCE = 250


class Settings(KafkaSettings, CassandraSettings, RedisSettings, HttpSettings):
    """spec: enrolment-reconciliation §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.batch.enrolment.sync.request", "requests to count again")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-enrolment-reconciliation-group",
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
    failed_topic: str = key(
        "kafka.output.failed.topic", "{env}.enrolment.reconciliation.failed", "dead letters", min_length=1
    )

    keyspace: str = key("lms-cassandra.keyspace", "sunbird_courses", "keyspace of the three tables")
    consumption_table: str = key(
        "lms-cassandra.consumption.table",
        "user_content_consumption",
        "what learners consumed",
        seed_names=["lms-cassandra.content_consumption.table"],
    )
    aggregates_table: str = key(
        "lms-cassandra.user_activity_agg.table", "user_activity_agg", "completed contents of courses and units"
    )
    enrolments_table: str = key("lms-cassandra.user_enrolments.table", "user_enrolments", "enrolments")

    relation_cache_database: int = key(
        "redis.database.relationCache.id", 10, "Redis database of the relation cache", ge=0
    )
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
    statements_per_batch: int = key("threshold.batch.write.size", 10, "statements in one CQL batch", ge=1)


def stores(settings: Settings) -> ReconciliationStores:
    """The stores that the settings name."""
    return ReconciliationStores(
        tables=cassandra(settings),
        relation_cache=redis(settings, settings.relation_cache_database),
        collections=SearchService(settings.search_base_path, http(settings)),
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """A bundle is one batch: no later batch that fails takes an earlier one's certificate requests with it."""
    return {"max_bundle_size": AT_ONCE}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: ReconciliationStores,
    batch_size: int = AT_ONCE,
    clock: Callable[[], int] = epoch_millis,
    new_id: Callable[[], str] = new_uuid,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; for each output topic the (key, value) records to write."""
    selected = records | "Select reconciliations" >> beam.ParDo(
        SelectConsumption(NAME, SHARDS, reconciliation_of)
    ).with_outputs(FAILED, main="work")

    reconciled = selected.work | "Reconcile progress" >> beam.ParDo(
        ReconcileProgress(
            NAME,
            stores,
            ProgressTables(
                consumption=f"{settings.keyspace}.{settings.consumption_table}",
                aggregates=f"{settings.keyspace}.{settings.aggregates_table}",
                enrolments=f"{settings.keyspace}.{settings.enrolments_table}",
            ),
            Rules(settings.unit_aggregates, settings.skip_completed_enrolments),
            size=batch_size,
            statements_per_batch=settings.statements_per_batch,
            status_expiry=settings.collection_status_expiry,
            clock=clock,
            new_id=new_id,
        )
    ).with_outputs(AUDIT, CERTIFICATE, FAILED)

    failed = (selected[FAILED], reconciled[FAILED]) | "All failed" >> beam.Flatten()
    return {
        settings.audit_topic: reconciled[AUDIT] | "Audit without key" >> WithoutKey(),
        settings.certificate_topic: reconciled[CERTIFICATE] | "Requests without key" >> WithoutKey(),
        settings.failed_topic: failed | "Failed without key" >> WithoutKey(),
    }
