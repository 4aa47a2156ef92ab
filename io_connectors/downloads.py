"""Files of others, streamed to disk: from any web address, and from Google Drive (spec: content-auto-creator §3.6)."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import requests
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials

from io_connectors.http import LATER, Calls, Http, HttpResult, Into, TooLarge, Unsendable
from io_connectors.service_calls import path_part
from transforms.services import DriveBusy, DriveFile, FileTooLarge, ServiceRefused
from transforms.stores import Opens, StoreUnavailable

__all__ = ["DriveCalls", "GoogleDrive", "WebFileCalls", "WebFiles"]

_ABOUT_LIMIT = 1024 * 1024
_SCOPES = [f"https://www.googleapis.com/auth/{name}" for name in ("drive", "drive.file", "drive.metadata")]
_FIELDS = "id,name,size,owners,mimeType,properties,permissionIds,webContentLink"
_RATE_LIMITS = {"rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded"}


@dataclass(frozen=True)
class WebFiles:
    """The recipe of files at any address; one may take ``seconds`` to arrive, in each of three tries."""

    seconds: float = 300.0
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> WebFileCalls:
        """The client; nothing is called before it is asked."""
        return WebFileCalls(self.http.open(), self.seconds)


class WebFileCalls:
    """The client (``transforms.services.Downloads``)."""

    def __init__(self, calls: Calls, seconds: float) -> None:
        self._calls = calls
        self._seconds = seconds

    def fetch(self, url: str, to: Path, limit: int) -> int:
        """As the protocol says."""
        result, size = _download(self._calls, url, to, limit, self._seconds, {})
        if result.status in LATER:
            raise StoreUnavailable(f"the file's server answers {result.status}")
        if result.status != 200:
            raise ServiceRefused(f"the file's server answers {result.status}")
        return size


@dataclass(frozen=True)
class GoogleDrive:
    """The recipe of Google Drive, as a service account: ``credentials`` is its JSON text, anonymous without.

    ``application`` is what Drive is told to be asked by. ValueError for credentials that are none, without their text.
    """

    base_url: str
    application: str
    credentials: str | None = field(default=None, repr=False)
    seconds: float = 300.0
    http: Opens[Calls] = field(default_factory=Http)

    def __post_init__(self) -> None:
        _account(self.credentials)

    def open(self) -> DriveCalls:
        """The client; nothing is called before it is asked."""
        return DriveCalls(self)


class DriveCalls:
    """The client (``transforms.services.Drive``)."""

    def __init__(self, recipe: GoogleDrive) -> None:
        self._calls = recipe.http.open()
        self._base = recipe.base_url.rstrip("/")
        self._application = recipe.application
        self._seconds = recipe.seconds
        self._account = _account(recipe.credentials)
        self._lock = threading.Lock()

    def about(self, file_id: str) -> DriveFile:
        """As the protocol says."""
        url = self._url(file_id, {"fields": _FIELDS})
        # what Drive calls a limit is waited for elsewhere, and longer
        result = self._calls.call("GET", url, headers=self._headers(), limit=_ABOUT_LIMIT, again=frozenset())
        found = self._final(result)
        name, mime_type, size = found.get("name"), found.get("mimeType"), found.get("size")
        if not isinstance(name, str) or not isinstance(mime_type, str):
            raise ServiceRefused("Google Drive answers without name and type of the file")
        is_number = isinstance(size, int | str) and str(size).isascii() and str(size).isdecimal()
        return DriveFile(file_id, name, mime_type, int(size) if size is not None and is_number else None)

    def fetch(self, file_id: str, to: Path, limit: int) -> int:
        """As the protocol says."""
        url = self._url(file_id, {"alt": "media"})
        result, size = _download(self._calls, url, to, limit, self._seconds, self._headers())
        if result.status != 200:
            self._final(result)
        return size

    def _url(self, file_id: str, query: Mapping[str, str]) -> str:
        return f"{self._base}/drive/v3/files/{path_part(file_id)}?{urlencode(query)}"

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": self._application}
        if self._account is None:
            return headers
        with self._lock:
            if not self._account.valid:
                session = requests.Session()
                # the process environment counts only where a configuration file says so
                session.trust_env = False
                try:
                    self._account.refresh(Request(session))
                except GoogleAuthError as error:
                    if getattr(error, "retryable", False):
                        raise DriveBusy("the token service of Google Drive asks to come back later") from None
                    raise ServiceRefused("the service account of Google Drive gets no token") from None
            return {**headers, "Authorization": f"Bearer {self._account.token}"}

    def _final(self, result: HttpResult) -> dict[str, Any]:
        try:
            found = orjson.loads(result.text)
        except orjson.JSONDecodeError:
            found = None
        found = found if isinstance(found, dict) else {}
        if result.status == 200:
            return found
        is_limit = result.status == 403 and not _RATE_LIMITS.isdisjoint(_reasons(found))
        if is_limit or result.status == 429 or result.status >= 500:
            raise DriveBusy(f"Google Drive asks to come back later (status {result.status})")
        raise ServiceRefused(f"Google Drive answers {result.status}")


def _download(
    calls: Calls, url: str, to: Path, limit: int, seconds: float, headers: Mapping[str, str]
) -> tuple[HttpResult, int]:
    try:
        with to.open("wb") as file:
            result = calls.download(url, Into(file, seconds), limit=limit, headers=headers)
            return result, file.tell()
    except TooLarge as error:
        raise FileTooLarge(str(error)) from None
    except Unsendable as error:
        raise ServiceRefused(str(error)) from None
    except OSError as error:
        raise StoreUnavailable(f"a file can not be written to disk: {error.strerror}") from None


def _reasons(answer: dict[str, Any]) -> set[str]:
    error = answer.get("error")
    errors = error.get("errors") if isinstance(error, dict) else None
    return {str(one.get("reason")) for one in errors or () if isinstance(one, dict)}


def _account(credentials: str | None) -> Any:
    if not credentials:
        return None
    try:
        return Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            json.loads(credentials), scopes=_SCOPES
        )
    except (ValueError, TypeError, AttributeError):
        raise ValueError("content_auto_creator.g_service_acct_cred is not the JSON of a service account") from None
