"""Questions and question sets on their way from another repository: the rules, without any call.

spec: auto-creator-v2 §2, §3.2-§3.7
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from transforms.content_imports import ACTION, InvalidImport, Place, places
from transforms.decode import id_at, value_at
from transforms.object_definitions import Definition

__all__ = [
    "VARIANTS",
    "HierarchyRules",
    "ObjectImport",
    "children",
    "external_columns",
    "graph_properties",
    "is_filled",
    "merged",
    "object_import",
    "overlaid_by_entry",
    "read_fields",
    "shortened",
    "split",
    "system_metadata",
    "variant_urls",
    "with_stored_values",
]

TYPES = ("Question", "QuestionSet")
VARIANTS = "variants"
KEPT_VARIANTS = ("full", "online", "spine")


@dataclass(frozen=True)
class ObjectImport:
    """A valid event."""

    id: str
    object_type: str
    download_url: str
    repository: str
    process_id: str | None
    places: tuple[Place, ...]


@dataclass(frozen=True)
class HierarchyRules:
    """The lists of the settings (spec: auto-creator-v2 §5)."""

    cloud_props: tuple[str, ...]
    override_props: tuple[str, ...]
    expandable: Collection[str]
    non_expandable: Collection[str]
    in_graph: Collection[str]


def object_import(event: Mapping[str, Any]) -> ObjectImport:
    """The import that an event asks for. Raises InvalidImport. spec: auto-creator-v2 §2"""
    if value_at(event, "edata.action") != ACTION:
        raise InvalidImport("another action")
    object_type = value_at(event, "edata.objectType")
    if object_type not in TYPES:
        raise InvalidImport("another type of object")
    identifier, download_url = (id_at(event, f"edata.metadata.{name}") for name in ("identifier", "downloadUrl"))
    repository = id_at(event, "edata.repository")
    if identifier is None:
        raise InvalidImport("no metadata.identifier")
    if download_url is None or not download_url.endswith(".ecar"):
        raise InvalidImport("no metadata.downloadUrl that ends in .ecar")
    if repository is None:
        raise InvalidImport("no edata.repository")
    process_id = id_at(event, "edata.metadata.processId")
    return ObjectImport(identifier, object_type, download_url, repository, process_id, places(event))


def merged(manifest: Mapping[str, Any], read: Mapping[str, Any], object_id: str, read_url: str) -> dict[str, Any]:
    """What manifest and source say of an object; the source has the last word. spec §3.2"""
    items = value_at(manifest, "archive.items")
    fitting = (item for item in items if _is(item, object_id)) if isinstance(items, list) else iter(())
    identifier, repository = (orjson.dumps(text).decode() for text in (object_id, read_url))
    origin = {"origin": object_id, "originData": f'{{"identifier": {identifier},"repository":{repository}}}'}
    return {**next(fitting, {}), **read, **origin}


def _is(item: Any, object_id: str) -> bool:
    return (id_at(item, "identifier") or "").lower() == object_id.lower()


def split(everything: Mapping[str, Any], of_type: Definition) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata for the graph, and what Cassandra keeps. spec §3.2"""
    elsewhere = of_type.relations | of_type.external.keys()
    metadata = {name: value for name, value in everything.items() if name not in elsewhere}
    return metadata, {name: value for name, value in everything.items() if name in of_type.external}


def system_metadata(object_id: str, object_type: str, process_id: str | None) -> dict[str, Any]:
    """What every node has. spec §3.3"""
    system = {"IL_UNIQUE_ID": object_id, "IL_FUNC_OBJECT_TYPE": object_type, "IL_SYS_NODE_TYPE": "DATA_NODE"}
    return {**system, "processId": process_id} if process_id else system


def overlaid_by_entry(entry: Mapping[str, Any], rules: HierarchyRules) -> dict[str, Any]:
    """What a child's entry in the hierarchy says that counts more than its package. spec §3.3, §8.5"""
    return {name: entry[name] for name in rules.override_props if is_filled(entry.get(name))}


def is_filled(value: Any) -> bool:
    """Whether a value says something."""
    return value is not None and value != "" and value != {} and value != []


