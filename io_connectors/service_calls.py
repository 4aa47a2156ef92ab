"""What the clients of Sunbird's services share: where the service is, what is asked of it, and what it may answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from io_connectors.http import LATER, Calls, HttpResult, Unsendable
from io_connectors.retries import retrying
from transforms.services import ServiceRefused
from transforms.stores import StoreUnavailable

__all__ = ["ServiceCalls", "all_but", "path_part"]

ANSWER_LIMIT = 16 * 1024 * 1024
"""Bytes: far above what a service answers, and far below what hurts a worker."""


_LONGEST_PART = 2_000
"""Characters. Servers refuse longer addresses by a 414, a 431 or by hanging up, which all look like "later"."""


class _Unreadable(StoreUnavailable):
    """A 200 that says nothing."""


# it comes from something between, which is asked again as a 503 is
_unreadable_again = retrying((0.2, 1.0), _Unreadable)


def all_but(*statuses: int) -> frozenset[int]:
    """The statuses that say "later" of a service of which only these are answers."""
    return frozenset(range(100, 600)) - {*statuses}


class ServiceCalls:
    """Calls of one service, in JSON. ``setting`` is the configuration key of ``base_path``, for messages.

    With ``only_json``, a 200 to what is tried again says "later", too, unless it brings a JSON object.

    Every method raises Unsendable when there is no usable base path, and StoreUnavailable when the service does not
    answer or answers with one of the statuses ``later``, after the retries of what may be repeated.
    """

    def __init__(
        self,
        name: str,
        setting: str,
        base_path: str | None,
        calls: Calls,
        headers: Mapping[str, str] | None = None,
        *,
        later: frozenset[int] = LATER,
        only_json: bool = False,
    ) -> None:
        self._name = name
        self._setting = setting
        self._base_path = base_path.rstrip("/") if base_path else None
        self._calls = calls
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._later = later
        self._only_json = only_json

    def get(self, path: str) -> HttpResult:
        """GET, tried again. The answer is one to keep to."""
        return self._repeated("GET", path, None)

    def delete(self, path: str) -> HttpResult:
        """DELETE, tried again. The answer is one to keep to."""
        return self._repeated("DELETE", path, None)

    def ask(self, path: str, body: Mapping[str, Any]) -> HttpResult:
        """POST what changes nothing, tried again. The answer is one to keep to."""
        return self._repeated("POST", path, body)

    def patch(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str], *, final: frozenset[int] = frozenset()
    ) -> HttpResult:
        """PATCH that sets values, tried again. The answer is one to keep to, as are the statuses ``final``."""
        later = self._later - final
        return self._final(self._call("PATCH", path, body, headers, repeatable=True, later=later), later)

    def post(self, path: str, body: Mapping[str, Any]) -> HttpResult:
        """POST once. The answer is one to keep to."""
        return self._final(self._call("POST", path, body, repeatable=False))

    def create(self, path: str, body: Mapping[str, Any]) -> HttpResult:
        """POST what must not be done twice: ``Calls.create``."""
        return self._calls.create(
            self._url(path), data=self._json(body), headers=dict(self._headers), limit=ANSWER_LIMIT
        )

    def refused(self, result: HttpResult, why: str = "") -> ServiceRefused:
        """What to raise for an answer that is final and not good."""
        return ServiceRefused(f"the {self._name} answers {result.status}{why and f' {why}'}")

    def answer(self, result: HttpResult) -> dict[str, Any]:
        """The JSON object that a 200 brought. Raises ServiceRefused for everything else."""
        found = self.parsed(result)
        if not isinstance(found, dict):
            raise self.refused(result, "without a JSON object")
        return found

    def parsed(self, result: HttpResult) -> Any:
        """The JSON that a 200 brought. Raises ServiceRefused for another status and for what is not JSON."""
        if result.status != 200:
            raise self.refused(result)
        try:
            return orjson.loads(result.text)
        except orjson.JSONDecodeError:
            raise self.refused(result, "with what is not JSON") from None

    def _repeated(self, method: str, path: str, body: Mapping[str, Any] | None) -> HttpResult:
        def once() -> HttpResult:
            return self._final(self._call(method, path, body, repeatable=True))

        def once_readable() -> HttpResult:
            try:
                result = once()
            except ServiceRefused as error:
                raise StoreUnavailable(str(error)) from None
            if result.status == 200 and not _is_object(result.text):
                raise _Unreadable(f"the {self._name} ({self._setting}) answers 200 without a JSON object")
            return result

        return _unreadable_again(once_readable) if self._only_json else once()

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None = None,
        *,
        repeatable: bool,
        later: frozenset[int] | None = None,
    ) -> HttpResult:
        return self._calls.call(
            method,
            self._url(path),
            repeatable=repeatable,
            again=self._later if later is None else later,
            limit=ANSWER_LIMIT,
            data=None if body is None else self._json(body),
            headers={**self._headers, **(headers or {})},
        )

    def _final(self, result: HttpResult, later: frozenset[int] | None = None) -> HttpResult:
        if result.status in (self._later if later is None else later):
            raise StoreUnavailable(f"the {self._name} ({self._setting}) answers {result.status}")
        return result

    def _url(self, path: str) -> str:
        if not self._base_path:
            raise Unsendable(f"no {self._name} to call: {self._setting} is not set")
        return self._base_path + path

    def _json(self, body: Mapping[str, Any]) -> bytes:
        try:
            return orjson.dumps(body)
        except TypeError:
            raise ServiceRefused(f"not a request that the {self._name} can be sent as JSON") from None


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def path_part(identifier: str) -> str:
    """An id as one part of a path.

    Raises ServiceRefused for what names no part of its own, such as ``..``, and for what is longer than servers take.
    """
    try:
        part = quote(identifier, safe="")
    except UnicodeEncodeError:
        part = ""
    if not part.strip(".") or len(part) > _LONGEST_PART:
        raise ServiceRefused("an id that can not be part of an address")
    return part
