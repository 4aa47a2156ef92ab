"""Pushes through Firebase Cloud Messaging: the legacy protocol and HTTP v1 (spec: notification-job §3.3)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import orjson
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport import Request, Response
from google.oauth2.service_account import Credentials

from io_connectors.http import BodyRefused, Calls, Http, HttpResult
from io_connectors.one_per_process import one_per_process
from io_connectors.pace import Pace
from io_connectors.service_calls import ANSWER_LIMIT
from io_connectors.threads import Threads
from transforms.services import OutcomeUnknown, ServiceRefused
from transforms.stores import Opens, StoreUnavailable

__all__ = ["FcmV1", "FcmV1Pushes", "LegacyFcm", "LegacyFcmPushes", "service_account"]

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
COUNTS = ("success", "failure", "canonical_ids")
# devices that are waited for side by side; of one push, after so many that got no answer, no others are tried
DEVICES_AT_ONCE = 16
MOST_WITHOUT_ANSWER = 3
# how long a token that could not be had is not asked for again: those who wait for it do not ask one after the other
SECONDS_WITHOUT_TOKEN = 5.0


@dataclass(frozen=True)
class LegacyFcm:
    """The recipe of the legacy protocol; ``account_key`` is the whole ``Authorization``."""

    url: str
    account_key: str = field(default="", repr=False)
    http: Opens[Calls] = field(default_factory=Http)
    pace: Pace = field(default_factory=lambda: Pace("pushes"))

    def open(self) -> LegacyFcmPushes:
        """The process' client for this recipe."""
        return one_per_process(self, lambda: LegacyFcmPushes(self))


class LegacyFcmPushes:
    """The client of the legacy protocol (``transforms.services.Pushes``)."""

    def __init__(self, recipe: LegacyFcm) -> None:
        self._recipe = recipe
        self._calls = recipe.http.open()
        self._turns = recipe.pace.open()

    def to_devices(self, tokens: Sequence[str], data: Mapping[str, Any]) -> dict[str, int]:
        """As the protocol says, in one request; sent even when FCM reached none. spec: notification-job §3.3"""
        return self._send({"data": data, "dry_run": False, "registration_ids": list(tokens)})

    def to_topic(self, topic: str, data: Mapping[str, Any]) -> dict[str, int]:
        """As the protocol says. spec: notification-job §3.3"""
        return self._send({"data": data, "dry_run": False, "to": f"/topics/{topic}"})

    def _send(self, message: Mapping[str, Any]) -> dict[str, int]:
        if not self._recipe.account_key.strip():
            raise ServiceRefused("no FCM account: neither fcm_account_key nor fcm_service_account is set")
        self._turns.wait()
        answer = _posted(self._calls, self._recipe.url, message, self._recipe.account_key)
        if not 200 <= answer.status < 300:
            raise ServiceRefused(f"FCM answers {answer.status}")
        try:
            said = orjson.loads(answer.text)
        except orjson.JSONDecodeError:
            said = None
        if not isinstance(said, dict):
            raise ServiceRefused(f"FCM answers {answer.status} without a JSON object")
        return {name: said[name] for name in COUNTS if isinstance(said.get(name), int)}


@dataclass(frozen=True)
class FcmV1:
    """The recipe of HTTP v1, at the host of ``url``; ``account`` is a service account's JSON, or the path of it."""

    url: str
    account: str = field(repr=False)
    http: Opens[Calls] = field(default_factory=Http)
    pace: Pace = field(default_factory=lambda: Pace("pushes"))
    devices: Opens[Executor] = field(default_factory=lambda: Threads("fcm", DEVICES_AT_ONCE))

    def open(self) -> FcmV1Pushes:
        """The process' client for this recipe. Raises ValueError for an account that is none."""
        return one_per_process(self, lambda: FcmV1Pushes(self))


class FcmV1Pushes:
    """The client of HTTP v1 (``transforms.services.Pushes``): one call for each device, side by side."""

    def __init__(self, recipe: FcmV1) -> None:
        account = service_account(recipe.account)
        self._calls = recipe.http.open()
        self._tokens = _Tokens(account, self._calls)
        self._turns = recipe.pace.open()
        self._devices = recipe.devices.open()
        project = quote(account["project_id"], safe="")
        self._url = urljoin(recipe.url, f"/v1/projects/{project}/messages:send")

    def to_devices(self, tokens: Sequence[str], data: Mapping[str, Any]) -> dict[str, int]:
        """As the protocol says; sent when FCM took it for one device at least. spec: notification-job §3.3"""
        texts, failures = _texts(data), _Failures()

        def to_device(token: str) -> bool:
            return failures.without(lambda: self._send({"token": token, "data": texts}))

        self._turns.wait()
        sent = sum(self._devices.map(to_device, tokens))
        if not sent:
            raise failures.worst()
        return {"success": sent, "failure": len(tokens) - sent}

    def to_topic(self, topic: str, data: Mapping[str, Any]) -> dict[str, int]:
        """As the protocol says. spec: notification-job §3.3"""
        self._turns.wait()
        self._send({"topic": topic, "data": _texts(data)})
        return {}

    def _send(self, message: Mapping[str, Any]) -> None:
        token = self._tokens.current()
        answer = _posted(self._calls, self._url, {"message": message}, f"Bearer {token}")
        if answer.status == 401:
            # revoked before its time: nothing was sent
            answer = _posted(self._calls, self._url, {"message": message}, f"Bearer {self._tokens.after(token)}")
        if not 200 <= answer.status < 300:
            raise ServiceRefused(f"FCM answers {answer.status}")


