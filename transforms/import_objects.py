"""The step that imports questions and question sets: read, copy the files, store, and put into collections.

All writes are upserts, so an event that is handled again ends the same. Events of one object are handled in turn,
different objects side by side. spec: auto-creator-v2 §3
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.content_imports import InvalidImport
from transforms.copied_files import last_part, shown, stored
from transforms.counters import count
from transforms.dead_letter import FAILED, dead_letter
from transforms.decode import NotAnObject, Record, id_at, parse_object
from transforms.import_failures import ImportFailed, called, described
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.linked_collections import link
from transforms.object_definitions import Definition, Definitions
from transforms.object_imports import (
    VARIANTS,
    HierarchyRules,
    ObjectImport,
    children,
    external_columns,
    graph_properties,
    merged,
    object_import,
    overlaid_by_entry,
    read_fields,
    split,
    system_metadata,
    variant_urls,
    with_stored_values,
)
from transforms.object_packages import PackageLimits, documents
from transforms.overlapped import Done, owners_side_by_side
from transforms.services import Directories, Downloads, FileObjects, Graph, Hierarchies, JsonReads
from transforms.stores import Opens, Tables, Update

__all__ = ["ImportObjects", "ObjectRules", "ObjectStores", "SelectObjects"]

_log = logging.getLogger(__name__)


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectObjects(beam.DoFn):
    """Takes records, gives ``(shard of the object, value)`` of valid imports; FAILED gets what can not be read.

    spec: auto-creator-v2 §2
    """

    def __init__(self, job: str, shards: int) -> None:
        self._job = job
        self._shards = shards

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes] | TaggedOutput]:
        count(self._job, "total-events-count")
        try:
            work = object_import(parse_object(record.value))
        except NotAnObject as error:
            count(self._job, "failed-events-count")
            _log.warning("%s goes to the failed topic: %s", record.name, error)
            yield TaggedOutput(FAILED, dead_letter(self._job, str(error), record.value))
        except InvalidImport as error:
            count(self._job, "skipped-events-count")
            _log.info("%s is skipped: %s", record.name, error)
        else:
            yield shard_of(work.id, self._shards), record.value or b""


@dataclass(frozen=True)
class ObjectStores:
    """The recipes; ``calls`` is where objects are worked on side by side."""

    documents: Opens[JsonReads]
    web: Opens[Downloads]
    hierarchies: Opens[Hierarchies]
    objects: Opens[FileObjects]
    directories: Opens[Directories]
    tables: Opens[Tables]
    graph: Opens[Graph]
    calls: Opens[Executor]


@dataclass(frozen=True)
class ObjectRules:
    """What the settings say of the steps. ``keyspaces``: of each type in lower case; sizes in bytes, times in seconds.

    ``write_bases`` are the addresses of the own store that are written as ``path_prefix``.
    """

    hierarchy: HierarchyRules
    schema_base: str
    schema_versions: tuple[tuple[str, str], ...]
    source_base: str
    keyspaces: tuple[tuple[str, str], ...]
    short: Callable[[str], str]
    largest_file: int
    package: PackageLimits
    link_delay: float


class ImportObjects(KeyedBatch):
    """Takes ``(shard, event)``, all bytes; gives FAILED values. No store that is away fails the bundle (spec §6)."""

    def __init__(
        self,
        job: str,
        stores: ObjectStores,
        rules: ObjectRules,
        *,
        size: int,
        wait: Callable[[float], None],
        clock: Callable[[], int],
    ) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._rules = rules
        self._wait = wait
        self._clock = clock

    def setup(self) -> None:
        stores, rules = self._stores, self._rules
        reader = stores.documents.open()
        self._calls = stores.calls.open()
        self._hierarchies = stores.hierarchies.open()
        self._importing = _Importing(
            documents=reader,
            definitions=Definitions(reader, rules.schema_base, dict(rules.schema_versions), self._clock),
            web=stores.web.open(),
            objects=stores.objects.open(),
            directories=stores.directories.open(),
            tables=stores.tables.open(),
            graph=stores.graph.open(),
            rules=rules,
        )
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        by_object: dict[str, list[bytes]] = defaultdict(list)
        for payload in payloads:
            by_object[object_import(parse_object(payload)).id].append(payload)

        def handle_object(_: str, events: list[bytes]) -> list[Done]:
            return [self._handle_one(event) for event in events]

        return owners_side_by_side(self._job, self._calls, by_object, handle_object, self.refuse)

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        done = Done()
        self._fail(payload, error, done)
        count(self._job, "failed-events-count")
        return done.outputs

    def _handle_one(self, payload: bytes) -> Done:
        work, done = object_import(parse_object(payload)), Done()
        try:
            self._importing.bring_in(work)
            done.counts["success-events-count"] += 1
            if work.places:
                # the collection service reads what has just been written
                self._wait(self._rules.link_delay)
                link(self._hierarchies, work.places, work.id)
        except Exception as error:
            _log.warning("The import of %s failed and goes to the failed topic", work.id)
            _log.debug("", exc_info=error)
            self._fail(payload, error, done)
        return done

    def _fail(self, payload: bytes, error: Exception, done: Done) -> None:
        """spec: auto-creator-v2 §6"""
        letter = dead_letter(self._job, described(error), payload, parse_object(payload))
        done.outputs.append(TaggedOutput(FAILED, letter))
        done.counts["failed-events-count"] += 1


class _Object(NamedTuple):
    """One object on its way."""

    id: str
    type: str
    of_type: Definition
    metadata: dict[str, Any]
    external: dict[str, Any]

    def cloud_values(self, names: tuple[str, ...]) -> dict[str, Any]:
        """What a hierarchy repeats of it."""
        return {name: self.metadata[name] for name in names if name in self.metadata}


@dataclass(frozen=True)
class _Importing:
    """The steps of one object. Every method raises ImportFailed."""

    documents: JsonReads
    definitions: Definitions
    web: Downloads
    objects: FileObjects
    directories: Directories
    tables: Tables
    graph: Graph
    rules: ObjectRules

    def bring_in(self, work: ObjectImport) -> None:
        """The object of an event, its children first. spec: auto-creator-v2 §3.2-§3.7"""
        rules = self.rules.hierarchy
        system = system_metadata(work.id, work.object_type, work.process_id)
        found, hierarchy = self._read(work.id, work.object_type, work.download_url, work.repository, {}, system)
        if hierarchy:
            stored_values = {
                child_id: self._bring_in_child(child_id, entry)
                for child_id, entry in children(hierarchy, rules)
                if _is_accepted(child_id, found.metadata)
            }
            hierarchy = {**hierarchy, **found.cloud_values(rules.cloud_props)}
            found.external["hierarchy"] = with_stored_values(hierarchy, stored_values, rules)
        self._store(found)

    def _bring_in_child(self, child_id: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Store a child; what the hierarchy says of it from then on. spec §3.5, §3.6"""
        object_type = entry["objectType"]
        kind = object_type.lower()
        download_url = id_at(entry, "downloadUrl")
        if download_url is None:
            raise ImportFailed(f"The child {child_id} has no downloadUrl")
        fields = read_fields(self.definitions.of(object_type))
        read_url = f"{self.rules.source_base}/{kind}/v1/read/{quote(child_id, safe='')}?fields={fields}"
        overlay = overlaid_by_entry(entry, self.rules.hierarchy)
        system = system_metadata(child_id, object_type, id_at(entry, "processId"))
        found, _ = self._read(child_id, object_type, download_url, read_url, overlay, system)
        self._store(found)
        return {**found.cloud_values(self.rules.hierarchy.cloud_props), "objectType": object_type}

    def _read(
        self,
        object_id: str,
        object_type: str,
        download_url: str,
        read_url: str,
        overlay: Mapping[str, Any],
        system: Mapping[str, Any],
    ) -> tuple[_Object, dict[str, Any]]:
        """The object with its files in the own store, and its hierarchy. spec §3.1-§3.4"""
        of_type = self.definitions.of(object_type)
        kind = object_type.lower()
        has_hierarchy = object_type in self.rules.hierarchy.expandable
        names = ("manifest.json", "hierarchy.json") if has_hierarchy else ("manifest.json",)
        with self.directories.directory(object_id) as directory:
            package = directory / "package"
            _downloaded(lambda: self.web.fetch(download_url, package, self.rules.largest_file), download_url)
            contents = documents(package, names, self.rules.package)
        read = called(lambda: self.documents.read(read_url), f"The source of {object_id} can not be read")
        result = read.get("result")
        result = result.get(kind) if isinstance(result, dict) else None
        everything = merged(contents["manifest.json"], result if isinstance(result, dict) else {}, object_id, read_url)
        metadata, external = split(everything, of_type)
        found = _Object(object_id, object_type, of_type, {**metadata, **overlay, **system}, external)
        self._copy_files(found)
        hierarchy = contents.get("hierarchy.json", {}).get(kind)
        return found, hierarchy if isinstance(hierarchy, dict) else {}

    def _copy_files(self, found: _Object) -> None:
        """Every file into the own store, once; the metadata get the new addresses. spec §3.4"""
        copied: dict[str, tuple[str, str]] = {}

        def own(url: str) -> tuple[str, str]:
            """The new address, and the key."""
            if url not in copied:
                copied[url] = self._copied(found, url)
            return copied[url]

        metadata = found.metadata
        for name in self.rules.hierarchy.cloud_props:
            url = metadata.get(name)
            if name != VARIANTS and isinstance(url, str) and url.strip():
                metadata[name], _ = own(url)
        variants = {}
        for name, url in variant_urls(metadata.get(VARIANTS)).items():
            own_url, key = own(url)
            variants[name] = {"ecarUrl": own_url, "size": self._size(key)}
        metadata[VARIANTS] = variants

    def _copied(self, found: _Object, url: str) -> tuple[str, str]:
        key = f"{found.type.lower()}/{found.id}/{last_part(url)}"
        with self.directories.directory(found.id) as directory:
            # any name can be one of an object, not of a file
            file = directory / "file"
            _downloaded(lambda: self.web.fetch(url, file, self.rules.largest_file), url)
            return stored(self.objects, key, file), key

    def _size(self, key: str) -> int:
        size = called(lambda: self.objects.size(key), "The size of a copied file can not be read")
        if size is None:
            raise ImportFailed("The size of a copied file can not be read | it is not there")
        return size

    def _store(self, found: _Object) -> None:
        """Into Cassandra, then into the graph. spec §3.7"""
        of_type, short = found.of_type, self.rules.short
        columns = external_columns(found.external, of_type, short)
        keyspace = dict(self.rules.keyspaces).get(found.type.lower())
        if columns and (of_type.table is None or keyspace is None):
            raise ImportFailed(f"No table for what {found.type} keeps outside of the graph")
        failure = f"{found.id} can not be stored"
        if columns:
            update = Update(f"{keyspace}.{of_type.table}", {of_type.primary_key: found.id}, columns)
            (refused,) = called(lambda: self.tables.write([[update]]), failure)
            if refused is not None:
                raise ImportFailed(f"{failure} | {refused}")
        properties = graph_properties(found.metadata, of_type, short)
        called(lambda: self.graph.merge_node(found.id, properties), failure)


def _is_accepted(child_id: str, metadata: Mapping[str, Any]) -> bool:
    """Whether a child is among the accepted contributions, where there is a list of them. spec §3.5"""
    accepted = metadata.get("acceptedContributions")
    return not isinstance(accepted, list) or not accepted or child_id in accepted


def _downloaded(fetch: Callable[[], int], url: str) -> None:
    called(fetch, f"Invalid fileUrl received : {shown(url)}")
