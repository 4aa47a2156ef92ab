"""Putting an object into its places: units of collections (spec: content-auto-creator §3.5, auto-creator-v2 §3.8)."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from transforms.content_imports import Place
from transforms.import_failures import ImportFailed, answered, called
from transforms.services import Hierarchies

__all__ = ["LinkFailed", "link"]

_log = logging.getLogger(__name__)


class LinkFailed(ImportFailed):
    """The object is there, but not in its place."""


def link(hierarchies: Hierarchies, places: Iterable[Place], object_id: str) -> None:
    """Put an object into its places; those that the collection does not have are passed over. Raises LinkFailed.

    An object that is in its place already is put there once more, which changes nothing.
    """
    try:
        for place in places:
            _link_one(hierarchies, place, object_id)
    except ImportFailed as error:
        raise LinkFailed(str(error)) from error


def _link_one(hierarchies: Hierarchies, place: Place, object_id: str) -> None:
    collection = place.collection
    failure = f"Unable to fetch collection hierarchy for : {collection}"
    reply = called(lambda: hierarchies.hierarchy(collection), failure)
    if reply.status != 200:
        raise ImportFailed(f"{failure} | Response Code : {reply.status}")
    content = reply.result.get("content")
    children = content.get("childNodes") if isinstance(content, dict) else None
    if not isinstance(children, list) or place.unit not in children:
        _log.warning("%s has no unit %s; %s is not put there", collection, place.unit, object_id)
        return
    failure = f"Hierarchy Update Failed For : {collection}."
    reply = called(lambda: hierarchies.add_to_hierarchy(collection, place.unit, object_id), failure)
    if reply.status != 200:
        raise ImportFailed(f"{failure} :: {answered(reply)}")
