"""HTTP with one pooled, retrying client (spec: core §8)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import default_headers
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import DecodeError, HTTPError, LocationValueError, MaxRetryError, NewConnectionError
from urllib3.util.ssl_match_hostname import CertificateError

from io_connectors.one_per_process import one_per_process
from io_connectors.retries import retrying
from transforms.services import OutcomeUnknown, ServiceRefused
from transforms.stores import StoreUnavailable

__all__ = [
    "LATER",
    "Answer",
    "BodyRefused",
    "Calls",
    "Http",
    "HttpCalls",
    "HttpResult",
    "Into",
    "NoAnswer",
    "NotReached",
    "TooLarge",
    "Unsendable",
]

LATER = frozenset({408, 429, 502, 503, 504})
"""The statuses that the certificate jobs read as "ask again later" (spec: collection-certificate-generator §6)."""

_TRY_AGAIN = frozenset({502, 503, 504})
_REPEATABLE = frozenset({"GET", "HEAD"})
_NOT_PROCESSED = frozenset({429, 503})
_PERHAPS_PROCESSED = frozenset({408, 502, 504})

IDLE_SECONDS = 30.0
"""How long after a request a connection is used again: servers, firewalls and NAT drop it silently, and what is sent
over it then gets no answer, so that nobody can say whether it was done."""

_REDIRECTED = frozenset({"GET", "HEAD"})
_REDIRECTS = 5
_CHUNK = 1 << 16


class HttpResult(NamedTuple):
    """What a call gave: its status, and its body as text."""

    status: int
    text: str

    @property
    def is_success(self) -> bool:
        """200 or 201. spec: core §8"""
        return self.status in (200, 201)


class Answer(NamedTuple):
    """What came over the wire; ``charset`` is the one that the answer names."""

    status: int
    body: bytes
    charset: str | None = None


class Into(NamedTuple):
    """Where the body of a 200 goes instead of into memory, and how many seconds it may take to arrive."""

    file: BinaryIO
    seconds: float

    def take(self, chunks: Iterable[bytes], limit: int | None) -> None:
        """Write the chunks in place of what is there. Raises TooLarge for more bytes than ``limit``."""
        self.file.seek(0)
        self.file.truncate()
        for chunk in _limited(chunks, limit):
            self.file.write(chunk)


class NoAnswer(StoreUnavailable):
    """A request was sent, or may have been, and no answer came."""


class NotReached(NoAnswer):
    """No connection could be made, so nothing was sent."""


class Unsendable(StoreUnavailable):
    """No request can be made of this: no http or https address, or a header that can not be sent."""


class BodyRefused(ServiceRefused):
    """An answer came, but its body is larger than the limit, too slow, or is not in the encoding that it claims."""


class _TooSlow(Exception):
    """A body takes longer than the seconds that its text says."""


class TooLarge(BodyRefused):
    """A body of more bytes than the limit."""


@dataclass(frozen=True)
class Http:
    """The recipe of a client; timeouts and pauses in seconds, ``pool`` connections are kept per host.

    With the default pauses a repeatable call is tried three times; no try begins ``retry_within`` seconds after the
    first, where that is set. ``pool`` should be the number of threads that call. The read time-out is one for the
    beginning of an answer and for each pause in its body; the whole body may take five times as long.
    """

    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    pool: int = 10
    retry_pauses: tuple[float, ...] = (0.2, 1.0)
    retry_within: float | None = None

    def open(self) -> HttpCalls:
        """The process' client for this recipe."""
        return one_per_process(self, lambda: HttpCalls(self))


