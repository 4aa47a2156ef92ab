"""The events that flow: the JSON Schemas in ``events/``, draft 2020-12 (spec: core §1, each job §2 and §3)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

__all__ = ["event_schemas", "validator"]


@cache
def event_schemas() -> dict[str, dict[str, Any]]:
    """Every schema by its name, which is its file's: ``audit``, ``dead-letter`` …"""
    return {
        entry.name.removesuffix(".json"): orjson.loads(entry.read_bytes())
        for entry in files("schemas").joinpath("events").iterdir()
        if entry.name.endswith(".json")
    }


def validator(name: str) -> Draft202012Validator:
    """What checks parsed JSON against the schema ``name``. Raises KeyError when there is none."""
    resources = [Resource.from_contents(schema) for schema in event_schemas().values()]
    registry: Registry[Any] = resources @ Registry()
    return Draft202012Validator(event_schemas()[name], registry=registry)
