"""Carries the learning record of one account over to another one of the same person.

A person has an account in the custodian's tenant and one in an organisation's; when they are merged, the former is
blocked and this job copies its record: consumption of contents, aggregates of courses, enrolments in batches. Then it
says `batch-enrolment-sync` for every enrolment that the remaining account has.

Reads   {env}.lms.user.account.merge
Writes  {env}.coursebatch.job.request (batch-enrolment-sync, which activity-aggregate-updater skips),
        {env}.learning.events.failed (failed events)
Tables  user_content_consumption, user_activity_agg, user_enrolments of sunbird_courses

Nothing of the blocked account is changed. Where both have a row, the greater status, score and count, the later time
and the sum of the views remain. Enrolments in the same batch are not merged, attempts of assessments are not carried.

An event may come again: all but the sums of views and completions stays as it is. To have them added twice as seldom
as can be, the consumption is written last; what remains is a worker that dies after it, before the next checkpoint.

Differs from the Scala job: the remaining account's aggregates are kept and merged, failed events are written, with the
event in them, no event stops the job, an account is not merged with itself, and of a row only what changes is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apache_beam as beam
from pydantic import ValidationInfo, field_validator

from io_connectors.cassandra import Cassandra
from pipelines.channels import WithoutKey
from pipelines.clock import epoch_millis, new_uuid
from pipelines.settings import CassandraSettings, KafkaSettings, key
from pipelines.stores import cassandra
from transforms.dead_letter import FAILED
from transforms.decode import Record
from transforms.java_dates import epoch_millis_of
from transforms.merge_user_courses import SYNC, MergeTables, MergeUserCourses, SelectMerges
from transforms.stores import Opens, Tables

NAME = "merge-user-courses"

# All merges go to one worker, in order: of those that share an account, as target or source, none misses another.
SHARDS = 1
# Merges that go through the stores together: what is written and not yet said is no more than that.
AT_ONCE = 50


class Settings(KafkaSettings, CassandraSettings):
    """spec: merge-user-courses §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.lms.user.account.merge", "merged accounts")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-merge-courses-group",
        "consumer group; to take over from a running job, the group that it used",
    )
    sync_topic: str = key(
        "kafka.output.course.batch.updater.topic", "{env}.coursebatch.job.request", "batch-enrolment-sync events"
    )
    failed_topic: str = key("kafka.output.failed.topic", "{env}.learning.events.failed", "failed events")

    keyspace: str = key("lms-cassandra.keyspace", "sunbird_courses", "keyspace of the three tables")
    consumption_table: str = key(
        "lms-cassandra.content_consumption.table", "user_content_consumption", "what learners consumed"
    )
    enrolments_table: str = key("lms-cassandra.user_enrolments.table", "user_enrolments", "enrolments")
    aggregates_table: str = key(
        "lms-cassandra.user_activity_agg.table", "user_activity_agg", "completed contents and scores of courses"
    )
    date_format: str = key(
        "course.date.format", "yyyy-MM-dd HH:mm:ss:SSSZ", "Java's pattern of times that are kept as text"
    )

    @field_validator("kafka_group_id", mode="before")
    @classmethod
    def _named_by_the_deployment(cls, group: Any, info: ValidationInfo) -> Any:
        """Upstream's own file leaves it empty."""
        return f"{info.data.get('job_env')}-merge-courses-group" if group == "" else group

    @field_validator("date_format")
    @classmethod
    def _must_be_understood(cls, pattern: str) -> str:
        epoch_millis_of("", pattern)
        return pattern


def stores(settings: Settings) -> Cassandra:
    """The store that the settings name."""
    return cassandra(settings)


def beam_options(settings: Settings) -> dict[str, int]:
    """A bundle is one batch: no later batch that fails has an earlier one merged again."""
    return {"max_bundle_size": AT_ONCE}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: Opens[Tables],
    batch_size: int = AT_ONCE,
    clock: Callable[[], int] = epoch_millis,
    new_id: Callable[[], str] = new_uuid,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; for each output topic the (key, value) records to write."""
    selected = records | "Select merges" >> beam.ParDo(SelectMerges(NAME, SHARDS)).with_outputs(FAILED, main="merges")

    merged = selected.merges | "Merge user courses" >> beam.ParDo(
        MergeUserCourses(
            NAME,
            stores,
            MergeTables(
                consumption=f"{settings.keyspace}.{settings.consumption_table}",
                aggregates=f"{settings.keyspace}.{settings.aggregates_table}",
                enrolments=f"{settings.keyspace}.{settings.enrolments_table}",
            ),
            size=batch_size,
            date_format=settings.date_format,
            clock=clock,
            new_id=new_id,
        )
    ).with_outputs(SYNC, FAILED)

    failed = (selected[FAILED], merged[FAILED]) | "All failed" >> beam.Flatten()
    return {
        settings.sync_topic: merged[SYNC] | "Sync without key" >> WithoutKey(),
        settings.failed_topic: failed | "Failed without key" >> WithoutKey(),
    }