class _Failures:
    """What went wrong with the devices of one push. Of many threads."""

    def __init__(self) -> None:
        self._errors: list[ServiceRefused | StoreUnavailable] = []

    def without(self, call: Callable[[], None]) -> bool:
        """Make the call, if not too many got no answer before: whether it went well."""
        if sum(isinstance(error, StoreUnavailable) for error in self._errors) >= MOST_WITHOUT_ANSWER:
            return False
        try:
            call()
        except (ServiceRefused, StoreUnavailable) as error:
            self._errors.append(error)
            return False
        return True

    def worst(self) -> ServiceRefused | StoreUnavailable:
        """The one that says most of what may have happened."""
        unknown = (error for error in self._errors if isinstance(error, OutcomeUnknown))
        return next(unknown, self._errors[0])


class _Tokens:
    """The access tokens of a service account, each until it ends. Of many threads."""

    def __init__(self, account: Mapping[str, Any], calls: Calls) -> None:
        self._credentials: Any = Credentials.from_service_account_info(account, scopes=[SCOPE])  # type: ignore[no-untyped-call]
        self._request = _Request(calls)
        self._lock = threading.Lock()
        self._failed_at = -SECONDS_WITHOUT_TOKEN

    def current(self) -> str:
        """A token. Raises StoreUnavailable."""
        with self._lock:
            if not self._credentials.valid:
                self._refresh()
            return str(self._credentials.token)

    def after(self, refused: str) -> str:
        """Another token than this one. Raises StoreUnavailable."""
        with self._lock:
            if self._credentials.token == refused:
                self._refresh()
            return str(self._credentials.token)

    def _refresh(self) -> None:
        if time.monotonic() - self._failed_at < SECONDS_WITHOUT_TOKEN:
            raise StoreUnavailable("no access token for FCM: asked a moment ago")
        try:
            self._credentials.refresh(self._request)
        except (GoogleAuthError, ValueError) as error:
            self._failed_at = time.monotonic()
            raise StoreUnavailable(f"no access token for FCM: {type(error).__name__}") from None


class _Request(Request):
    """What google-auth asks with: the same client as everything else."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> _Response:
        try:
            return _Response(self._calls.call(method, url, data=body, headers=dict(headers or {}), limit=ANSWER_LIMIT))
        except (StoreUnavailable, ServiceRefused) as error:
            raise TransportError(str(error)) from error  # type: ignore[no-untyped-call]


class _Response(Response):
    def __init__(self, result: HttpResult) -> None:
        self._result = result

    @property
    def status(self) -> int:
        return self._result.status

    @property
    def headers(self) -> Mapping[str, str]:
        return {}

    @property
    def data(self) -> bytes:
        return self._result.text.encode()


def service_account(account: str) -> dict[str, Any]:
    """The members of a service account's JSON, given as text, or as the path of a file.

    Raises ValueError, which names the setting, for what is none.
    """
    text: str | bytes = account
    if not account.lstrip().startswith("{"):
        try:
            text = Path(account).read_bytes()
        except (OSError, ValueError):
            raise ValueError("fcm_service_account: no such file, and no JSON object") from None
    try:
        members = orjson.loads(text)
        Credentials.from_service_account_info(members, scopes=[SCOPE])  # type: ignore[no-untyped-call]
        if not isinstance(members["project_id"], str) or not members["project_id"]:
            raise ValueError
    except (ValueError, LookupError, TypeError, AttributeError, GoogleAuthError):
        raise ValueError("fcm_service_account: not a service account with project_id and private_key") from None
    return dict(members)


def _posted(calls: Calls, url: str, body: Mapping[str, Any], authorization: str) -> HttpResult:
    headers = {"Content-Type": "application/json", "Authorization": authorization}
    try:
        data = orjson.dumps(body)
    except TypeError:
        raise ServiceRefused("not a push that FCM can be sent as JSON") from None
    try:
        return calls.create(url, data=data, headers=headers, limit=ANSWER_LIMIT)
    except BodyRefused:
        raise OutcomeUnknown("FCM answers what can not be read") from None


def _texts(data: Mapping[str, Any]) -> dict[str, str]:
    """Every value as text, as HTTP v1 wants it: what is none as compact JSON."""
    try:
        return {name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in data.items()}
    except TypeError:
        raise ServiceRefused("not a push that FCM can be sent as JSON") from None
