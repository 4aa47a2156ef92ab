"""Brings contents of another repository, or of a bulk upload, into this one.

An event names one content: its metadata, its file, and how far to go. This job finds out how far the content is here,
then creates, updates, uploads, reviews and publishes it through the content service, with its files copied into the
own cloud storage, and puts it into its units of collections.

Reads   {env}.auto.creation.job.request
Writes  {env}.auto.creation.job.request.failed (failed events with their next iteration, and dead letters)
Asks    search service, content service, Google Drive, the servers that the files are on
Stores  cloud storage (content/ID/artifact/FILE); Neo4j, one node read for contents that came from here

Whatever fails is the failure of one event: the content is marked as Failed, except when only its place in a collection
is missing, and the event goes to the failed topic. Sent again it goes on where it was, within maxIteration. The same
holds for an event that is delivered again: it makes no second content, goes no further than it asks, and repeats at
most the step that was cut short. While a content that is here is being published, it is looked at again some times,
since the event may be the one that did it.

Files go over disk in parts, never through memory as a whole, and are gone from there on every path; what a killed
worker left is removed by the next one. task.calls.at.once contents are worked on side by side, and a bundle has no
more, so a checkpoint waits as long as the slowest one of them: its downloads (three tries of media_download_duration
each), its waits for Drive (backoff_limit at most) and its calls. Hence the checkpoint timeout of 70 minutes. Events
behind a slow bundle wait in Kafka; with task.parallelism other contents go on meanwhile.

Differs from the Scala job: an event never stops the job; every failure reaches the failed topic; a repeated event goes
no further than asked; a file that was never uploaded is uploaded, not published by its source's address; Drive's limits
are waited for; a content without icon keeps its icon; temporary files are removed.
"""

from __future__ import annotations

from collections.abc import Callable

import apache_beam as beam
from pydantic import SecretStr, field_validator

from io_connectors.content_services import ContentSearchService, ContentWritingService
from pipelines.channels import WithoutKey
from pipelines.clock import wait_seconds
from pipelines.content_stores import (
    file_store,
    google_drive,
    graph,
    web_files,
    workspace,
)
from pipelines.settings import FileStoreSettings, HttpSettings, KafkaSettings, Neo4jSettings, key
from pipelines.stores import calls, http
from transforms.content_imports import ImportRules
from transforms.copied_files import BackOff
from transforms.create_contents import CreateContents, CreationRules, CreationStores, SelectImports
from transforms.dead_letter import FAILED
from transforms.decode import Record

NAME = "content-auto-creator"

# This many workers could share the work.
SHARDS = 1_000
CHECKPOINT_TIMEOUT_MILLIS = 4_200_000

REMOVED = """
identifier, downloadUrl, variants, createdOn, collections, children, lastUpdatedOn, SYS_INTERNAL_LAST_UPDATED_ON,
versionKey, s3Key, status, pkgVersion, toc_url, mimeTypesCount, contentTypesCount, leafNodesCount, childNodes,
prevState, lastPublishedOn, flagReasons, compatibilityLevel, size, publishChecklist, publishComment, lastPublishedBy,
rejectReasons, rejectComment, badgeAssertions, leafNodes, sYS_INTERNAL_LAST_UPDATED_ON, previewUrl, channel,
objectType, visibility, version, pragma, prevStatus, streamingUrl, idealScreenSize, contentDisposition,
lastStatusChangedOn, idealScreenDensity, lastSubmittedOn, publishError, flaggedBy, flags, lastFlaggedOn, publisher,
lastUpdatedBy, lastSubmittedBy, uploadError, lockKey, publish_type, reviewError, totalCompressedSize, origin,
originData, importError, questions, posterImage
"""