class _TryAgain(Exception):
    """An answer that may be another one soon."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"status {answer.status}")
        self.answer = answer


class Calls(ABC):
    """What every client of HTTP does, whatever carries its requests: which calls are tried again, and how often.

    ``arguments`` of the methods are those of ``requests.Request``; ``limit`` is the most bytes that an answer's body
    may have. All methods may be used by many threads at once. They raise Unsendable for what is no request, and
    ServiceRefused for an answer that can not be read or found. Messages name the address, never path, headers or
    bodies; nor do errors below them, which Beam would log: they are not chained.
    """

    def __init__(self, retry_pauses: tuple[float, ...], retry_within: float | None = None) -> None:
        self._repeating = retrying(retry_pauses, NoAnswer, _TryAgain, within=retry_within)
        self._creating = retrying(retry_pauses, NotReached, _TryAgain, within=retry_within)

    def call(
        self,
        method: str,
        url: str,
        *,
        repeatable: bool | None = None,
        again: frozenset[int] = _TRY_AGAIN,
        limit: int | None = None,
        **arguments: Any,
    ) -> HttpResult:
        """Make a call that gives any answer it gets, whatever its status. ``repeatable``: by default GET and HEAD are.

        A repeatable call is tried again after connect errors, time-outs and the statuses ``again``, of which the last
        is given. Raises StoreUnavailable, which names the address, when no answer came. spec: core §8
        """
        if repeatable is None:
            repeatable = method.upper() in _REPEATABLE
        return _text(self._answer(_prepared(method, url, arguments), again if repeatable else None, limit))

    def create(self, url: str, *, limit: int | None = None, **arguments: Any) -> HttpResult:
        """POST what must not be done twice: tried again only when the request was surely not processed.

        Raises StoreUnavailable when it was not (no connection, 429, 503, after the retries), OutcomeUnknown when
        nobody can say (time-out or broken connection after sending, 408, 502, 504). Every other answer is given.
        spec: collection-certificate-generator §6
        """
        request = _prepared("POST", url, arguments)

        def once() -> Answer:
            answer = self._exchange(request, limit)
            if answer.status in _NOT_PROCESSED:
                raise _TryAgain(answer)
            return answer

        try:
            answer = self._creating(once)
        except _TryAgain as last:
            raise StoreUnavailable(f"{_address(url)} answers {last.answer.status}") from None
        except NotReached:
            raise
        except NoAnswer as error:
            raise OutcomeUnknown(str(error)) from error
        if answer.status in _PERHAPS_PROCESSED:
            raise OutcomeUnknown(f"{_address(url)} answers {answer.status}")
        return _text(answer)

    def fetch(self, url: str, *, limit: int, again: frozenset[int] = LATER) -> tuple[int, bytes]:
        """GET a file: the status and the body as it came. Tried again, and raises, as a repeatable ``call``."""
        answer = self._answer(_prepared("GET", url, {"headers": {}}), again, limit)
        return answer.status, answer.body

    def download(self, url: str, into: Into, *, limit: int, headers: Mapping[str, str] | None = None) -> HttpResult:
        """GET a file of any size; the body of a 200 goes ``into``, every other answer is given as of ``call``.

        Tried again, from the beginning, and raises, as a repeatable ``call``; BodyRefused for what is larger than
        ``limit`` bytes or takes too long.
        """
        request = _prepared("GET", url, {"headers": dict(headers or {})})
        return _text(self._answer(request, LATER, limit, into))

    def _answer(
        self,
        request: requests.PreparedRequest,
        again: frozenset[int] | None,
        limit: int | None,
        into: Into | None = None,
    ) -> Answer:
        if again is None:
            return self._exchange(request, limit, into)

        def once() -> Answer:
            answer = self._exchange(request, limit, into)
            if answer.status in again:
                raise _TryAgain(answer)
            return answer

        try:
            return self._repeating(once)
        except _TryAgain as last:
            return last.answer

    @abstractmethod
    def _exchange(self, request: requests.PreparedRequest, limit: int | None, into: Into | None = None) -> Answer:
        """Send once; the body of a 200 goes ``into``, where that is given.

        Raises NotReached, NoAnswer, Unsendable, ServiceRefused.
        """


class _NotForLong(HTTPConnection):
    """A connection that is made anew when it lay idle for long."""

    _used_at = 0.0

    def request(self, *arguments: Any, **options: Any) -> None:
        now = time.monotonic()
        if self._used_at and self.sock is not None and now - self._used_at >= IDLE_SECONDS:
            self.close()
        self._used_at = now
        super().request(*arguments, **options)


class _SecureNotForLong(_NotForLong, HTTPSConnection):
    """The same over TLS. While both sides agree on it, nothing of a request is sent: there is no connection yet."""

    def connect(self) -> None:
        try:
            super().connect()
        except (OSError, CertificateError) as error:
            self.close()
            raise NewConnectionError(self, type(error).__name__) from error


class _Pool(HTTPConnectionPool):
    ConnectionCls = _NotForLong


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureNotForLong


class HttpCalls(Calls):
    """The client over sockets. GET and HEAD follow redirects, to http and https addresses only.

    It goes to the transport of ``requests`` directly: a session would merge settings, cookies and the process
    environment into every call, none of which is wanted here, for half as much CPU again.
    """

    def __init__(self, recipe: Http) -> None:
        super().__init__(recipe.retry_pauses, recipe.retry_within)
        self._timeout = (recipe.connect_timeout, recipe.read_timeout)
        self._body_seconds = 5 * recipe.read_timeout
        self._transport = HTTPAdapter(pool_connections=recipe.pool, pool_maxsize=recipe.pool)
        self._transport.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def _exchange(self, request: requests.PreparedRequest, limit: int | None, into: Into | None = None) -> Answer:
        url = str(request.url)
        for _ in range(_REDIRECTS + 1):
            answer, target = self._exchange_here(request, limit, into)
            further = _redirected(request, target) if target is not None and request.method in _REDIRECTED else None
            if further is None:
                return answer
            request = further
        raise ServiceRefused(f"{_address(url)} redirects more than {_REDIRECTS} times")

    def _exchange_here(
        self, request: requests.PreparedRequest, limit: int | None, into: Into | None
    ) -> tuple[Answer, str | None]:
        address = _address(str(request.url))
        try:
            response = self._transport.send(request, stream=True, timeout=self._timeout)
        except (requests.ConnectionError, requests.Timeout) as error:
            kind = NotReached if _was_not_reached(error) else NoAnswer
            raise kind(f"{address} does not answer: {_why(error)}") from None
        except (requests.RequestException, LocationValueError, UnicodeError) as error:
            raise Unsendable(f"{address}: not a request that can be sent: {type(error).__name__}") from None
        except (HTTPError, OSError) as error:
            raise NoAnswer(f"{address} does not answer: {_why(error)}") from None
        try:
            body = _read(response, limit, into, self._body_seconds)
        except BodyRefused as error:
            response.close()
            raise type(error)(f"{address} answers {response.status_code} with {error}") from None
        except _TooSlow as error:
            response.close()
            raise NoAnswer(f"{address} does not answer in full: it takes longer than {error} seconds") from None
        except DecodeError:
            response.close()
            raise BodyRefused(
                f"{address} answers {response.status_code} with a body that is not in the encoding that it claims"
            ) from None
        except (requests.RequestException, HTTPError, OSError) as error:
            raise NoAnswer(f"{address} does not answer in full: {_why(error)}") from None
        content_type = response.headers.get("Content-Type", "")
        charset = response.encoding if "charset" in content_type else None
        target = response.headers["Location"] if response.is_redirect else None
        return Answer(response.status_code, body, charset), target


def _read(response: requests.Response, limit: int | None, into: Into | None, seconds: float) -> bytes:
    if into is None:
        return b"".join(_limited(_chunks(response, seconds), limit))
    if response.status_code != 200:
        # the limit is one for files, and of an error the beginning says enough
        with response:
            return next(_chunks(response, seconds), b"")
    try:
        into.take(_chunks(response, into.seconds), limit)
    except _TooSlow as error:
        raise BodyRefused(f"a body that takes longer than {error} seconds") from None
    return b""


def _chunks(response: requests.Response, seconds: float) -> Iterator[bytes]:
    """A body as it comes in. Raises _TooSlow when it takes longer than that.

    Not ``iter_content``, which waits for a full chunk: a server that sends a byte now and then would hold it for ever.
    """
    latest = time.monotonic() + seconds
    while chunk := response.raw.read1(_CHUNK, decode_content=True):
        if time.monotonic() > latest:
            raise _TooSlow(f"{seconds:g}")
        yield chunk


def _limited(chunks: Iterable[bytes], limit: int | None) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if limit is not None and size > limit:
            raise TooLarge("a body that is larger than the limit")
        yield chunk


def _prepared(method: str, url: str, arguments: Mapping[str, Any]) -> requests.PreparedRequest:
    headers = arguments.get("headers", {"Content-Type": "application/json"})
    arguments = {**arguments, "headers": {**_DEFAULT_HEADERS, **headers}}
    return _request(url, lambda: requests.Request(method.upper(), url, **arguments).prepare())


def _request(url: str, make: Callable[[], requests.PreparedRequest]) -> requests.PreparedRequest:
    """What ``make`` gives for an address of http or https. Raises Unsendable."""
    try:
        if urlsplit(url).scheme.lower() not in ("http", "https"):
            raise Unsendable(f"{_address(url)} is not an http or https address")
        return make()
    except (requests.RequestException, LocationValueError, ValueError) as error:
        raise Unsendable(f"{_address(url)}: not a request that can be sent: {type(error).__name__}") from None


def _redirected(request: requests.PreparedRequest, location: str) -> requests.PreparedRequest | None:
    """The request for where an answer points to; None for an address that is not followed."""
    before = str(request.url)
    further = request.copy()
    try:
        # a header's bytes are read as Latin-1, addresses are written in UTF-8
        target = urljoin(before, location.encode("latin-1").decode("utf-8"))
        _request(target, lambda: _moved(further, target))
    except (Unsendable, ValueError):
        return None
    if _origin(before) != _origin(str(further.url)):
        further.headers.pop("Authorization", None)
    return further


def _moved(request: requests.PreparedRequest, url: str) -> requests.PreparedRequest:
    request.prepare_url(url, None)
    return request


def _was_not_reached(error: requests.RequestException) -> bool:
    if isinstance(error, requests.ConnectTimeout):
        return True
    inner = error.args[0] if error.args else None
    return isinstance(inner, MaxRetryError) and isinstance(inner.reason, NewConnectionError)


def _why(error: BaseException) -> str:
    """The kind of an error and what the system says of it; its own text may hold the whole URL."""
    kind = type(error).__name__
    inner: BaseException | None = error
    said = None
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            said = inner.strerror
        inner = inner.__cause__ or inner.__context__
    return f"{kind} ({said})" if said else kind


def _text(answer: Answer) -> HttpResult:
    try:
        text = answer.body.decode(answer.charset or "utf-8", "replace")
    except LookupError:
        text = answer.body.decode("utf-8", "replace")
    return HttpResult(answer.status, text)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that can not be read"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" if host else f"{url.partition('/')[0]!r}"


_DEFAULT_HEADERS = dict(default_headers())
