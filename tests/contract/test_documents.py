"""What transforms.services.Documents promises; twin and server alike (spec: core §9)."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace

import pytest

from io_connectors.elasticsearch import Elasticsearch
from schemas.elasticsearch import indexes
from tests.contract.proxy import Proxy
from transforms.services import Documents
from transforms.stores import Refused, StoreUnavailable

TEXT = "Ä ' \u0000 \r\n \U0001f600"
NO_TEXT = "\ud800"


def test_a_document_is_read_as_it_was_written(documents: Documents, index: str):
    document = {"text": TEXT, "number": 1.5, "none": None, "yes": True, "list": [1, 2], "object": {"a": []}}
    documents.index(index, {"a": document, "Ä/b?c=%20 d": {"x": 1}})
    assert documents.get(index, ["a", "missing", "Ä/b?c=%20 d", "a"]) == [document, None, {"x": 1}, document]


def test_indexing_replaces_all_of_a_document(documents: Documents, index: str):
    documents.index(index, {"a": {"x": 1, "y": 2}})
    documents.index(index, {"a": {"z": 3}})
    assert documents.get(index, ["a"]) == [{"z": 3}]


def test_an_update_merges_or_creates(documents: Documents, index: str):
    documents.index(index, {"a": {"x": 1, "o": {"p": 1, "q": [1, 2]}}})
    documents.update(index, {"a": {"y": None, "o": {"q": [3], "r": {"s": 1}}}, "b": {"o": {"p": 1}}})
    assert documents.get(index, ["a", "b"]) == [
        {"x": 1, "y": None, "o": {"p": 1, "q": [3], "r": {"s": 1}}},
        {"o": {"p": 1}},
    ]
    documents.update(index, {"a": {"o": {"r": None}}})
    assert documents.get(index, ["a"]) == [{"x": 1, "y": None, "o": {"p": 1, "q": [3], "r": None}}]


def test_a_change_is_of_what_is_there(documents: Documents, index: str):
    documents.index(index, {"a": {"x": 1, "o": {"p": 1}}, "c": {"x": 1}})
    documents.change(index, {"a": {"x": 2, "o": {"q": [1]}}, "missing": {"x": 2}, "c": {"y": None}})
    found = [{"x": 2, "o": {"p": 1, "q": [1]}}, None, {"x": 1, "y": None}]
    assert documents.get(index, ["a", "missing", "c"]) == found
    documents.change(index, {})
    with pytest.raises(Refused):
        documents.change(index, {"": {"x": 1}})


def test_many_documents(documents: Documents, index: str):
    many = {f"{n:04}": {"n": n} for n in range(2_300)}
    documents.index(index, many)
    assert documents.get(index, [*many, "missing"]) == [*many.values(), None]
    documents.update(index, {id_: {"m": document["n"]} for id_, document in many.items()})
    assert documents.get(index, ["0007", "2299"]) == [{"n": 7, "m": 7}, {"n": 2_299, "m": 2_299}]


@pytest.mark.parametrize("write", ["index", "update"])
def test_long_strings_at_the_top_are_cut(documents: Documents, index: str, write: str):
    longest = "ä" * 32_000
    long = {"a": longest, "b": longest + "x", "c": ["y" * 33_000], "d": {"e": "y" * 33_000}}
    getattr(documents, write)(index, {"a": long})
    assert documents.get(index, ["a"]) == [{**long, "b": longest}]
    assert long["b"] == longest + "x"


def test_deleting_says_which_were_there(documents: Documents, index: str):
    documents.index(index, {"a": {"x": 1}, "Ä/b": {"x": 2}, "c": {"x": 3}})
    assert documents.delete(index, ["a", "missing", "Ä/b"]) == [True, False, True]
    assert documents.delete(index, ["a"]) == [False]
    assert documents.get(index, ["a", "Ä/b", "c"]) == [None, None, {"x": 3}]


def test_a_missing_index_is_like_a_missing_document(documents: Documents, index: str):
    assert documents.delete(index, ["a", "b"]) == [False, False]
    assert documents.get(index, ["a", "b"]) == [None, None]
    assert documents.has_index(index) is False
    documents.index(index, {"a": {}})
    assert documents.has_index(index) is True


def test_nothing_to_do(documents: Documents, index: str):
    documents.index(index, {})
    documents.update(index, {})
    assert (documents.get(index, []), documents.delete(index, [])) == ([], [])
    assert documents.has_index(index) is False


@pytest.mark.parametrize("id_", ["", NO_TEXT, 5, None, "ä" * 257])
def test_what_is_no_id_is_refused(documents: Documents, index: str, id_: str):
    for call in (
        lambda: documents.index(index, {id_: {}}),
        lambda: documents.update(index, {id_: {}}),
        lambda: documents.get(index, [id_]),
        lambda: documents.delete(index, [id_]),
    ):
        with pytest.raises(Refused):
            call()
    assert documents.has_index(index) is False


@pytest.mark.parametrize("document", [{"a": NO_TEXT}, {"a": {"b": [NO_TEXT]}}, {"a": {1, 2}}, {5: "a"}])
def test_what_is_no_json_is_refused_before_anything_is_written(documents: Documents, index: str, document):
    for write in (documents.index, documents.update):
        with pytest.raises(Refused):
            write(index, {"good": {"x": 1}, "bad": document})
    assert documents.get(index, ["good"]) == [None]


def test_the_longest_ids(documents: Documents, index: str):
    longest = "ä" * 256
    documents.index(index, {longest: {"n": 1}})
    documents.update(index, {longest: {"m": 1}})
    assert documents.get(index, [longest]) == [{"n": 1, "m": 1}]
    assert documents.delete(index, [longest]) == [True]


@pytest.mark.parametrize("name", ["", "Upper", "with space", "-a", "a*", "a,b", NO_TEXT])
def test_what_is_no_name_of_an_index_is_refused(documents: Documents, name: str):
    for write in (documents.index, documents.update):
        with pytest.raises(Refused):
            write(name, {"a": {"x": 1}})


# --- the real server alone


@pytest.mark.stack
def test_a_document_that_the_index_does_not_take_is_refused_and_not_quoted(elasticsearch: Elasticsearch):
    documents = elasticsearch.open()
    good = {"isRevoked": False, "createdAt": "2024-06-12T00:00:00Z"}
    with pytest.raises(Refused, match="certs/contract-b: status 400 mapper_parsing_exception") as refused:
        documents.index("certs", {"contract-a": good, "contract-b": {"createdAt": "Somebody"}, "contract-c": good})
    assert "Somebody" not in str(refused.value)
    assert documents.get("certs", ["contract-a", "contract-b", "contract-c"]) == [good, None, good]
    assert documents.delete("certs", ["contract-a", "contract-b", "contract-c"]) == [True, False, True]


@pytest.mark.stack
def test_the_index_of_certificates_has_its_mapping(elasticsearch: Elasticsearch):
    client = elasticsearch.open()._client
    found = client.indices.get_mapping(index="certs")["certs"]["mappings"]
    wanted = indexes()["certs"]["mappings"]
    # an object is what has properties, or says so
    assert found == json.loads(json.dumps(wanted).replace("false", '"false"'))


@pytest.mark.stack
def test_a_search_finds_what_was_changed_at_once(elasticsearch: Elasticsearch):
    """spec: user-ownership-transfer §3.4, in the index that it is for"""
    documents = elasticsearch.open()
    batch = {"batchId": "contract-b", "createdBy": "Teacher-1", "mentors": ["Teacher-1"], "status": 1}

    def found(by: str) -> list[str]:
        hits = documents._client.search(index="course-batch", query={"term": {"createdBy.raw": by}})["hits"]["hits"]
        return [hit["_id"] for hit in hits]

    try:
        documents.index("course-batch", {"contract-b": batch})
        documents.change("course-batch", {"contract-b": {"createdBy": "Teacher-2"}})
        assert (found("teacher-1"), found("Teacher-2")) == ([], ["contract-b"])
    finally:
        documents.delete("course-batch", ["contract-b"])


@pytest.mark.stack
def test_elasticsearch_comes_back_while_it_is_waited_for(elasticsearch: Elasticsearch, index: str):
    host, port = elasticsearch.hosts.split(":")
    proxy = Proxy(host, int(port))
    try:
        documents = replace(elasticsearch, hosts=f"{host}:{proxy.port}", retry_pauses=(0.1, 0.2, 0.4, 0.8, 1.6)).open()
        documents.index(index, {"a": {"x": 1}})
        proxy.cut()
        timer = threading.Timer(0.5, proxy.restore)
        timer.start()
        assert documents.delete(index, ["a", "b"]) == [True, False]
        timer.join()
        proxy.silence()
        hurried = replace(elasticsearch, hosts=f"{host}:{proxy.port}", timeout=0.3, retry_pauses=(0.05,)).open()
        begin = time.monotonic()
        with pytest.raises(StoreUnavailable, match=f"{host}:{proxy.port} stays away: ConnectionTimeout"):
            hurried.update(index, {"late": {"x": 1}})
        assert time.monotonic() - begin < 20
        proxy.restore()
        documents.update(index, {"a": {"x": 2}})
        assert documents.get(index, ["a"]) == [{"x": 2}]
    finally:
        proxy.end()


@pytest.mark.stack
def test_one_of_several_hosts_is_enough(elasticsearch: Elasticsearch, index: str):
    documents = replace(elasticsearch, hosts=f"127.0.0.1:1, {elasticsearch.hosts}", retry_pauses=(0.05, 0.05)).open()
    for _ in range(4):
        assert documents.has_index(index) is False
    documents.index(index, {"a": {"x": 1}})
    assert documents.get(index, ["a"]) == [{"x": 1}]