def variant_urls(variants: Any) -> dict[str, str]:
    """Variant -> address; of an object, or of its JSON text, whose entries may be plain addresses. spec §3.4, §8.6"""
    if isinstance(variants, str):
        try:
            variants = orjson.loads(variants)
        except orjson.JSONDecodeError:
            return {}
    if not isinstance(variants, dict):
        return {}
    urls = {name: entry if isinstance(entry, str) else value_at(entry, "ecarUrl") for name, entry in variants.items()}
    return {name: url for name, url in urls.items() if name in KEPT_VARIANTS and isinstance(url, str) and url.strip()}


def children(hierarchy: Mapping[str, Any], rules: HierarchyRules) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The id and the entry of each child that is stored with its set, depth first. spec §3.5"""
    for entry in _entries(hierarchy):
        if _is_child(entry, rules):
            yield entry["identifier"], entry
        elif _is_section(entry, rules):
            yield from children(entry, rules)


def with_stored_values(
    hierarchy: Mapping[str, Any], stored: Mapping[str, Mapping[str, Any]], rules: HierarchyRules
) -> dict[str, Any]:
    """The hierarchy with the new values of the children that were stored. spec §3.6"""
    if not isinstance(hierarchy.get("children"), list):
        return dict(hierarchy)

    def renewed(entry: Any) -> Any:
        if _is_child(entry, rules):
            return {**entry, **stored.get(entry["identifier"], {})}
        return with_stored_values(entry, stored, rules) if _is_section(entry, rules) else entry

    return {**hierarchy, "children": [renewed(entry) for entry in hierarchy["children"]]}


def _entries(hierarchy: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = hierarchy.get("children")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _is_child(entry: Any, rules: HierarchyRules) -> bool:
    kind = value_at(entry, "objectType")
    return kind in rules.non_expandable and kind in rules.in_graph and id_at(entry, "identifier") is not None


def _is_section(entry: Any, rules: HierarchyRules) -> bool:
    visibility = id_at(entry, "visibility") or ""
    return value_at(entry, "objectType") in rules.expandable and visibility.lower() == "parent"


def read_fields(of_type: Definition) -> str:
    """What the source is asked for of a child. spec §3.5"""
    return ",".join(dict.fromkeys([*of_type.properties, *of_type.external]))


# --- as it is stored


def external_columns(
    external: Mapping[str, Any], of_type: Definition, short: Callable[[str], str]
) -> dict[str, str | bytes | Any]:
    """Column -> value; ``short`` replaces what is written in another way in stores. spec §3.7"""
    columns: dict[str, Any] = {}
    for name, value in external.items():
        kind = of_type.external[name]
        if value is None or kind not in ("blob", "string"):
            columns[name.lower()] = short(value) if isinstance(value, str) else value
            continue
        text = short(value if isinstance(value, str) else _json(value))
        columns[name.lower()] = text.encode() if kind == "blob" else text
    return columns


def graph_properties(metadata: Mapping[str, Any], of_type: Definition, short: Callable[[str], str]) -> dict[str, Any]:
    """A node's properties: text, numbers, lists of one kind of them; everything else as JSON text. spec §3.7"""
    return {
        name: _property(value, name in of_type.object_typed, short)
        for name, value in metadata.items()
        if name not in ("identifier", "objectType")
    }


def _property(value: Any, is_object: bool, short: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return short(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    kinds = {type(item) for item in value} if isinstance(value, list) and not is_object else {dict}
    if kinds == {int, float}:
        value, kinds = [float(item) for item in value], {float}
    if len(kinds) > 1 or not kinds <= {str, bool, int, float}:
        return short(_json(value))
    return list(dict.fromkeys(short(item) if isinstance(item, str) else item for item in value))


def shortened(bases: Collection[str], container: str, prefix: str) -> Callable[[str], str]:
    """A function that writes the own store's addresses with the prefix; without bases it changes nothing. spec §3.7"""
    addresses = [f"{base.rstrip('/')}/{container}" for base in bases if base.strip()]

    def short(text: str) -> str:
        for address in addresses:
            text = text.replace(address, prefix)
        return text

    return short


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
