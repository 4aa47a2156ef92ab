"""Copies questions and question sets of another repository into this one, with all their data.

An event names one object. This job reads its package and what the source says of it, copies all its files into the
own cloud storage, does the same for each question of a set, and writes graph and tables directly; then the object is
put into its units of collections. The object keeps the status that it has in the source.

Reads   {env}.object.import.request
Writes  {env}.auto.creation.job.request.failed (failed events and dead letters)
Asks    the sourcing repository (packages, read API, files), the store of object definitions, the content service
Tables  questionset_hierarchy of {env}_hierarchy_store, question_data of {env}_question_store
Stores  Neo4j (nodes, no relations); cloud storage (TYPE/ID/FILE)

Whatever fails is the failure of one event, which goes to the failed topic and may be sent again: all writes are
upserts, children before their set. An older event overwrites a newer object. When only the place in a collection is
missing, the object counts as stored, and the event goes to the failed topic as well.

Of a package two JSON documents are read, nothing of it is unpacked to disk, and one with names that lead out of it,
links, too many entries or too much in them is refused. Files go over disk in parts, never through memory as a whole,
and are gone from there on every path. task.calls.at.once objects are worked on side by side, and a bundle has no more,
so a checkpoint waits as long as the slowest of them, a question set with all its questions: hence its timeout of 70
minutes. Events behind a slow bundle wait in Kafka; with task.parallelism other objects go on meanwhile.

Differs from the Scala job: an event never stops the job; a file that can not be had is a failure, no empty address; a
statement that the graph refuses is one too; children keep the values that their entry does not have; packages are
not trusted; the size of a variant is asked of the store by its key.
"""

from __future__ import annotations

from collections.abc import Callable

import apache_beam as beam

from io_connectors.content_services import ContentWritingService, JsonDocuments
from pipelines.channels import WithoutKey
from pipelines.clock import epoch_millis, wait_seconds
from pipelines.content_stores import file_store, graph, web_files, workspace
from pipelines.settings import CassandraSettings, FileStoreSettings, HttpSettings, KafkaSettings, Neo4jSettings, key
from pipelines.stores import calls, cassandra, http
from transforms.dead_letter import FAILED
from transforms.decode import Record
from transforms.import_objects import ImportObjects, ObjectRules, ObjectStores, SelectObjects
from transforms.object_imports import HierarchyRules, shortened
from transforms.object_packages import PackageLimits

NAME = "auto-creator-v2"

# This many workers could share the work.
SHARDS = 1_000
CHECKPOINT_TIMEOUT_MILLIS = 4_200_000
# Nodes are written with this label, whatever neo4j.graph says.
LABEL = "domain"

CLOUD_PROPS = ["variants", "downloadUrl", "appIcon", "posterImage", "pdfUrl"]
OVERRIDE_PROPS = ["variants", "downloadUrl", "previewUrl", "pdfUrl", "lastPublishedBy"]


