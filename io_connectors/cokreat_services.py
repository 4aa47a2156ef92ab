"""The services around the coKreat portal: its contribution service, and the two content repositories."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from io_connectors.http import Calls, Http
from io_connectors.service_calls import ANSWER_LIMIT, ServiceCalls, path_part
from transforms.services import ServiceAnswer, ServiceRefused
from transforms.stores import Opens

__all__ = ["ContentRepository", "ContentRepositoryCalls", "ContributionCalls", "ContributionService"]

SERVER_ERRORS = frozenset(range(500, 600))
"""What may pass when the contribution service says it (spec: cokreat-user-delete §3)."""
MAY_PASS = SERVER_ERRORS | {429}
"""What may pass when a content repository says it (spec: metrics-data-transformer §6)."""

_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class ContributionService:
    """The recipe of the contribution service; ``base_path`` as ``http://host:port``, with the ingress' part."""

    base_path: str
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> ContributionCalls:
        """The client; nothing is called before it is asked."""
        return ContributionCalls(self.base_path, self.http.open())


class ContributionCalls:
    """The client (``transforms.services.Contributors``)."""

    def __init__(self, base_path: str, calls: Calls) -> None:
        self._base_path = base_path.rstrip("/")
        self._calls = calls

    def delete_user(self, user_id: str) -> ServiceAnswer:
        """As the protocol says. spec: cokreat-user-delete §3"""
        result = self._calls.call(
            "DELETE",
            f"{self._base_path}/program/v1/user/{path_part(user_id)}",
            repeatable=True,
            again=SERVER_ERRORS,
            limit=ANSWER_LIMIT,
            headers=_HEADERS,
        )
        try:
            body: Any = orjson.loads(result.text)
        except orjson.JSONDecodeError:
            body = None
        return ServiceAnswer(result.status, body if isinstance(body, dict) else {})


@dataclass(frozen=True)
class ContentRepository:
    """The recipe of a content service that may be written to. ``name`` and ``setting`` (the key of ``base_path``) are
    for messages; ``left_alone`` are the statuses, as text, of updates that are not made and not missed."""

    name: str
    setting: str
    base_path: str
    read_path: str = "/content/v3/read"
    update_path: str = "/content/v4/system/update"
    left_alone: frozenset[str] = frozenset()
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> ContentRepositoryCalls:
        """The client; nothing is called before it is asked."""
        return ContentRepositoryCalls(self)


class ContentRepositoryCalls:
    """The client (``transforms.services.ImportedContents``)."""

    def __init__(self, recipe: ContentRepository) -> None:
        self._service = ServiceCalls(
            recipe.name, recipe.setting, recipe.base_path, recipe.http.open(), _HEADERS, later=MAY_PASS
        )
        self._read_path = f"/{recipe.read_path.strip('/')}"
        self._update_path = f"/{recipe.update_path.strip('/')}"
        self._left_alone = recipe.left_alone

    def read(self, content_id: str) -> dict[str, Any]:
        """As the protocol says. spec: metrics-data-transformer §3.3, §3.5"""
        result = self._service.get(f"{self._read_path}/{path_part(content_id)}")
        if result.status == 404:
            return {}
        found = self._service.answer(result).get("result")
        content = found.get("content") if isinstance(found, dict) else None
        return content if isinstance(content, dict) else {}

    def update(self, content_id: str, channel: str, values: Mapping[str, Any]) -> bool:
        """As the protocol says. spec: metrics-data-transformer §3.7"""
        result = self._service.patch(
            f"{self._update_path}/{path_part(content_id)}",
            {"request": {"content": values}},
            {"X-Channel-Id": _sendable(channel)},
            final=_numbers(self._left_alone),
        )
        if result.status == 200:
            return True
        if str(result.status) in self._left_alone:
            return False
        raise self._service.refused(result)


def _sendable(value: str) -> str:
    """A header's value. Raises ServiceRefused for one that no header may have: the fault is in the event."""
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ServiceRefused("a channel that can not be sent")
    return value


def _numbers(statuses: Collection[str]) -> frozenset[int]:
    return frozenset(int(status) for status in statuses if status.isdecimal())
