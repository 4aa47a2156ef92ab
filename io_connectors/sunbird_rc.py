"""Sunbird RC, the registry of verifiable credentials (spec: collection-certificate-generator §3.4, §3.7, §3.11)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from io_connectors.http import Calls, Http, HttpResult
from io_connectors.one_per_process import one_per_process
from io_connectors.service_calls import ServiceCalls, path_part
from transforms.services import ServiceRefused
from transforms.stores import Opens

__all__ = ["SunbirdRC", "SunbirdRCCalls"]

KEY_SECONDS = 300.0


@dataclass(frozen=True)
class SunbirdRC:
    """The recipe of RC for one entity; ``base_path`` as ``http://host:port/registry-service/api/v1``.

    ``api_key`` goes into every call's ``Authorization`` as it is; empty or None: no such header.
    """

    base_path: str | None
    entity: str = "TrainingCertificate"
    api_key: str | None = field(default=None, repr=False)
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> SunbirdRCCalls:
        """The process' client for this recipe; nothing is called before it is asked."""
        return one_per_process(self, lambda: SunbirdRCCalls(self))


class SunbirdRCCalls:
    """The client (``transforms.services.Credentials``). ``clock`` gives seconds; the key's id is kept by it."""

    def __init__(self, recipe: SunbirdRC) -> None:
        self.clock: Callable[[], float] = time.monotonic
        headers = {"Authorization": recipe.api_key} if recipe.api_key else {}
        self._service = ServiceCalls("RC", "service.rc.basePath", recipe.base_path, recipe.http.open(), headers)
        self._entity = recipe.entity
        self._path = f"/{path_part(recipe.entity)}"
        self._key: tuple[float, str] | None = None

    def key_id(self) -> str:
        """As the protocol says. spec: collection-certificate-generator §3.4 a"""
        key, now = self._key, self.clock()
        if key is None or now - key[0] >= KEY_SECONDS:
            # threads that find it missing at once ask at once: none waits for another's retries
            key = self._key = (now, self._ask_key())
        return key[1]

    def create(self, request: Mapping[str, Any]) -> str:
        """As the protocol says. spec: collection-certificate-generator §3.4 d, §6"""
        result = self._service.create(self._path, request)
        answer = self._service.answer(result)
        try:
            osid = answer["result"][self._entity]["osid"]
        except (LookupError, TypeError):
            osid = None
        return self._text(result, osid)

    def search(self, filters: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
        """As the protocol says. spec: collection-certificate-generator §3.11, legacy-certificate-migrator §3.4"""
        result = self._service.ask(f"{self._path}/search", {"filters": filters, "limit": limit})
        return [] if result.status == 404 else self._records(result)

    def delete(self, osid: str) -> bool:
        """As the protocol says. spec: collection-certificate-generator §3.7"""
        try:
            return self._service.delete(f"{self._path}/{path_part(osid)}").status == 200
        except ServiceRefused:
            return False

    def _ask_key(self) -> str:
        result = self._service.ask("/PublicKey/search", {"filters": {}})
        records = self._records(result)
        return self._text(result, records[0].get("osid") if records else None)

    def _records(self, result: HttpResult) -> list[dict[str, Any]]:
        """The records of an answer in either form: a list, or since RC 2 an object with the list ``data``."""
        found = self._service.parsed(result)
        records = found.get("data") if isinstance(found, dict) else found
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise self._service.refused(result, "without a list of records")
        return records

    def _text(self, result: HttpResult, osid: Any) -> str:
        if not isinstance(osid, str) or not osid.strip():
            raise self._service.refused(result, "without an osid")
        return osid
