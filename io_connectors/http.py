"""HTTP with one pooled, retrying client (spec: core §8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from io_connectors.one_per_process import one_per_process
from io_connectors.retries import retrying
from transforms.stores import StoreUnavailable

__all__ = ["Http", "HttpCalls", "HttpResult"]

_REPEATABLE = frozenset({"GET", "HEAD"})
_TRY_AGAIN = frozenset({502, 503, 504})


class HttpResult(NamedTuple):
    """What a call gave: its status, and its body as text."""

    status: int
    text: str

    @property
    def is_success(self) -> bool:
        """200 or 201. spec: core §8"""
        return self.status in (200, 201)


@dataclass(frozen=True)
class Http:
    """The recipe of a client; timeouts and pauses in seconds, ``pool`` connections are kept per host.

    With the default pauses a repeatable call is tried three times.
    """

    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    pool: int = 10
    retry_pauses: tuple[float, ...] = (0.2, 1.0)

    def open(self) -> HttpCalls:
        """The process' client for this recipe."""
        return one_per_process(self, lambda: HttpCalls(self))


class _TryAgain(Exception):
    """An answer that may be another one soon."""

    def __init__(self, result: HttpResult) -> None:
        super().__init__(f"status {result.status}")
        self.result = result


class HttpCalls:
    """The client. A call that gets any answer gives it, whatever its status; one that gets none raises."""

    def __init__(self, recipe: Http) -> None:
        self._recipe = recipe
        self._session = requests.Session()
        # The process environment counts only where a configuration file says so.
        self._session.trust_env = False
        adapter = HTTPAdapter(pool_connections=recipe.pool, pool_maxsize=recipe.pool)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def call(self, method: str, url: str, *, repeatable: bool | None = None, **arguments: Any) -> HttpResult:
        """Make a call; ``arguments`` are those of ``requests``. ``repeatable``: by default GET and HEAD are.

        A repeatable call is tried again after connect errors, time-outs and the statuses 502, 503 and 504, of which
        the last is given. Raises StoreUnavailable, which names the address, when no answer came. spec: core §8
        """
        again = method.upper() in _REPEATABLE if repeatable is None else repeatable
        arguments.setdefault("headers", {"Content-Type": "application/json"})

        def once() -> HttpResult:
            response = self._session.request(
                method, url, timeout=(self._recipe.connect_timeout, self._recipe.read_timeout), **arguments
            )
            if "charset" not in response.headers.get("Content-Type", ""):
                response.encoding = "utf-8"
            result = HttpResult(response.status_code, response.text)
            if result.status in _TRY_AGAIN:
                raise _TryAgain(result)
            return result

        try:
            pauses = self._recipe.retry_pauses if again else ()
            return retrying(pauses, requests.RequestException, _TryAgain)(once)
        except _TryAgain as last:
            return last.result
        except requests.RequestException as error:
            raise StoreUnavailable(f"{_address(url)} does not answer: {type(error).__name__}: {error}") from error


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else url
