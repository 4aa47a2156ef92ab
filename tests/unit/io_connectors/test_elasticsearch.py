"""The Elasticsearch client against servers of every kind (spec: core §9)."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable

import pytest

from io_connectors.elasticsearch import Elasticsearch, ElasticsearchDocuments
from tests.unit.io_connectors.answering import Answer, Answering, Asked, answering
from transforms.stores import Refused, StoreUnavailable

JSON = {"Content-Type": "application/json"}


def client(server: Answering) -> ElasticsearchDocuments:
    return Elasticsearch(server.url.removeprefix("http://"), retry_pauses=(0.01, 0.01)).open()


def bulk(*outcomes: dict[str, object]) -> Answer:
    items = [{"index": outcome} for outcome in outcomes]
    return Answer(200, json.dumps({"errors": True, "items": items}).encode(), JSON)


def one_after_the_other(*answers: Answer) -> Callable[[Asked], Answer]:
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize(
    ("number", "tagline"),
    [
        ("6.8.22", "You Know, for Search"),
        ("7.10.2", "The OpenSearch Project: https://opensearch.org/"),
        ("7.10.2", "You Know, for Search"),
        ("2.11.0", "The OpenSearch Project: https://opensearch.org/"),
        ("8.19.0", "You Know, for Search"),
    ],
)
def test_no_server_has_to_prove_its_name(number: str, tagline: str):
    def answer(asked: Asked) -> Answer:
        if asked.path == "/":
            return Answer(200, json.dumps({"version": {"number": number}, "tagline": tagline}).encode(), JSON)
        return Answer(200, b'{"result": "deleted"}', JSON)

    with answering(answer) as server:
        assert client(server).delete("certs", ["a/b"]) == [True]
        assert [(asked.method, asked.path) for asked in server.asked] == [("DELETE", "/certs/_doc/a%2Fb")]


@pytest.mark.parametrize("body", [b'{"result": "not_found"}', b'{"error": {"type": "index_not_found_exception"}}', b""])
def test_what_is_not_there_was_not_deleted(body: bytes):
    with answering(lambda _: Answer(404, body, JSON)) as server:
        assert client(server).delete("certs", ["a"]) == [False]
        assert client(server).has_index("certs") is False
        assert len(server.asked) == 2


def test_an_update_is_a_document_to_merge_and_to_create():
    with answering(lambda _: bulk({"_id": "a", "status": 200})) as server:
        client(server).update("certs", {"a": {"x": 1}})
        [asked] = server.asked
        lines = [json.loads(line) for line in asked.body.splitlines()]
        assert (asked.method, asked.path) == ("POST", "/_bulk")
        assert lines == [
            {"update": {"_id": "a", "_index": "certs", "retry_on_conflict": 3}},
            {"doc": {"x": 1}, "upsert": {"x": 1}},
        ]


class Before7:
    """What a server of that version answers: one of 6 takes nothing in bulk without a type."""

    def __init__(self, number: str) -> None:
        self.number = number

    def __call__(self, asked: Asked) -> Answer:
        if asked.path == "/":
            return Answer(200, json.dumps({"version": {"number": self.number}}).encode(), JSON)
        if b'"_type":"_doc"' in asked.body:
            return bulk({"_id": "a", "status": 200})
        error = {"type": "action_request_validation_exception", "reason": "Validation Failed: 1: type is missing;"}
        return Answer(400, json.dumps({"error": error, "status": 400}).encode(), JSON)


def test_a_server_of_6_gets_types():
    """spec: core §9, user-ownership-transfer §4: Elasticsearch 6.8 or 7"""
    with answering(Before7("6.8.22")) as server:
        documents = client(server)
        documents.change("course-batch", {"a": {"x": 1}})
        documents.index("certs", {"a": {"x": 1}})
        documents.update("certs", {"a": {"x": 1}})
        assert [asked.path.partition("?")[0] for asked in server.asked] == ["/_bulk", "/", *["/_bulk"] * 3]
        actions = [json.loads(asked.body.splitlines()[0]) for asked in server.asked[2:]]
        assert [action[name]["_type"] for action in actions for name in action] == ["_doc"] * 3


def test_another_server_that_calls_it_invalid_gets_none():
    with answering(Before7("7.17.13")) as server:
        for _ in range(2):
            with pytest.raises(Refused, match="status 400 action_request_validation_exception"):
                client(server).index("certs", {"a": {"x": 1}})
        assert b"_type" not in b"".join(asked.body for asked in server.asked)


def test_only_what_was_not_taken_for_now_is_sent_again():
    good, later = {"_id": "a", "status": 201}, {"_id": "b", "status": 429, "error": {"type": "rejected"}}
    refused = {"_id": "c", "status": 400, "error": {"type": "mapper_parsing_exception", "reason": "of secret-1"}}
    answers = one_after_the_other(bulk(good, later, refused), Answer(503), bulk({"_id": "b", "status": 200}))
    with answering(answers) as server:
        with pytest.raises(Refused, match="certs/c: status 400 mapper_parsing_exception") as error:
            client(server).index("certs", {id_: {"name": "secret-1"} for id_ in "abc"})
        assert "secret-1" not in str(error.value)
        sent = [[json.loads(line)["index"]["_id"] for line in asked.body.splitlines()[::2]] for asked in server.asked]
        assert sent == [["a", "b", "c"], ["b"], ["b"]]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_that_says_later_for_ever(status: int):
    with answering(lambda _: Answer(status, b"secret-1")) as server:
        with pytest.raises(StoreUnavailable, match=f"stays away: status {status}") as error:
            client(server).delete("certs", ["a"])
        assert "secret-1" not in str(error.value)
        assert len(server.asked) == 3


@pytest.mark.parametrize(("status", "error"), [(400, Refused), (401, StoreUnavailable), (403, StoreUnavailable)])
def test_a_final_answer_is_not_asked_for_twice(status: int, error: type[Exception]):
    body = json.dumps({"error": {"type": "some_exception", "reason": "of secret-1"}, "status": status}).encode()
    with answering(lambda _: Answer(status, body, JSON)) as server:
        for call in (
            lambda: client(server).delete("certs", ["a"]),
            lambda: client(server).get("certs", ["a"]),
            lambda: client(server).index("certs", {"a": {}}),
        ):
            server.asked.clear()
            with pytest.raises(error, match=f"{server.url[7:]}: status {status} some_exception") as raised:
                call()
            assert "secret-1" not in str(raised.value)
            assert len(server.asked) == 1


def test_an_answer_that_is_none_of_elasticsearchs():
    with answering(lambda _: Answer(200, b"<html>", {"Content-Type": "text/html"})) as server:
        with pytest.raises(StoreUnavailable, match="stays away: SerializationError"):
            client(server).get("certs", ["a"])
        assert len(server.asked) == 3


@pytest.mark.parametrize("hosts", ["", "localhost", "localhost:", ":9200", "a:9200,", "a:9200;b:9200", "a:x"])
def test_what_is_no_list_of_addresses(hosts: str):
    with pytest.raises(ValueError, match=r"es\.basePath"):
        Elasticsearch(hosts)


def test_a_copy_of_the_recipe_opens_the_same_client():
    recipe = Elasticsearch("127.0.0.1:1, 127.0.0.2:1")
    assert pickle.loads(pickle.dumps(recipe)).open() is recipe.open()  # noqa: S301 - our own bytes
