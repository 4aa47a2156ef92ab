"""The read calls whose answers are judged by what they say, not by their status (spec: user-cache-updater §3.3, §6)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson
from cachetools import TTLCache

from io_connectors.http import Calls, Http, NoAnswer
from io_connectors.one_per_process import one_per_process
from io_connectors.retries import retrying
from io_connectors.service_calls import ANSWER_LIMIT, path_part
from transforms.services import ServiceRefused, UserBlocked
from transforms.stores import Opens, StoreUnavailable

__all__ = ["FrameworkReadApi", "FrameworkReads", "UserReadApi", "UserReads"]

PAUSES = (0.2, 1.0)
"""Seconds before the second and the third try."""

FRAMEWORKS_REMEMBERED = 10_000
REMEMBERED_SECONDS = 86_400

_BLOCKED = "UOS_USRRED0006"
_NOT_NOW = frozenset({401, 403, 408, 429})

Answer = dict[str, Any]


@dataclass(frozen=True)
class UserReadApi:
    """The recipe of the user read. ``errors``: the response codes that a blocked account may come with.

    ``fields`` is what the service is to add to the user; ``retry_pauses`` in seconds.
    """

    base_path: str
    read_path: str = "/private/user/v1/read/"
    fields: str = "locations,organisations"
    errors: tuple[str, ...] = ("CLIENT_ERROR",)
    http: Opens[Calls] = field(default_factory=Http)
    retry_pauses: tuple[float, ...] = PAUSES

    def open(self) -> UserReads:
        """The client; nothing is called before it is asked."""
        return UserReads(self)


class UserReads:
    """The client (``transforms.services.UserProfiles``)."""

    def __init__(self, recipe: UserReadApi) -> None:
        prefix = _prefix(recipe.base_path, recipe.read_path)
        query = f"?fields={quote(recipe.fields, safe=',')}" if recipe.fields else ""
        self._reads = _Reads(
            "user service (service.userorg.basePath)", recipe.http.open(), prefix, query, recipe.retry_pauses
        )
        self._errors = frozenset(code.upper() for code in recipe.errors)

    def read(self, user_id: str) -> dict[str, Any]:
        """As the protocol says. spec: user-cache-updater §3.3, §6"""
        status, answer = self._reads.read(user_id, lambda answer: _is_good(answer) or self._is_blocked(answer))
        if self._is_blocked(answer):
            raise UserBlocked("the user service answers that the account is deleted or blocked")
        user = _object(answer.get("result")).get("response")
        if not _is_good(answer) or not isinstance(user, dict) or not user:
            raise ServiceRefused(f"the user service answers {status} without a user")
        return user

    def _is_blocked(self, answer: Answer) -> bool:
        error = _object(answer.get("params")).get("err")
        return _code(answer) in self._errors and isinstance(error, str) and error.upper() == _BLOCKED


@dataclass(frozen=True)
class FrameworkReadApi:
    """The recipe of the framework read; ``retry_pauses`` in seconds."""

    base_path: str
    read_path: str = "/api/framework/v1/read/"
    http: Opens[Calls] = field(default_factory=Http)
    retry_pauses: tuple[float, ...] = PAUSES

    def open(self) -> FrameworkReads:
        """The process' client for this recipe, with what it remembers; nothing is called before it is asked."""
        return one_per_process(self, lambda: FrameworkReads(self))


class FrameworkReads:
    """The client (``transforms.services.Frameworks``). ``clock`` gives seconds.

    Categories are remembered by it for a day, those of 10,000 frameworks; that there are none is not.
    """

    def __init__(self, recipe: FrameworkReadApi) -> None:
        self.clock: Callable[[], float] = time.monotonic
        prefix = _prefix(recipe.base_path, recipe.read_path)
        self._reads = _Reads(
            "taxonomy service (service.taxonomy.basePath)", recipe.http.open(), prefix, "", recipe.retry_pauses
        )
        self._remembered: TTLCache[str, tuple[str, ...]] = TTLCache(
            FRAMEWORKS_REMEMBERED, REMEMBERED_SECONDS, timer=lambda: self.clock()
        )
        self._lock = threading.Lock()

    def categories(self, framework_id: str) -> tuple[str, ...]:
        """As the protocol says. spec: user-cache-updater §3.3, §6"""
        with self._lock:
            found: tuple[str, ...] | None = self._remembered.get(framework_id)
        if found is None:
            # threads that miss it at once ask at once: none waits for another's retries
            found = self._ask(framework_id)
            if found:
                with self._lock:
                    self._remembered[framework_id] = found
        return found

    def _ask(self, framework_id: str) -> tuple[str, ...]:
        try:
            _, answer = self._reads.read(framework_id, _is_good)
        except ServiceRefused:
            return ()
        categories = _object(_object(answer.get("result")).get("framework")).get("categories")
        if not _is_good(answer) or not isinstance(categories, list):
            return ()
        codes = (_object(category).get("code") for category in categories)
        return tuple(code for code in codes if isinstance(code, str) and code)


class _Reads:
    """One read call: ``prefix`` and an id, and ``query`` behind it."""

    def __init__(self, name: str, calls: Calls, prefix: str, query: str, retry_pauses: tuple[float, ...]) -> None:
        self._name = name
        self._calls = calls
        self._prefix = prefix
        self._query = query
        self._retrying = retrying(retry_pauses, NoAnswer, _NotNow)

    def read(self, identifier: str, is_settled: Callable[[Answer], bool]) -> tuple[int, Answer]:
        """The status and the JSON object of an answer that another try would not change.

        That is one which ``is_settled``, whatever its status, or whose status and response code are not those of a
        service in trouble. Raises ServiceRefused for an id that none can be asked for, StoreUnavailable when three
        tries brought no such answer.
        """
        url = f"{self._prefix}/{path_part(identifier)}{self._query}"
        return self._retrying(self._once, url, is_settled)

    def _once(self, url: str, is_settled: Callable[[Answer], bool]) -> tuple[int, Answer]:
        result = self._calls.call("GET", url, repeatable=False, limit=ANSWER_LIMIT)
        try:
            answer: Any = orjson.loads(result.text)
        except orjson.JSONDecodeError:
            raise _NotNow(f"the {self._name} answers {result.status} with what is not JSON") from None
        answer = _object(answer)
        if not is_settled(answer) and _is_in_trouble(result.status, _code(answer)):
            raise _NotNow(f"the {self._name} answers {result.status}")
        return result.status, answer


class _NotNow(StoreUnavailable):
    """An answer that may be another one soon."""


def _is_in_trouble(status: int, code: str) -> bool:
    if status in _NOT_NOW or status >= 500 or code == "SERVER_ERROR":
        return True
    # what has no response code is no answer of the service, only a gateway's 4xx is one to keep to
    return status < 400 and not code


def _is_good(answer: Answer) -> bool:
    return _code(answer) == "OK"


def _code(answer: Answer) -> str:
    code = answer.get("responseCode")
    return code.upper() if isinstance(code, str) else ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _prefix(base_path: str, read_path: str) -> str:
    """The address before ``/ID``."""
    return f"{base_path.rstrip('/')}/{read_path.strip('/')}"
