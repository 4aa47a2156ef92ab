"""HTTP in memory: a client that calls a function instead of a socket, with the retry rules of the real one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import requests

from io_connectors.http import Answer, Calls, Into, NoAnswer, NotReached, TooLarge
from io_connectors.one_per_process import one_per_process

__all__ = ["Handler", "MemoryCall", "MemoryHttp", "MemoryHttpCalls"]

Handler = Callable[[str, str, Mapping[str, str], bytes], tuple[int, str | bytes]]
"""``(method, path with query, headers, body) -> (status, body)``, for every host. Called by many threads at once.

It may raise NotReached and NoAnswer, as if no connection had been made, or no answer had come.
"""

_TRIES_AGAIN = 2


@dataclass(frozen=True)
class MemoryHttp:
    """The recipe of the client of that name, in place of ``Http``; a repeatable call is tried again so many times."""

    name: str
    tries_again: int = _TRIES_AGAIN

    def open(self) -> MemoryHttpCalls:
        """The client of this recipe."""
        return one_per_process(self, lambda: MemoryHttpCalls(self.tries_again))

    def serve(self, handler: Handler) -> MemoryHttpCalls:
        """Let this function answer; the client, to ask what was called."""
        client = self.open()
        client.handler = handler
        return client


class MemoryCall(NamedTuple):
    """One try of a call."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class _Fault:
    """So many tries at paths with that prefix that get no answer."""

    left: int
    path: str
    reached: bool
    processed: bool


class MemoryHttpCalls(Calls):
    """The client; without a handler nobody is there. A repeatable call is tried three times, if not told otherwise,
    without pauses.

    ``calls`` are all tries since the last ``clear``, those that got no answer among them; ``in_flight`` is how many
    wait for the handler now, ``most_in_flight`` how many did at most.
    """

    def __init__(self, tries_again: int = _TRIES_AGAIN) -> None:
        super().__init__((0.0,) * tries_again)
        self.handler: Handler | None = None
        self.calls: list[MemoryCall] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()

    def refuse(self, times: int, path: str = "") -> None:
        """Let the next tries at paths with that prefix find nobody: a connect error."""
        self._faults.append(_Fault(times, path, reached=False, processed=False))

    def hang(self, times: int, path: str = "", *, processed: bool = True) -> None:
        """Let the next tries at paths with that prefix wait in vain: a read time-out, with the work done or not."""
        self._faults.append(_Fault(times, path, reached=True, processed=processed))

    def count(self, path: str = "", method: str = "") -> int:
        """The tries at paths with that prefix (of that method)."""
        with self._lock:
            return sum(call.path.startswith(path) and method in ("", call.method) for call in self.calls)

    def clear(self) -> None:
        """Forget the calls, the highest number in flight, and the faults that are left."""
        with self._lock:
            self.calls.clear()
            self._faults.clear()
            self.most_in_flight = self.in_flight

    def _exchange(self, request: requests.PreparedRequest, limit: int | None, into: Into | None = None) -> Answer:
        body = request.body or b""
        sent = body.encode() if isinstance(body, str) else bytes(body)
        call = MemoryCall(str(request.method), request.path_url, request.headers, sent)
        with self._in_flight(call) as fault:
            if self.handler is None or (fault and not fault.reached):
                raise NotReached("HTTP in memory does not answer: no connection")
            if fault and not fault.processed:
                raise NoAnswer("HTTP in memory does not answer: read time-out")
            status, text = self.handler(*call)
            if fault:
                raise NoAnswer("HTTP in memory does not answer: read time-out")
        content = text.encode() if isinstance(text, str) else text
        is_file = into is not None and status == 200
        if limit is not None and len(content) > limit and (into is None or is_file):
            raise TooLarge(f"HTTP in memory answers {status} with a body that is larger than the limit")
        if into is not None and is_file:
            into.take([content], len(content))
            return Answer(status, b"")
        return Answer(status, content)

    @contextmanager
    def _in_flight(self, call: MemoryCall) -> Iterator[_Fault | None]:
        with self._lock:
            self.calls.append(call)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            fault = next((fault for fault in self._faults if fault.left and call.path.startswith(fault.path)), None)
            if fault:
                fault.left -= 1
        try:
            yield fault
        finally:
            with self._lock:
                self.in_flight -= 1
