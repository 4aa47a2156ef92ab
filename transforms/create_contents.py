"""The step that brings contents in: how far is it, what is left to do, and the calls of the content service for that.

Every call leaves the content at a stage that the next look finds, so an event that is handled again, after a worker
died at any point, goes on where it was. Events of one content are handled in turn, different contents side by side.

spec: content-auto-creator §3
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.content_imports import (
    ContentImport,
    ContentStage,
    ImportRules,
    InvalidImport,
    asked_step,
    content_import,
    create_body,
    fitting_hit,
    is_being_published,
    iteration_of,
    search_request,
    stage_of,
    update_body,
)
from transforms.copied_files import IMAGE, BackOff, Sources, shown, slug_of, stored
from transforms.counters import count
from transforms.dead_letter import FAILED, dead_letter
from transforms.decode import NotAnObject, Record, parse_object
from transforms.import_failures import FAILURES, ImportFailed, called, described, succeeded
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.linked_collections import link
from transforms.overlapped import Done, owners_side_by_side
from transforms.services import (
    ContentSearch,
    Directories,
    Downloads,
    Drive,
    FileObjects,
    FileTooLarge,
    Graph,
    WritesContents,
)
from transforms.stores import Opens

__all__ = ["CreateContents", "CreationRules", "CreationStores", "SelectImports"]

_log = logging.getLogger(__name__)

CREATE, UPLOAD, REVIEW = range(3)  # places in content_imports.STEPS
ALREADY_THERE = "Object already exists with identifier"
MEGABYTE = 1024 * 1024
# How often a content that is being published is looked at again, after growing pauses, before its version is believed.
LOOKS_WHILE_PUBLISHED = 5


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectImports(beam.DoFn):
    """Takes records, gives ``(shard of the content, value)`` of valid imports; FAILED gets what can not be read.

    spec: content-auto-creator §2
    """

    def __init__(self, job: str, shards: int, rules: ImportRules) -> None:
        self._job = job
        self._shards = shards
        self._rules = rules

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes] | TaggedOutput]:
        count(self._job, "total-message-count")
        try:
            work = content_import(parse_object(record.value), self._rules)
        except NotAnObject as error:
            count(self._job, "failed-message-count")
            _log.warning("%s goes to the failed topic: %s", record.name, error)
            yield TaggedOutput(FAILED, dead_letter(self._job, str(error), record.value))
        except InvalidImport as error:
            count(self._job, "skipped-message-count")
            _log.info("%s is skipped: %s", record.name, error)
        else:
            yield shard_of(work.id, self._shards), record.value or b""


@dataclass(frozen=True)
class CreationStores:
    """The recipes; ``calls`` is where contents are worked on side by side."""

    contents: Opens[WritesContents]
    search: Opens[ContentSearch]
    graph: Opens[Graph]
    web: Opens[Downloads]
    drive: Opens[Drive]
    objects: Opens[FileObjects]
    directories: Opens[Directories]
    calls: Opens[Executor]


@dataclass(frozen=True)
class CreationRules:
    """What the settings say of the steps; sizes in bytes, ``delay`` in seconds."""

    imports: ImportRules
    search_exists: tuple[str, ...]
    search_fields: tuple[str, ...]
    allowed_sources: tuple[str, ...]
    largest_upload: int
    largest_download: int
    any_size: tuple[str, ...]
    folder: str
    artifact_folder: str
    delay: float
    back_off: BackOff


class CreateContents(KeyedBatch):
    """Takes ``(shard, event)``, all bytes; gives FAILED values. No service that is away fails the bundle (spec §6)."""

    def __init__(
        self, job: str, stores: CreationStores, rules: CreationRules, *, size: int, wait: Callable[[float], None]
    ) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._rules = rules
        self._wait = wait

    def setup(self) -> None:
        stores = self._stores
        self._calls = stores.calls.open()
        self._creation = _Creation(
            contents=stores.contents.open(),
            search=stores.search.open(),
            graph=stores.graph.open(),
            sources=Sources(stores.web.open(), stores.drive.open(), self._rules.back_off, self._wait),
            objects=stores.objects.open(),
            directories=stores.directories.open(),
            rules=self._rules,
            wait=self._wait,
        )
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        by_content: dict[str, list[bytes]] = defaultdict(list)
        for payload in payloads:
            by_content[content_import(parse_object(payload), self._rules.imports).id].append(payload)

        def handle_content(_: str, events: list[bytes]) -> list[Done]:
            return [self._handle_one(event) for event in events]

        return owners_side_by_side(self._job, self._calls, by_content, handle_content, self.refuse)

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        done = self._failed(payload, error)
        for name, times in done.counts.items():
            count(self._job, name, times)
        return done.outputs

    def _handle_one(self, payload: bytes) -> Done:
        work = content_import(parse_object(payload), self._rules.imports)
        try:
            self._creation.bring_in(work)
        except Exception as error:
            _log.warning("The import of %s failed and goes to the failed topic", work.id)
            _log.debug("", exc_info=error)
            return self._failed(payload, error)
        done = Done()
        done.counts["success-message-count"] += 1
        return done

    def _failed(self, payload: bytes, error: Exception) -> Done:
        """The event with its next iteration. spec: content-auto-creator §6"""
        event = parse_object(payload)
        # a number, or the event would have been skipped
        iteration = iteration_of(event) or 0
        letter = {**event, "edata": {**event["edata"], "iteration": iteration + 1}}
        done = Done([TaggedOutput(FAILED, dead_letter(self._job, described(error), payload, letter))])
        is_last = iteration >= self._rules.imports.most_iterations
        done.counts["failed-message-count" if is_last else "error-message-count"] += 1
        return done


@dataclass(frozen=True)
class _Creation:
    """The steps of one content. Every method raises ImportFailed."""

    contents: WritesContents
    search: ContentSearch
    graph: Graph
    sources: Sources
    objects: FileObjects
    directories: Directories
    rules: CreationRules
    wait: Callable[[float], None] = field(repr=False)

    def bring_in(self, work: ContentImport) -> None:
        """All that is left to do for an event. spec: content-auto-creator §3.2-§3.5"""
        stage, content_id = self._whereabouts(work)
        before = None
        if stage is ContentStage.CREATE:
            content_id, before = self._create(work)
            stage = stage_after_create(before, work)
        try:
            self._go_on(work, stage, content_id, before)
        except Exception as error:
            self._mark_failed(work, content_id, error)
            raise
        if work.places and (stage is ContentStage.NOTHING or asked_step(work) > CREATE):
            link(self.contents, work.places, content_id)

    def _go_on(
        self, work: ContentImport, stage: ContentStage, content_id: str, before: Mapping[str, Any] | None
    ) -> None:
        """From the stage on, up to the step that is asked for and never beyond. spec §3.3, §8.4"""
        asked = asked_step(work)
        if stage is ContentStage.UPDATE:
            self._update(work, content_id, before)
            if asked == CREATE:
                return
            self._upload(work, content_id)
            self.wait(self._upload_delay(work))
        if stage is ContentStage.NOTHING or asked <= UPLOAD:
            return
        failure = f"Invalid Response received while sending content for review for :{content_id}"
        succeeded(lambda: self.contents.review(work.channel, content_id), failure)
        self.wait(self.rules.delay)
        if asked > REVIEW:
            self._publish(work, content_id)

    # --- where it stands

    def _whereabouts(self, work: ContentImport) -> tuple[ContentStage, str]:
        """How far the content is, and the id that it has here. spec §3.2"""
        if work.origin_id and self._is_in_graph(work):
            return ContentStage.NOTHING, work.origin_id
        hit = self._found(work)
        for look in range(LOOKS_WHILE_PUBLISHED):
            if hit is None or not is_being_published(hit) or stage_of(hit, work) is ContentStage.NOTHING:
                break
            # the event may be the one that is being published, delivered again
            self.wait(self._upload_delay(work) * 2**look)
            hit = self._found(work)
        return (ContentStage.CREATE, "") if hit is None else (stage_of(hit, work), hit["identifier"])

    def _is_in_graph(self, work: ContentImport) -> bool:
        return bool(called(lambda: self.graph.get_node(work.id), f"Unable to read the graph for : {work.id}"))

    def _found(self, work: ContentImport) -> dict[str, Any] | None:
        request = search_request(work.id, self.rules.search_exists, self.rules.search_fields)
        failure = f"Invalid Response received while searching content for : {work.id}"
        return fitting_hit(succeeded(lambda: self.search.search(request), failure), work.id)

    # --- the steps

    def _create(self, work: ContentImport) -> tuple[str, dict[str, Any] | None]:
        """The id of the new content; for one that is there, which the search did not know, what it is. spec §3.4"""
        failure = f"Invalid Response received while creating content for :{work.id}"
        body = create_body(work, self.rules.imports)
        reply = called(lambda: self.contents.create(work.channel, body), failure)
        if reply.status != 200 and ALREADY_THERE in reply.text:
            return work.id, self._read(work, work.id)
        content_id = succeeded(lambda: reply, failure).get("identifier")
        if not isinstance(content_id, str) or not content_id.strip():
            raise ImportFailed(f"{failure} | no identifier")
        return content_id, None

    def _read(self, work: ContentImport, content_id: str) -> dict[str, Any]:
        failure = f"Invalid Response received while reading content for : {content_id}"
        content = succeeded(lambda: self.contents.read(work.channel, content_id), failure).get("content")
        identifier = content.get("identifier") if isinstance(content, dict) else None
        if not isinstance(content, dict) or not isinstance(identifier, str):
            raise ImportFailed(f"{failure} | no content")
        if identifier.replace(".img", "").lower() != content_id.lower():
            raise ImportFailed(f"{failure} | another content")
        return content

    def _update(self, work: ContentImport, content_id: str, before: Mapping[str, Any] | None) -> None:
        content = before or self._read(work, content_id)
        version_key = content.get("versionKey")
        if version_key is None:
            raise ImportFailed(f"Invalid Response received while reading content for : {content_id} | no versionKey")
        body = update_body(work, self.rules.imports, version_key, self._icon(work, content_id))
        failure = f"Invalid Response received while updating content for :{content_id}"
        succeeded(lambda: self.contents.update(work.channel, content_id, body), failure)

    def _icon(self, work: ContentImport, content_id: str) -> str | None:
        """The icon's own address, None for a content without one. spec §3.4, §8.8, §8.10"""
        url = work.metadata.get("appIcon")
        if not isinstance(url, str) or not url.strip() or "appIcon" in self.rules.imports.removed:
            return None
        url = url.strip()
        with self.directories.directory(content_id) as directory:
            try:
                file = self.sources.fetch(url, IMAGE, directory, self.rules.largest_download)
            except FileTooLarge as error:
                raise ImportFailed(f"Invalid fileUrl received : {shown(url)} | {error}") from error
            name = file.name
            if name == self._artifact_name(work):
                name = f"icon-{name}"
            return stored(self.objects, self._key(content_id, name), file)

    def _artifact_name(self, work: ContentImport) -> str | None:
        """What the artifact will be called, when it will be stored at all."""
        if not work.artifact_url or asked_step(work) == CREATE:
            return None
        try:
            return self.sources.name(work.artifact_url, work.mime_type)
        except ImportFailed:
            # the upload says so
            return None

    def _upload(self, work: ContentImport, content_id: str) -> None:
        """spec §3.4"""
        url, allowed = work.artifact_url, self.rules.allowed_sources
        if allowed and not any(part in url for part in allowed):
            raise ImportFailed(
                f"Artifact Source is not from allowed one for : {content_id} | artifactUrl: {shown(url)} "
                f"| Allowed Sources : {', '.join(allowed)}"
            )
        if not url:
            raise ImportFailed(f"Artifact Source is not available for content : {content_id}")
        own_url = self._stored_artifact(work, content_id)
        extension = own_url.rpartition("/")[2].rpartition(".")[2].lower()
        file_format = "composed-h5p-zip" if work.is_h5p and extension != "h5p" else None
        failure = f"Invalid Response received while uploading source file for content :{content_id}"
        succeeded(lambda: self.contents.upload(work.channel, content_id, own_url, file_format), failure)

    def _stored_artifact(self, work: ContentImport, content_id: str) -> str:
        may_be_large = work.mime_type in self.rules.any_size
        limit = self.rules.largest_download if may_be_large else self.rules.largest_upload
        with self.directories.directory(content_id) as directory:
            try:
                file = self.sources.fetch(work.artifact_url, work.mime_type, directory, limit)
            except FileTooLarge as error:
                raise ImportFailed(
                    f"File Size is larger than allowed file size allowed in upload api for : {content_id} "
                    f"| File Size (MB): more than {limit / MEGABYTE:g} | mimeType : {work.mime_type}"
                ) from error
            return stored(self.objects, self._key(content_id, file.name), file)

    def _publish(self, work: ContentImport, content_id: str) -> None:
        failure = f"Invalid Response received while publishing content for :{content_id}"
        published_by = work.metadata.get("lastPublishedBy")
        result = succeeded(lambda: self.contents.publish(work.channel, content_id, published_by), failure)
        status = result.get("publishStatus")
        if not isinstance(status, str) or not status:
            raise ImportFailed(f"Content Publish Call Failed For : {content_id}")

    def _mark_failed(self, work: ContentImport, content_id: str, error: Exception) -> None:
        """Best effort. spec §3.4, §8.13"""
        message = str(error) if isinstance(error, ImportFailed) else ""
        failed = {"status": "Failed", "importError": message or "Processing Error"}
        try:
            succeeded(lambda: self.contents.system_update(work.channel, content_id, failed), "Not marked as failed")
        except (ImportFailed, *FAILURES) as failure:
            _log.warning("%s: %s", content_id, failure)

    def _key(self, content_id: str, name: str) -> str:
        return f"{self.rules.folder}/{slug_of(content_id, content_id)}/{self.rules.artifact_folder}/{name}"

    def _upload_delay(self, work: ContentImport) -> float:
        return self.rules.delay * (6 if work.is_h5p else 1)


def stage_after_create(there: Mapping[str, Any] | None, work: ContentImport) -> ContentStage:
    """What follows the create call: nothing for a content that it found there, complete (spec §3.4, §8.4)."""
    if there is not None and stage_of(there, work) is ContentStage.NOTHING:
        return ContentStage.NOTHING
    return ContentStage.UPDATE