class Settings(KafkaSettings, CassandraSettings, FileStoreSettings, Neo4jSettings, HttpSettings):
    """spec: auto-creator-v2 §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.object.import.request", "import events")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-auto-creator-v2-group",
        "consumer group; to take over from a running job, the group that it used",
    )
    failed_topic: str = key(
        "kafka.failed.topic", "{env}.auto.creation.job.request.failed", "failed events", min_length=1
    )

    questionset_keyspace: str = key(
        "questionset.keyspace", "{env}_hierarchy_store", "keyspace of question sets", pattern=r"^\w+$"
    )
    question_keyspace: str = key("question.keyspace", "{env}_question_store", "keyspace of questions", pattern=r"^\w+$")
    content_base_path: str | None = key(
        "service.content.basePath", None, "content service, which puts objects into collections"
    )
    source_base_url: str = key("source.baseUrl", ..., "the sourcing repository's API, https://host/api", min_length=1)
    schema_base_path: str = key("schema.basePath", ..., "where the definitions of objects are", min_length=1)
    question_version: str = key("schema.supportedVersion.question", "1.0", "version of the definition of questions")
    questionset_version: str = key("schema.supportedVersion.questionset", "1.0", "version of that of question sets")

    cloud_props: list[str] = key("object.cloud_props", CLOUD_PROPS, "properties that are addresses of files")
    override_props: list[str] = key(
        "object.override_manifest_props", OVERRIDE_PROPS, "properties of a child that its set's hierarchy decides"
    )
    expandable: list[str] = key("expandable_objects", ["QuestionSet"], "types with a hierarchy")
    non_expandable: list[str] = key("non_expandable_objects", ["Question"], "types of children")
    in_graph: list[str] = key("graph_enabled_objecttypes", ["Question"], "those of them that are stored by themselves")

    replace_paths: bool = key(
        "cloudstorage.metadata.replace_absolute_path", False, "write the own store's addresses with a prefix instead"
    )
    path_prefix: str = key("cloudstorage.relative_path_prefix", "CONTENT_STORAGE_BASE_PATH", "that prefix")
    write_bases: list[str] = key("cloudstorage.write_base_path", [], "addresses of the own store, without container")

    largest_file: int = key("object.download_max_size", 1_073_741_824, "bytes of the largest file or package", ge=1)
    largest_unpacked: int = key(
        "object.package_unpacked_max_size", 4_294_967_296, "bytes that a package may claim to unpack to", ge=1
    )
    temp_location: str = key(
        "object.temp_file_location",
        "/tmp/content",  # noqa: S108 - each process makes directories of its own in it
        "directory of files on their way",
        min_length=1,
    )
    link_delay: int = key("link_collection_delay_seconds", 5, "seconds between storing and linking", ge=0)
    calls_at_once: int = key("task.calls.at.once", 8, "objects that a worker imports side by side", ge=1, le=64)


def stores(settings: Settings) -> ObjectStores:
    """The stores and services that the settings name."""
    at_once = settings.calls_at_once
    client = http(settings, at_once)
    return ObjectStores(
        documents=JsonDocuments(client),
        web=web_files(settings, client),
        hierarchies=ContentWritingService(settings.content_base_path, "service.content.basePath", client),
        objects=file_store(settings),
        directories=workspace(settings.temp_location),
        tables=cassandra(settings),
        graph=graph(settings, LABEL, at_once),
        calls=calls(NAME, at_once),
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """A bundle is no more than what goes on side by side, and a checkpoint may wait for it."""
    return {"max_bundle_size": settings.calls_at_once, "checkpoint_timeout_millis": CHECKPOINT_TIMEOUT_MILLIS}


def rules(settings: Settings) -> ObjectRules:
    """What the settings say of the steps."""
    bases = settings.write_bases if settings.replace_paths else []
    return ObjectRules(
        hierarchy=HierarchyRules(
            cloud_props=tuple(settings.cloud_props),
            override_props=tuple(settings.override_props),
            expandable=tuple(settings.expandable),
            non_expandable=tuple(settings.non_expandable),
            in_graph=tuple(settings.in_graph),
        ),
        schema_base=settings.schema_base_path,
        schema_versions=(("question", settings.question_version), ("questionset", settings.questionset_version)),
        source_base=settings.source_base_url.rstrip("/"),
        keyspaces=(("question", settings.question_keyspace), ("questionset", settings.questionset_keyspace)),
        short=shortened(bases, settings.store_container, settings.path_prefix),
        largest_file=settings.largest_file,
        package=PackageLimits(unpacked=settings.largest_unpacked),
        link_delay=settings.link_delay,
    )


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: ObjectStores,
    batch_size: int | None = None,
    wait: Callable[[float], None] = wait_seconds,
    clock: Callable[[], int] = epoch_millis,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; for each output topic the (key, value) records to write."""
    selected = records | "Select imports" >> beam.ParDo(SelectObjects(NAME, SHARDS)).with_outputs(
        FAILED, main="imports"
    )
    size = batch_size or settings.calls_at_once
    imported = selected.imports | "Import objects" >> beam.ParDo(
        ImportObjects(NAME, stores, rules(settings), size=size, wait=wait, clock=clock)
    ).with_outputs(FAILED)
    failed = (selected[FAILED], imported[FAILED]) | "All failed" >> beam.Flatten()
    return {settings.failed_topic: failed | "Failed without key" >> WithoutKey()}
