"""The content service at one address: its answers, whatever their status (assessment-aggregator §3.4)."""

from __future__ import annotations

import pickle

import orjson
import pytest

from io_connectors.memory_http import MemoryHttp
from io_connectors.services import ContentReadApi
from transforms.services import ServiceRefused
from transforms.stores import StoreUnavailable


@pytest.fixture
def http(request: pytest.FixtureRequest) -> MemoryHttp:
    return MemoryHttp(request.node.name)


@pytest.mark.parametrize(
    "prefix", ["http://sunbird.test/api/content/v1/read/", "http://sunbird.test/api/content/v1/read"]
)
def test_the_id_comes_after_the_prefix(http: MemoryHttp, prefix: str):
    answer = {"responseCode": "ok", "result": {"content": {"totalQuestions": 5}}}
    calls = http.serve(lambda *_: (500, orjson.dumps(answer)))
    assert ContentReadApi(prefix, http).open().read("do_1 /?") == {"totalQuestions": 5}
    assert [(call.method, call.path) for call in calls.calls] == [("GET", "/api/content/v1/read/do_1%20%2F%3F")]


@pytest.mark.parametrize("result", [None, [], {}, {"content": None}, {"content": "x"}])
def test_an_answer_without_content(http: MemoryHttp, result: object):
    http.serve(lambda *_: (200, orjson.dumps({"responseCode": "OK", "result": result})))
    assert ContentReadApi("http://sunbird.test", http).open().read("do_1") == {}


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "5", "null", "{}", '{"responseCode":"CLIENT_ERROR"}', '{"responseCode":null}']
)
def test_any_other_answer_is_refused(http: MemoryHttp, body: str):
    calls = http.serve(lambda *_: (200, body))
    with pytest.raises(ServiceRefused):
        ContentReadApi("http://sunbird.test", http).open().read("do_1")
    assert len(calls.calls) == 1


def test_a_service_that_does_not_answer_is_asked_three_times(http: MemoryHttp):
    calls = http.open()
    with pytest.raises(ServiceRefused, match="does not answer"):
        ContentReadApi("http://sunbird.test", http).open().read("do_1")
    assert len(calls.calls) == 3


def test_an_address_that_is_none_stops_the_job(http: MemoryHttp):
    with pytest.raises(StoreUnavailable):
        ContentReadApi("ftp://sunbird.test", http).open().read("do_1")


def test_an_id_that_is_no_part_of_an_address(http: MemoryHttp):
    with pytest.raises(ServiceRefused):
        ContentReadApi("http://sunbird.test", http).open().read("..")


def test_the_recipe_is_a_value(http: MemoryHttp):
    recipe = ContentReadApi("http://sunbird.test", http)
    assert pickle.loads(pickle.dumps(recipe)) == recipe  # noqa: S301 - our own bytes
