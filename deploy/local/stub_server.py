"""A stand-in for Sunbird's HTTP services: `python -m deploy.local.stub_server PORT`.

POST /v3/search               the search service: the status of the collection that the filters name
PUT  /stub/collections/ID     {"status": "Live"}; null makes the collection unknown again
PUT  /stub/behaviour          {"fail_with": 503, "delay_ms": 200, "times": 3}: how the next calls are answered;
                              without `times` until this is set again, `{}` for good behaviour
GET  /stub/calls              the calls since the last DELETE /stub/calls, oldest first
"""

import json
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

CALLS_KEPT = 10_000


@dataclass
class Stubs:
    """What the stubs know and how they behave; shared by all threads."""

    statuses: dict[str, str] = field(default_factory=dict)
    calls: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=CALLS_KEPT))
    behaviour: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_behaviour(self) -> tuple[int | None, float]:
        """The HTTP status to fail with, if any, and the seconds to wait before the next answer."""
        with self.lock:
            behaviour = self.behaviour
            left = behaviour.get("times")
            if left is not None:
                if left <= 0:
                    return None, 0.0
                behaviour["times"] = left - 1
            return behaviour.get("fail_with"), behaviour.get("delay_ms", 0) / 1000

    def search(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer of the search service to a request for one collection's status."""
        filters = request.get("request", {}).get("filters", {})
        identifiers = filters.get("identifier", [])
        allowed = filters.get("status")
        with self.lock:
            found = [
                {"identifier": identifier, "status": self.statuses[identifier]}
                for identifier in ([identifiers] if isinstance(identifiers, str) else identifiers)
                if identifier in self.statuses and (not allowed or self.statuses[identifier] in allowed)
            ]
        result: dict[str, Any] = {"count": len(found)}
        if found:
            result["content"] = found
        return {"id": "api.search-service.search", "responseCode": "OK", "result": result}


class Handler(BaseHTTPRequestHandler):
    """Routes a request to the stubs of the server."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def _body(self) -> Any:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return json.loads(raw) if raw else {}

    def _answer(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_POST(self) -> None:
        """Answer a call of a service, in the way that was asked for."""
        stubs = self.server.stubs
        try:
            body = self._body()
        except ValueError:
            self._answer(HTTPStatus.BAD_REQUEST, {"responseCode": "CLIENT_ERROR"})
            return
        with stubs.lock:
            stubs.calls.append({"method": "POST", "path": self.path, "body": body, "at": int(time.time() * 1000)})
        status, delay = stubs.next_behaviour()
        if delay:
            time.sleep(delay)
        if status is not None:
            self._answer(status, {"responseCode": "SERVER_ERROR"})
        elif urlsplit(self.path).path == "/v3/search":
            self._answer(HTTPStatus.OK, stubs.search(body))
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"responseCode": "RESOURCE_NOT_FOUND"})

    def do_PUT(self) -> None:
        """Change what the stubs know or how they behave."""
        stubs = self.server.stubs
        body = self._body()
        with stubs.lock:
            if self.path.startswith("/stub/collections/"):
                identifier = unquote(self.path.removeprefix("/stub/collections/"))
                if body.get("status") is None:
                    stubs.statuses.pop(identifier, None)
                else:
                    stubs.statuses[identifier] = body["status"]
            elif self.path == "/stub/behaviour":
                stubs.behaviour = body
            else:
                self._answer(HTTPStatus.NOT_FOUND, {})
                return
        self._answer(HTTPStatus.OK, {})

    def do_GET(self) -> None:
        """Tell the calls that came in."""
        if self.path != "/stub/calls":
            self._answer(HTTPStatus.NOT_FOUND, {})
            return
        with self.server.stubs.lock:
            calls = list(self.server.stubs.calls)
        self._answer(HTTPStatus.OK, calls)

    def do_DELETE(self) -> None:
        """Forget the calls that came in."""
        with self.server.stubs.lock:
            self.server.stubs.calls.clear()
        self._answer(HTTPStatus.OK, {})

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: GET /stub/calls tells."""


class Server(ThreadingHTTPServer):
    """The HTTP server with its stubs."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.stubs = Stubs()


if __name__ == "__main__":
    Server(int(sys.argv[1])).serve_forever()
