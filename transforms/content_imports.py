"""What an import event asks for, and how far its content is: the rules, without any call.

spec: content-auto-creator §2, §3.1, §3.2
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from transforms.decode import id_at, value_at

__all__ = [
    "ContentImport",
    "ContentStage",
    "ImportRules",
    "InvalidImport",
    "Place",
    "asked_step",
    "content_import",
    "create_body",
    "fitting_hit",
    "is_being_published",
    "iteration_of",
    "places",
    "search_request",
    "stage_of",
    "update_body",
]

ACTION = "auto-create"
STEPS = ("create", "upload", "review", "publish")
PUBLISHED = ("Live", "Unlisted", "Processing")
H5P = "application/vnd.ekstep.h5p-archive"


class InvalidImport(ValueError):
    """The event breaks a rule of the spec's §2; the message says which."""


class ContentStage(enum.Enum):
    """What is left to do for a content (spec: content-auto-creator §3.2)."""

    CREATE = "create"
    UPDATE = "update"
    REVIEW = "review"
    NOTHING = "na"


class Place(NamedTuple):
    """A unit of a collection."""

    collection: str
    unit: str


@dataclass(frozen=True)
class ImportRules:
    """The lists of the settings (spec: content-auto-creator §5)."""

    object_types: Collection[str]
    stages: Collection[str]
    mandatory: Collection[str]
    most_iterations: int
    removed: Collection[str]
    of_create: Collection[str]


@dataclass(frozen=True)
class ContentImport:
    """A valid event. ``stage`` is ``""`` or the last step that is asked for; ``identifier`` only without a source."""

    id: str
    channel: str
    stage: str
    iteration: int
    metadata: Mapping[str, Any]
    repository: str | None
    identifier: str | None
    origin_id: str | None
    places: tuple[Place, ...] = field(default=())

    @property
    def artifact_url(self) -> str:
        return _text(self.metadata.get("artifactUrl"))

    @property
    def mime_type(self) -> str:
        return _text(self.metadata.get("mimeType"))

    @property
    def is_h5p(self) -> bool:
        return self.mime_type.lower() == H5P

    @property
    def version(self) -> float:
        return _number(self.metadata.get("pkgVersion"))


def content_import(event: Mapping[str, Any], rules: ImportRules) -> ContentImport:
    """The import that an event asks for. Raises InvalidImport. spec: content-auto-creator §2"""
    metadata = value_at(event, "edata.metadata")
    repository = id_at(event, "edata.repository")
    identifier, channel = id_at(event, "object.id"), id_at(event, "context.channel")
    iteration = iteration_of(event)
    if value_at(event, "edata.action") != ACTION:
        raise InvalidImport("another action")
    if identifier is None or channel is None:
        raise InvalidImport("no object.id, or no context.channel")
    if value_at(event, "edata.objectType") not in rules.object_types:
        raise InvalidImport("another type of object")
    if iteration is None or iteration > rules.most_iterations:
        raise InvalidImport("more iterations than allowed")
    if not isinstance(metadata, dict) or not metadata:
        raise InvalidImport("no metadata")
    if repository is None and id_at(metadata, "artifactUrl") is None:
        raise InvalidImport("neither edata.repository nor artifactUrl")
    stage = value_at(event, "edata.stage")
    stage = "" if stage is None else stage
    if not isinstance(stage, str) or (stage and stage.strip().lower() not in {name.lower() for name in rules.stages}):
        raise InvalidImport("no such stage")
    if not rules.mandatory or any(name not in metadata for name in rules.mandatory):
        raise InvalidImport("a mandatory property is missing")
    return ContentImport(
        id=identifier,
        channel=channel,
        stage=stage.strip().lower(),
        iteration=iteration,
        metadata=metadata,
        repository=repository,
        identifier=id_at(event, "edata.identifier"),
        origin_id=id_at(event, "edata.originData.identifier"),
        places=places(event),
    )


