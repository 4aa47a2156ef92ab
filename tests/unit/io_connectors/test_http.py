"""The HTTP client against a server that misbehaves (spec: core §8)."""

from __future__ import annotations

import pickle
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import orjson
import pytest

from io_connectors.http import Http, HttpResult
from io_connectors.memory import MemoryCollectionStatuses
from io_connectors.services import SearchService
from transforms.stores import StoreUnavailable

FAST = Http(connect_timeout=1.0, read_timeout=0.3, retry_pauses=(0.01, 0.01))


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server:
    """Answers with what it was told, one after the other, the last for ever; notes what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str, str]] = [(200, "text/plain", "")]
        self.requests: list[Request] = []
        self.hang = threading.Event()
        self.hang.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.requests.append(Request(self.command, self.path, dict(self.headers), body))
                outer.hang.wait(10)
                status, content_type, text = outer.answers[0] if len(outer.answers) == 1 else outer.answers.pop(0)
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text.encode())

            do_GET = do_POST = do_PATCH = do_HEAD = handle_one

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that did not wait
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.hang.set()
    server.server.shutdown()
    thread.join()
    server.server.server_close()


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_call_gives_status_and_text(server):
    server.answers = [(404, "application/json", '{"a": "ä"}')]
    assert FAST.open().call("GET", f"{server.url}/x?y=1") == HttpResult(404, '{"a": "ä"}')
    [request] = server.requests
    assert (request.method, request.path, request.headers["Content-Type"]) == ("GET", "/x?y=1", "application/json")
    assert not HttpResult(404, "").is_success
    assert HttpResult(201, "").is_success


def test_own_headers_replace_the_default_one(server):
    FAST.open().call("GET", server.url, headers={"X-Channel-Id": "c"})
    [request] = server.requests
    assert request.headers["X-Channel-Id"] == "c"
    assert "Content-Type" not in request.headers


def test_a_repeatable_call_is_tried_three_times(server):
    server.answers = [(503, "text/html", "<p>busy"), (502, "text/html", "<p>busy"), (200, "text/plain", "here")]
    assert FAST.open().call("GET", server.url) == HttpResult(200, "here")
    assert len(server.requests) == 3


def test_the_last_answer_counts(server):
    server.answers = [(503, "text/html", "<p>busy")]
    assert FAST.open().call("HEAD", server.url).status == 503
    assert len(server.requests) == 3
    assert FAST.open().call("POST", server.url, repeatable=True) == HttpResult(503, "<p>busy")
    assert len(server.requests) == 6


@pytest.mark.parametrize("status", [400, 500, 501, 404])
def test_other_statuses_are_answers(server, status):
    server.answers = [(status, "text/plain", "no")]
    assert FAST.open().call("GET", server.url) == HttpResult(status, "no")
    assert len(server.requests) == 1


def test_a_call_that_is_not_repeatable_is_tried_once(server, nobody):
    server.answers = [(503, "text/plain", "busy")]
    assert FAST.open().call("POST", server.url, json={}) == HttpResult(503, "busy")
    assert FAST.open().call("GET", server.url, repeatable=False) == HttpResult(503, "busy")
    assert len(server.requests) == 2
    with pytest.raises(StoreUnavailable, match=nobody):
        FAST.open().call("PATCH", nobody)


def test_a_server_that_does_not_answer_in_time(server):
    server.hang.clear()
    with pytest.raises(StoreUnavailable, match=server.url):
        FAST.open().call("GET", server.url)
    assert len(server.requests) == 3


def test_nobody_there(nobody):
    recipe = Http(connect_timeout=1.0, retry_pauses=(0.1, 0.2))
    begin = time.monotonic()
    with pytest.raises(StoreUnavailable, match=nobody):
        recipe.open().call("GET", f"{nobody}/path")
    assert 0.3 <= time.monotonic() - begin < 5


def test_connections_are_kept_and_the_client_is_shared(server):
    recipe: Http = pickle.loads(pickle.dumps(FAST))  # noqa: S301 - our own bytes
    assert recipe.open() is FAST.open()
    assert recipe.open() is not Http(pool=3).open()


def test_the_environment_has_no_say(server, monkeypatch, nobody):
    monkeypatch.setenv("http_proxy", nobody)
    assert Http(retry_pauses=()).open().call("GET", server.url).status == 200


# --- the search service


def statuses(server: Server) -> SearchService:
    return SearchService(server.url, FAST)


def test_the_request_for_a_status(server):
    server.answers = [(200, "application/json", '{"result": {"count": 1, "content": [{"status": "Retired"}]}}')]
    assert statuses(server).open().status("do_1") == "Retired"
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/v3/search")
    assert request.headers["Content-Type"] == "application/json"
    filters = {"objectType": "Collection", "identifier": "do_1", "status": ["Live", "Unlisted", "Retired"]}
    assert orjson.loads(request.body) == {"request": {"filters": filters, "fields": ["status"]}}


def test_a_slash_at_the_end_of_the_address(server):
    SearchService(f"{server.url}/", FAST).open().status("do_1")
    assert server.requests[0].path == "/v3/search"


@pytest.mark.parametrize(
    ("status", "content_type", "text"),
    [
        (200, "application/json", '{"result": {"count": 0}}'),
        (200, "application/json", '{"result": {"count": 0, "content": []}}'),
        (200, "application/json", '{"result": {"count": 1, "content": []}}'),
        (200, "application/json", '{"result": {"count": 1, "content": [{}]}}'),
        (200, "application/json", '{"result": {"count": 1, "content": [{"status": 5}]}}'),
        (200, "application/json", '{"result": {"count": "1", "content": [{"status": "Live"}]}}'),
        (200, "application/json", '{"result": null}'),
        (200, "application/json", "{}"),
        (200, "application/json", "[]"),
        (200, "application/json", ""),
        (200, "text/html", "<html>Live</html>"),
        (404, "application/json", '{"result": {"count": 1, "content": [{"status": "Live"}]}}'),
        (201, "application/json", '{"result": {"count": 1, "content": [{"status": "Live"}]}}'),
        (500, "text/plain", "no"),
        (503, "text/plain", "busy"),
    ],
)
def test_no_status_is_known(server, status, content_type, text):
    server.answers = [(status, content_type, text)]
    assert statuses(server).open().status("do_1") is None


def test_the_call_is_repeatable(server):
    live = '{"result": {"count": 1, "content": [{"status": "Live"}]}}'
    server.answers = [(503, "text/plain", ""), (503, "text/plain", ""), (200, "application/json", live)]
    assert statuses(server).open().status("do_1") == "Live"


def test_a_search_service_that_is_not_there(nobody):
    with pytest.raises(StoreUnavailable, match=nobody):
        SearchService(nobody, FAST).open().status("do_1")
    with pytest.raises(StoreUnavailable, match=r"service\.search\.basePath"):
        SearchService(None, FAST).open().status("do_1")


def test_the_twin(request):
    twin = MemoryCollectionStatuses(request.node.name).open()
    twin.set_status("do_1", "Live")
    assert (twin.status("do_1"), twin.status("do_2")) == ("Live", None)
    twin.set_status("do_1", None)
    assert twin.status("do_1") is None
    assert twin.calls == ["do_1", "do_2", "do_1"]
    twin.unavailable = True
    with pytest.raises(StoreUnavailable):
        twin.status("do_1")