def names(text: str) -> list[str]:
    """The names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


MANDATORY = names("name, code, mimeType, primaryCategory, artifactUrl, lastPublishedBy")
OF_CREATE = names("name, code, mimeType, contentType, framework, processId, primaryCategory")
SEARCH_FIELDS = names("identifier, mimeType, pkgVersion, channel, status, origin, originData, artifactUrl")


class Settings(KafkaSettings, FileStoreSettings, Neo4jSettings, HttpSettings):
    """spec: content-auto-creator §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.auto.creation.job.request", "import events")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-content-auto-creator-group",
        "consumer group; to take over from a running job, the group that it used",
    )
    failed_topic: str = key(
        "kafka.failed.topic", "{env}.auto.creation.job.request.failed", "failed events", min_length=1
    )

    content_base_path: str = key(
        "service.content_service.basePath", ..., "content service, without /content/v4", min_length=1
    )
    search_base_path: str = key("service.search.basePath", ..., "search service, without /v3", min_length=1)

    object_types: list[str] = key("content_auto_creator.allowed_object_types", ["Content"], "types of objects")
    stages: list[str] = key(
        "content_auto_creator.allowed_content_stages", names("create, upload, review, publish"), "stages to ask for"
    )
    mandatory: list[str] = key("content_auto_creator.content_mandatory_fields", MANDATORY, "what metadata must have")
    removed: list[str] = key(
        "content_auto_creator.content_props_to_removed", names(REMOVED), "metadata that is not taken over"
    )
    of_create: list[str] = key("content_auto_creator.content_create_props", OF_CREATE, "metadata of the create call")
    any_size: list[str] = key(
        "content_auto_creator.bulk_upload_mime_types", ["video/mp4"], "types without artifact_upload_max_size"
    )
    largest_upload: int = key(
        "content_auto_creator.artifact_upload_max_size", 52_428_800, "bytes of the largest file of other types", ge=1
    )
    largest_download: int = key(
        "content_auto_creator.download_max_size", 5_368_709_120, "bytes of the largest file of any type", ge=1
    )
    allowed_sources: list[str] = key(
        "content_auto_creator.artifact_upload_allowed_source",
        [],
        "texts of which a file's address must have one; also with commas between; none: any address",
    )
    temp_location: str = key(
        "content_auto_creator.temp_file_location",
        "/tmp/content",  # noqa: S108 - each process makes directories of its own in it
        "directory of files on their way",
        min_length=1,
    )
    delay: int = key("content_auto_creator.api_call_delay", 1, "seconds after an upload (times 6: H5P), a review", ge=0)
    most_iterations: int = key("content_auto_creator.maxIteration", 1, "most attempts of an event", ge=1)
    drive_credentials: SecretStr | None = key(
        "content_auto_creator.g_service_acct_cred", None, "JSON of Drive's service account; not set: anonymous"
    )
    drive_application: str = key(
        "content_auto_creator.gdrive.application_name", "drive-download", "what Drive is asked as"
    )
    drive_base_url: str = key(
        "content_auto_creator.gdrive.base_url", "https://www.googleapis.com", "Drive's address", min_length=1
    )
    first_back_off: int = key("content_auto_creator.initial_backoff_delay", 120_000, "first wait for Drive, ms", ge=0)
    longest_back_off: int = key(
        "content_auto_creator.maximum_backoff_delay", 1_200_000, "longest wait for Drive, ms", ge=0
    )
    back_off_factor: float = key("content_auto_creator.increment_backoff_delay", 2, "each wait times this", ge=1)
    back_off_limit: int = key(
        "content_auto_creator.backoff_limit", 600_000, "all waits for Drive of one call together, ms", ge=0
    )
    search_exists: list[str] = key("search_exists_fields", ["originData"], "what a content that was found has")
    search_fields: list[str] = key("search_fields", SEARCH_FIELDS, "what the search service tells")
    folder: str = key("cloud_storage.folder.content", "content", "first part of a file's key", min_length=1)
    artifact_folder: str = key("cloud_storage.folder.artifact", "artifact", "its third part", min_length=1)

    calls_at_once: int = key("task.calls.at.once", 8, "contents that a worker brings in side by side", ge=1, le=64)

    @field_validator("allowed_sources", mode="before")
    @classmethod
    def _with_commas(cls, value: object) -> object:
        return names(value) if isinstance(value, str) else value


def stores(settings: Settings) -> CreationStores:
    """The stores and services that the settings name."""
    at_once = settings.calls_at_once
    client = http(settings, at_once)
    return CreationStores(
        contents=ContentWritingService(settings.content_base_path, "service.content_service.basePath", client),
        search=ContentSearchService(settings.search_base_path, client),
        graph=graph(settings, settings.neo4j_graph, at_once),
        web=web_files(settings, client),
        drive=google_drive(
            settings, settings.drive_base_url, settings.drive_application, settings.drive_credentials, client
        ),
        objects=file_store(settings),
        directories=workspace(settings.temp_location),
        calls=calls(NAME, at_once),
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """A bundle is no more than what goes on side by side, and a checkpoint may wait for it."""
    return {"max_bundle_size": settings.calls_at_once, "checkpoint_timeout_millis": CHECKPOINT_TIMEOUT_MILLIS}


def rules(settings: Settings) -> CreationRules:
    """What the settings say of the steps."""
    return CreationRules(
        imports=ImportRules(
            object_types=settings.object_types,
            stages=settings.stages,
            mandatory=settings.mandatory,
            most_iterations=settings.most_iterations,
            removed=frozenset(settings.removed),
            of_create=frozenset(settings.of_create),
        ),
        search_exists=tuple(settings.search_exists),
        search_fields=tuple(settings.search_fields),
        allowed_sources=tuple(settings.allowed_sources),
        largest_upload=min(settings.largest_upload, settings.largest_download),
        largest_download=settings.largest_download,
        any_size=tuple(settings.any_size),
        folder=settings.folder,
        artifact_folder=settings.artifact_folder,
        delay=settings.delay,
        back_off=BackOff(
            first=settings.first_back_off / 1000,
            factor=settings.back_off_factor,
            longest=settings.longest_back_off / 1000,
            altogether=settings.back_off_limit / 1000,
        ),
    )


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: CreationStores,
    batch_size: int | None = None,
    wait: Callable[[float], None] = wait_seconds,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; for each output topic the (key, value) records to write."""
    steps = rules(settings)
    selected = records | "Select imports" >> beam.ParDo(SelectImports(NAME, SHARDS, steps.imports)).with_outputs(
        FAILED, main="imports"
    )
    created = selected.imports | "Create contents" >> beam.ParDo(
        CreateContents(NAME, stores, steps, size=batch_size or settings.calls_at_once, wait=wait)
    ).with_outputs(FAILED)
    failed = (selected[FAILED], created[FAILED]) | "All failed" >> beam.Flatten()
    return {settings.failed_topic: failed | "Failed without key" >> WithoutKey()}
