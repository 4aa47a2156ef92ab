"""Makes one user creator and mentor of another's course batches.

An organisation's admin hands over what a user owned, mostly after the user was deleted. Wherever the old user is
creator or mentor of a batch that is not over, the new one takes its place, in the table and in the search index. Other
assets are moved by other jobs that read the same topic.

Reads   {env}.user.ownership.transfer
Writes  nothing to Kafka
Tables  course_batch of sunbird_courses; user of sunbird, where a deleted user's organisation is looked up
Index   course-batch, of the LMS' Elasticsearch
Asks    the userorg service, whether both users are of the organisation; the LMS, for the batches

Every event moves all batches, also one that names another asset; the next one then finds none. Batches that are over
stay. The row of a batch decides who created and mentors it, what the search says only finds it. An event may come
again at any time: rows change before the documents by which they are found, and what is done is not done again.
Transfers that share a user are handled in turn, on one worker. What each event found and changed is logged and counted
(batch-row-found-count, batch-row-changed-count, batch-document-found-count, batch-document-changed-count). With
dry_run it is only found.

es.basePath must be the Elasticsearch of the LMS: where there is no index course-batch the job fails.

Differs from the Scala job: batches of deleted users move (ownership.transfer.accept.deleted.from.user: false has them
stay, as there); who is both creator and mentor is replaced as both; all pages of the search are read; no mentor is
there twice; no row or document is made; a service that is away loses no transfer; no event stops the job.
"""

from __future__ import annotations

import apache_beam as beam

from io_connectors.services import AccountService, BatchService
from pipelines.settings import CassandraSettings, DryRunSettings, HttpSettings, KafkaSettings, key
from pipelines.stores import calls, cassandra, elasticsearch, http
from transforms.decode import Record
from transforms.transfer_ownership import SelectTransfers, TransferOwnership, TransferStores

NAME = "user-ownership-transfer"

# Transfers that are handled together.
AT_ONCE = 50


class Settings(KafkaSettings, CassandraSettings, HttpSettings, DryRunSettings):
    """spec: user-ownership-transfer §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.user.ownership.transfer", "transfers")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-user-ownership-transfer-group",
        "consumer group; to take over from a running job, the group that it used",
    )

    keyspace: str = key("lms-cassandra.keyspace", "sunbird_courses", "keyspace of the batches")
    batches_table: str = key("lms-cassandra.course_batch.table", "course_batch", "batches")
    statements_per_batch: int = key("threshold.batch.write.size", 10, "statements that are counted as one update", ge=1)
    lms_base_path: str = key("service.lms.basePath", ..., "the LMS; http://host:port", min_length=1)
    batch_search_api: str = key("batch_search_api", "/v1/course/batch/search", "path of its batch search", min_length=1)
    userorg_base_path: str = key("service.userorg.basePath", ..., "userorg service; http://host:port", min_length=1)
    user_read_api: str = key("user_read_api", "/private/user/v1/read/", "path of its user read", min_length=1)
    elasticsearch_hosts: str = key("es.basePath", "localhost:9200", "Elasticsearch of the LMS: host:port[,host:port…]")
    accepts_deleted: bool = key(
        "ownership.transfer.accept.deleted.from.user", True, "move the batches of deleted users, too"
    )
    user_keyspace: str = key("user.keyspace", "sunbird", "keyspace of the users")
    user_table: str = key("user.table", "user", "users; read for the organisation of a deleted one")

    calls_at_once: int = key("task.calls.at.once", 16, "transfers that are waited for side by side", ge=1, le=512)


def stores(settings: Settings) -> TransferStores:
    """The stores and services that the settings name."""
    client = http(settings, settings.calls_at_once)
    return TransferStores(
        tables=cassandra(settings),
        batches=f"{settings.keyspace}.{settings.batches_table}",
        users=f"{settings.user_keyspace}.{settings.user_table}",
        accounts=AccountService(settings.userorg_base_path, settings.user_read_api, client),
        search=BatchService(settings.lms_base_path, settings.batch_search_api, client),
        documents=elasticsearch(settings.elasticsearch_hosts),
        calls=calls(NAME, settings.calls_at_once),
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """Nothing beyond the defaults."""
    return {}


def build(
    records: beam.PCollection[Record], settings: Settings, stores: TransferStores, batch_size: int = AT_ONCE
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; nothing is written to any topic."""
    _ = (
        records
        | "Select transfers" >> beam.ParDo(SelectTransfers(NAME))
        | "Transfer ownership"
        >> beam.ParDo(
            TransferOwnership(
                NAME,
                stores,
                size=batch_size,
                statements_per_batch=settings.statements_per_batch,
                accepts_deleted=settings.accepts_deleted,
                dry_run=settings.dry_run,
            )
        )
    )
    return {}
