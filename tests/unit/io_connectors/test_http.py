"""The HTTP client against a server that misbehaves (spec: core §8)."""

from __future__ import annotations

import gzip
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import orjson
import pytest

from io_connectors import http
from io_connectors.http import LATER, BodyRefused, Http, HttpResult, Unsendable
from io_connectors.memory import MemoryCollectionStatuses
from io_connectors.services import SearchService
from tests.unit.io_connectors.answering import dripping
from transforms.services import OutcomeUnknown, ServiceRefused
from transforms.stores import StoreUnavailable

FAST = Http(connect_timeout=10.0, read_timeout=20.0, retry_pauses=(0.01, 0.01))
HURRIED = replace(FAST, read_timeout=0.3)


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server:
    """Answers with what it was told, one after the other, the last for ever; notes what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str, str | bytes]] = [(200, "text/plain", "")]
        self.headers: dict[str, str] = {}
        self.cut = 0
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
                content = text if isinstance(text, bytes) else text.encode()
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content) + outer.cut))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)
                self.close_connection = bool(outer.cut)

            do_GET = do_POST = do_PATCH = do_HEAD = do_DELETE = handle_one

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
def nobody(nobody: int) -> str:
    """An address where nobody listens."""
    return f"http://127.0.0.1:{nobody}"


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
        HURRIED.open().call("GET", server.url)
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


def test_a_connection_that_was_dropped_silently_is_not_used_after_a_while(monkeypatch) -> None:
    """What goes over it gets no answer, and nobody could say whether it was done."""
    served = []

    def serve_once(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        served.append(connection.dup())  # it stays open, and nobody listens any more

    with dripping(serve_once) as url:
        calls = HURRIED.open()
        assert calls.create(url).text == "ok"
        with pytest.raises(OutcomeUnknown):
            calls.create(url)
        monkeypatch.setattr(http, "IDLE_SECONDS", 0.0)
        assert [calls.create(url).text for _ in range(3)] == ["ok"] * 3
    for connection in served:
        connection.close()


def test_the_environment_has_no_say(server, monkeypatch, nobody):
    monkeypatch.setenv("http_proxy", nobody)
    assert Http(retry_pauses=()).open().call("GET", server.url).status == 200


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_the_statuses_that_are_tried_again_may_be_given(server, status):
    server.answers = [(status, "text/plain", ""), (200, "text/plain", "here")]
    assert FAST.open().call("DELETE", server.url, repeatable=True, again=LATER) == HttpResult(200, "here")
    server.answers = [(status, "text/plain", "")]
    assert FAST.open().call("POST", server.url, again=LATER).status == status
    assert len(server.requests) == 3


# --- creates: core §8 has none; spec: collection-certificate-generator §6


@pytest.mark.parametrize("status", [429, 503])
def test_a_create_is_tried_again_when_it_was_surely_not_done(server, status):
    server.answers = [(status, "text/plain", ""), (status, "text/plain", ""), (200, "text/plain", "made")]
    assert FAST.open().create(server.url, data=b"x") == HttpResult(200, "made")
    assert [request.body for request in server.requests] == [b"x"] * 3
    server.answers = [(status, "text/plain", "")]
    with pytest.raises(StoreUnavailable, match=f"{server.url} answers {status}") as raised:
        FAST.open().create(server.url)
    assert not isinstance(raised.value, OutcomeUnknown)
    assert len(server.requests) == 6


@pytest.mark.parametrize("status", [408, 502, 504])
def test_nobody_can_say_whether_a_create_was_done(server, status):
    server.answers = [(status, "text/plain", "")]
    with pytest.raises(OutcomeUnknown, match=f"{server.url} answers {status}"):
        FAST.open().create(server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [200, 302, 400, 500])
def test_other_answers_to_a_create_are_given(server, status):
    server.answers = [(status, "text/plain", "so")]
    server.headers = {"Location": "/elsewhere"}
    assert FAST.open().create(server.url) == HttpResult(status, "so")
    assert len(server.requests) == 1


def test_a_create_that_is_not_answered_in_time_or_in_full(server):
    server.cut = 10
    with pytest.raises(OutcomeUnknown, match="in full"):
        FAST.open().create(server.url)
    assert len(server.requests) == 1
    server.hang.clear()
    with pytest.raises(OutcomeUnknown, match=server.url):
        HURRIED.open().create(server.url)
    assert len(server.requests) == 2


def test_a_create_where_nobody_is(nobody):
    begin = time.monotonic()
    with pytest.raises(StoreUnavailable, match=nobody) as raised:
        Http(retry_pauses=(0.1, 0.2)).open().create(nobody)
    assert not isinstance(raised.value, OutcomeUnknown)
    assert time.monotonic() - begin >= 0.3


def _speaks_no_tls(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def _hangs_up(_: socket.socket) -> None:
    pass


def _is_silent(connection: socket.socket) -> None:
    while connection.recv(65_536):
        pass


@pytest.mark.parametrize("serve", [_speaks_no_tls, _hangs_up, _is_silent])
def test_a_create_was_surely_not_done_without_tls(serve):
    """Nothing of a request is sent before both sides have agreed on TLS."""
    connections: list[socket.socket] = []

    def note(connection: socket.socket) -> None:
        connections.append(connection)
        serve(connection)

    with dripping(note) as url:
        client = replace(FAST, connect_timeout=0.3).open()
        with pytest.raises(StoreUnavailable, match="https://127") as raised:
            client.create(url.replace("http:", "https:"), data=b"x")
    assert not isinstance(raised.value, OutcomeUnknown)
    assert len(connections) == 3


# --- bodies


def test_an_answer_has_a_limit(server):
    server.answers = [(200, "text/plain", "x" * 300_000)]
    assert len(FAST.open().call("GET", server.url, limit=300_000).text) == 300_000
    with pytest.raises(BodyRefused, match=f"{server.url} answers 200 with a body that is larger"):
        FAST.open().call("GET", server.url, limit=299_999)
    with pytest.raises(BodyRefused):
        FAST.open().fetch(server.url, limit=299_999)
    assert len(server.requests) == 3


def test_a_file_comes_as_it_is(server):
    server.answers = [(404, "image/svg+xml", b"\xff\xfe<svg>")]
    assert FAST.open().fetch(server.url, limit=100) == (404, b"\xff\xfe<svg>")
    assert FAST.open().call("GET", server.url).text == "\ufffd\ufffd<svg>"


@pytest.mark.parametrize(
    ("content_type", "content", "text"),
    [
        ("text/plain; charset=latin-1", b"\xe4", "ä"),
        ("text/html", "ä".encode(), "ä"),
        ("text/plain; charset=nonsense", "ä".encode(), "ä"),
    ],
)
def test_the_charset_of_an_answer(server, content_type, content, text):
    server.answers = [(200, content_type, content)]
    assert FAST.open().call("GET", server.url).text == text


def test_compressed_answers(server):
    server.headers = {"Content-Encoding": "gzip"}
    server.answers = [(200, "text/plain", gzip.compress(b"x" * 1000))]
    assert FAST.open().call("GET", server.url) == HttpResult(200, "x" * 1000)
    with pytest.raises(BodyRefused):
        FAST.open().call("GET", server.url, limit=999)
    server.answers = [(200, "text/plain", "not compressed")]
    for limit in (None, 1000):
        with pytest.raises(BodyRefused, match="encoding"):
            FAST.open().call("GET", server.url, limit=limit)


def test_an_answer_that_never_ends() -> None:
    """A byte now and then would keep the time-out of a single read from coming."""

    def send(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.05)

    recipe = Http(connect_timeout=1.0, read_timeout=0.1, retry_pauses=())
    with dripping(send) as url, pytest.raises(StoreUnavailable, match=r"takes longer than 0\.5 seconds"):
        recipe.open().call("GET", url)


def test_an_answer_in_chunks_leaves_its_connection_to_the_next() -> None:
    connections = []

    def send(connection: socket.socket) -> None:
        connections.append(connection)
        for _ in range(2):
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.sendall(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
            connection.recv(65_536)

    with dripping(send) as url:
        assert [FAST.open().call("GET", url).text for _ in range(2)] == ["abcde"] * 2
    assert len(connections) == 1


def test_an_answer_that_breaks_off(server):
    server.cut = 10
    with pytest.raises(StoreUnavailable, match=server.url):
        FAST.open().call("GET", server.url)
    assert len(server.requests) == 3


# --- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_redirect_is_followed(server, method, status):
    server.answers = [(status, "text/plain", "there"), (200, "text/plain", "here")]
    server.headers = {"Location": "/other?x=1"}
    headers = {"Authorization": "key"}
    assert FAST.open().call(method, f"{server.url}/a", headers=headers).status == 200
    assert [(request.method, request.path) for request in server.requests] == [(method, "/a"), (method, "/other?x=1")]
    assert server.requests[1].headers["Authorization"] == "key"


def test_a_key_does_not_go_to_another_host(server):
    server.answers = [(302, "text/plain", ""), (200, "text/plain", "here")]
    server.headers = {"Location": server.url.replace("127.0.0.1", "localhost")}
    FAST.open().call("GET", server.url, headers={"Authorization": "key"})
    assert ["Authorization" in request.headers for request in server.requests] == [True, False]


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "file:///etc/hostname", "http://[1", "javascript:x"])
def test_a_redirect_to_elsewhere_is_an_answer(server, location):
    server.answers = [(302, "text/plain", "there")]
    server.headers = {"Location": location}
    assert FAST.open().call("GET", server.url) == HttpResult(302, "there")
    assert len(server.requests) == 1


def test_redirects_that_do_not_end(server):
    server.answers = [(302, "text/plain", "there")]
    server.headers = {"Location": "/"}
    with pytest.raises(ServiceRefused, match="redirects"):
        FAST.open().call("GET", server.url)
    assert len(server.requests) == 6


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH"])
def test_other_methods_are_not_redirected(server, method):
    server.answers = [(302, "text/plain", "there")]
    server.headers = {"Location": "/other"}
    assert FAST.open().call(method, server.url).status == 302
    assert len(server.requests) == 1


# --- what can not be sent, and what is not told


@pytest.mark.parametrize("url", ["", "/path", "host:80/path", "ftp://host/", "http://", "http://[1/", "http://*.x\n/"])
def test_what_is_no_address(url):
    with pytest.raises(Unsendable):
        FAST.open().call("GET", url)


@pytest.mark.parametrize("value", ["secret\nsecret", "secret\u20ac"])
def test_a_header_that_can_not_be_sent(server, value):
    with pytest.raises(Unsendable) as raised:
        FAST.open().call("GET", server.url, headers={"Authorization": value})
    assert "secret" not in str(raised.value)
    assert server.requests == []


def test_messages_tell_the_address_only(nobody):
    secret = nobody.replace("//", "//name:secret@")
    with pytest.raises(StoreUnavailable) as raised:
        FAST.open().call("GET", f"{secret}/learner-1?secret=1", headers={"Authorization": "secret"})
    assert str(raised.value) == f"{nobody} does not answer: ConnectionError (Connection refused)"


def test_a_traceback_tells_the_address_only(server, nobody):
    """Beam logs the traceback of what fails a bundle, with all errors that it is chained to."""
    server.cut = 10
    calls = replace(FAST, retry_pauses=()).open()
    path = "/learner-1?signature=1"
    for url in (nobody + path, server.url + path):
        with pytest.raises(StoreUnavailable) as raised:
            calls.call("DELETE", url)
        assert path not in "".join(traceback.format_exception(raised.value))


def test_cookies_are_not_kept(server):
    server.headers = {"Set-Cookie": "a=b"}
    for _ in range(2):
        FAST.open().call("GET", server.url)
    assert "Cookie" not in server.requests[1].headers


def test_threads_share_the_client_and_its_connections(server):
    calls = Http(pool=8).open()
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda n: calls.call("POST", server.url, data=b"%d" % n).status, range(200)))
    assert texts == [200] * 200
    assert sorted(int(request.body) for request in server.requests) == list(range(200))


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
