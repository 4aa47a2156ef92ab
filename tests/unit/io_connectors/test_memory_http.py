"""HTTP in memory: the same rules as over sockets, and what a test may ask of it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import pytest

from io_connectors.http import BodyRefused, HttpResult, NoAnswer, Unsendable
from io_connectors.memory_http import MemoryCall, MemoryHttp, MemoryHttpCalls
from transforms.services import OutcomeUnknown
from transforms.stores import StoreUnavailable

URL = "http://sunbird.test"


def echo(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    return 200, f"{method} {path} {body.decode()}"


@pytest.fixture
def twin(request: pytest.FixtureRequest) -> MemoryHttpCalls:
    return MemoryHttp(request.node.name).serve(echo)


def test_a_recipe_opens_the_client_of_its_name(request, twin):
    recipe = MemoryHttp(request.node.name)
    assert pickle.loads(pickle.dumps(recipe)).open() is twin  # noqa: S301 - our own bytes
    assert MemoryHttp("another").open() is not twin


def test_the_handler_gets_what_a_server_would(twin):
    assert twin.call("POST", f"{URL}/a%2Fb?x,y", data=b"body", headers={"A": "b"}) == HttpResult(
        200, "POST /a%2Fb?x,y body"
    )
    [call] = twin.calls
    assert (call.method, call.path, call.headers["a"], call.body) == ("POST", "/a%2Fb?x,y", "b", b"body")
    assert twin.call("GET", URL).text == "GET / "
    assert twin.calls[1].headers["Content-Type"] == "application/json"


def test_nobody_is_there_without_a_handler(request):
    twin = MemoryHttp(request.node.name).open()
    for call in (lambda: twin.call("GET", URL), lambda: twin.create(URL)):
        with pytest.raises(StoreUnavailable) as raised:
            call()
        assert not isinstance(raised.value, OutcomeUnknown)
    assert twin.count() == 6


def test_connect_errors_on_demand(twin):
    twin.refuse(2, "/a")
    assert twin.call("GET", f"{URL}/b").status == 200
    assert twin.call("GET", f"{URL}/a").status == 200
    assert (twin.count("/a"), twin.count("/b"), twin.count(), twin.count("/a", "POST")) == (3, 1, 4, 0)
    twin.refuse(2)
    assert twin.create(URL).status == 200
    twin.refuse(1)
    with pytest.raises(StoreUnavailable):
        twin.call("POST", URL)


@pytest.mark.parametrize("processed", [False, True])
def test_time_outs_on_demand(twin, processed):
    done: list[MemoryCall] = []

    def handler(*call: object) -> tuple[int, str]:
        done.append(MemoryCall(*call))  # type: ignore[arg-type]
        return 200, ""

    twin.handler = handler
    twin.hang(1, processed=processed)
    with pytest.raises(OutcomeUnknown):
        twin.create(URL)
    assert len(done) == processed
    twin.hang(3, processed=processed)
    with pytest.raises(StoreUnavailable):
        twin.call("GET", URL)
    assert twin.count("/", "GET") == 3
    twin.hang(1)
    twin.clear()
    assert twin.create(URL).status == 200
    assert twin.count() == 1


def test_a_handler_may_give_no_answer(twin):
    def handler(*_: object) -> tuple[int, str]:
        raise NoAnswer("lost")

    twin.handler = handler
    with pytest.raises(OutcomeUnknown, match="lost"):
        twin.create(URL)
    assert twin.in_flight == 0


def test_answers_are_read_as_those_of_a_server(twin):
    twin.handler = lambda *_: (200, b"\xff" * 10)
    assert twin.fetch(URL, limit=10) == (200, b"\xff" * 10)
    assert twin.call("GET", URL).text == "\ufffd" * 10
    with pytest.raises(BodyRefused):
        twin.fetch(URL, limit=9)
    with pytest.raises(Unsendable):
        twin.call("GET", "ftp://sunbird.test")