def iteration_of(event: Mapping[str, Any]) -> int | None:
    """``edata.iteration`` as a whole number, 1 when there is none, None when it is no number."""
    value = value_at(event, "edata.iteration")
    if value is None:
        return 1
    try:
        return None if isinstance(value, bool) else int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None


def places(event: Mapping[str, Any]) -> tuple[Place, ...]:
    """The places of ``edata.collection`` whose two ids are not blank. spec: content-auto-creator §3.5"""
    entries = value_at(event, "edata.collection")
    if not isinstance(entries, list):
        return ()
    found = ((id_at(entry, "identifier"), id_at(entry, "unitId")) for entry in entries)
    return tuple(Place(collection, unit) for collection, unit in found if collection and unit)


def asked_step(work: ContentImport) -> int:
    """How far to go: the place in STEPS of the last step."""
    return STEPS.index(work.stage) if work.stage in STEPS else len(STEPS) - 1


def create_body(work: ContentImport, rules: ImportRules) -> dict[str, Any]:
    """The content that the create call makes. spec: content-auto-creator §3.1, §3.4"""
    content = {name: value for name, value in work.metadata.items() if _is_of_create(name, rules)}
    # the API derives it from primaryCategory
    content.pop("contentType", None)
    if work.identifier:
        return {**content, "identifier": work.identifier}
    repository = {"repository": work.repository} if work.repository else {}
    return {**content, "identifier": work.id, "origin": work.id, "originData": {"identifier": work.id, **repository}}


def update_body(work: ContentImport, rules: ImportRules, version_key: Any, app_icon: str | None) -> dict[str, Any]:
    """What the update call sets; ``app_icon`` is the icon's own address, None when there is none. spec §3.4, §8.8"""
    content = {
        name: value
        for name, value in work.metadata.items()
        if name not in rules.removed and name not in rules.of_create and name != "appIcon"
    }
    icon = {"appIcon": app_icon} if app_icon else {}
    return {**content, "versionKey": version_key, **icon}


def _is_of_create(name: str, rules: ImportRules) -> bool:
    return name in rules.of_create and name not in rules.removed


def search_request(origin: str, exists: Sequence[str], fields: Sequence[str]) -> dict[str, Any]:
    """What the search service is asked: contents of any status that come from ``origin``. spec §3.2"""
    filters = {"objectType": "Content", "status": [], "origin": origin}
    return {"filters": filters, "exists": list(exists), "fields": list(fields)}


def fitting_hit(result: Mapping[str, Any], origin: str) -> dict[str, Any] | None:
    """The first hit that was made from ``origin`` in a repository. spec §3.2"""
    hits = result.get("content")
    if not _number(result.get("count")) or not isinstance(hits, list):
        return None
    return next((hit for hit in hits if isinstance(hit, dict) and _fits(hit, origin)), None)


def _fits(hit: Mapping[str, Any], origin: str) -> bool:
    source = hit.get("originData")
    if isinstance(source, str):
        try:
            source = orjson.loads(source)
        except orjson.JSONDecodeError:
            return False
    if id_at(hit, "identifier") is None:
        return False
    identifier = id_at(source, "identifier")
    return identifier is not None and identifier.lower() == origin.lower() and id_at(source, "repository") is not None


def stage_of(content: Mapping[str, Any], work: ContentImport) -> ContentStage:
    """What is left to do for a content that is there. spec: content-auto-creator §3.2

    A file address that is still the source's, where the update call has put it, is no uploaded file.
    """
    if content.get("status") in PUBLISHED:
        is_newer = work.version > _number(content.get("pkgVersion"))
        return ContentStage.UPDATE if is_newer else ContentStage.NOTHING
    artifact = _text(content.get("artifactUrl"))
    return ContentStage.REVIEW if artifact and artifact != work.artifact_url else ContentStage.UPDATE


def is_being_published(content: Mapping[str, Any]) -> bool:
    """Whether the version that counts is not known yet."""
    return content.get("status") == "Processing"


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _number(value: Any) -> float:
    try:
        return 0.0 if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
