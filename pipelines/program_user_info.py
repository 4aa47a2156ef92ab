"""Keeps a row for every user who joined a program, with the profile that the user had then.

When a user joins a program, the ML service sends the document of it. This job stores program, locations, organisation
and types of the user; the report of a program reads the rows.

Reads   {env}.programuser.info (documents as they are, no job requests)
Writes  no topic
Tables  program_enrollment of sunbird_programs

What a document does not have stays as it is in the row; locations are replaced as a whole. An event that comes again
writes the same again. A record that is no JSON object is logged, counted in failed-events-count and stops nothing.

Differs from the Scala job: values are stored as they are and not as Some(value) or None, which is what the report
filters by; a date that is missing or written in another way leaves its column out and never stops the job.
"""

from __future__ import annotations

import apache_beam as beam

from io_connectors.cassandra import Cassandra
from pipelines.settings import KafkaSettings, MlCassandraSettings, key
from pipelines.stores import ml_cassandra
from transforms.decode import Record
from transforms.store_program_users import SelectProgramUsers, StoreProgramUsers
from transforms.stores import Opens, Tables

NAME = "program-user-info"

# Events of one user in one program are handled in turn; this many workers could share the work.
SHARDS = 1_000


class Settings(KafkaSettings, MlCassandraSettings):
    """spec: program-user-info §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.programuser.info", "users who joined a program")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-programuser-group",
        "consumer group; to take over from a running job, the group that it used",
    )

    keyspace: str = key("ml-cassandra.keyspace", "sunbird_programs", "keyspace of the table")
    table: str = key("ml-cassandra.table", "program_enrollment", "users in programs")


def stores(settings: Settings) -> Cassandra:
    """The store that the settings name."""
    return ml_cassandra(settings)


def beam_options(settings: Settings) -> dict[str, int]:
    """Nothing beyond the defaults."""
    return {}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: Opens[Tables],
    batch_size: int = 500,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; no topic out."""
    rows = records | "Select program users" >> beam.ParDo(SelectProgramUsers(NAME, SHARDS))

    _ = rows | "Store program users" >> beam.ParDo(
        StoreProgramUsers(NAME, stores, f"{settings.keyspace}.{settings.table}", size=batch_size)
    )
    return {}
