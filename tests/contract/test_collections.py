"""What transforms.stores.Collections promises; twin and server alike (spec: core §10, ml-user-delete §3)."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from bson import Int64, ObjectId
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    WriteError,
    WTimeoutError,
)

from io_connectors.mongo import Mongo
from tests.contract.proxy import Proxy, ProxyTo
from transforms.ml_documents import absent_or_object
from transforms.stores import Collections, Refused, StoreUnavailable

TEXT = "Ä ' \u0000 \r\n \U0001f600"
ROLE, ONE, TWO = (ObjectId() for _ in range(3))

SHAPES: dict[str, Any] = {
    "an object": {"a": 1},
    "an empty object": {},
    "null": None,
    "a text": "CC BY 4.0",
    "a number": 1.5,
    "an id": ONE,
    "a time": datetime(2024, 6, 24, 3, 58),
    "yes": True,
    "an empty list": [],
    "a list": ["x"],
    "a list of objects": [{"a": 1}],
}


def put(collections: Collections, name: str, **documents: Any) -> None:
    """Documents by their ids; ``...`` as value of a member leaves it out."""
    for id_, document in documents.items():
        fields = {field: value for field, value in document.items() if value is not ...}
        assert collections.insert_if_missing(name, {"_id": id_}, fields) is True


def found(collections: Collections, name: str, where: dict[str, Any]) -> list[Any]:
    return sorted(document["_id"] for document in collections.find(name, where))


def only(collections: Collections, name: str) -> dict[str, Any]:
    [document] = collections.find(name, {})
    del document["_id"]
    return document


def test_a_document_is_read_as_it_was_written(collections: Collections, name: str):
    document = {
        "text": TEXT,
        "numbers": [1, -1.5, Int64(2**40)],
        "id": ONE,
        "time": datetime(2024, 6, 24, 3, 58, 0, 963_000),
        "none": None,
        "yes": True,
        "object": {"a": {"b": []}},
    }
    assert collections.insert_if_missing(name, {"userId": "learner-1"}, document) is True
    read = only(collections, name)
    assert read == {"userId": "learner-1", **document}
    assert list(read) == ["userId", *document]


def test_a_collection_that_is_not_there_has_no_documents(collections: Collections, name: str):
    assert collections.find(name, {"a": 1}) == []
    assert collections.update(name, {"a": 1}, {"$set": {"b": 1}}) == (0, 0)
    assert collections.find(name, {}) == []


def test_a_document_is_made_once(collections: Collections, name: str):
    assert collections.insert_if_missing(name, {"userId": "learner-1"}, {"status": "active", "devices": []}) is True
    assert collections.insert_if_missing(name, {"userId": "learner-1"}, {"status": "other", "more": 1}) is False
    assert only(collections, name) == {"userId": "learner-1", "status": "active", "devices": []}


def test_an_update_changes_all_that_match_and_says_how_many(collections: Collections, name: str):
    put(collections, name, a={"u": "x"}, b={"u": "x", "creator": "D"}, c={"u": "y"}, d={"u": ["x", "y"]}, e={})
    change = {"$set": {"creator": "D"}}
    assert collections.update(name, {"u": "x"}, change) == (3, 2)
    assert collections.update(name, {"u": "x"}, change) == (3, 0)
    assert found(collections, name, {"creator": "D"}) == ["a", "b", "d"]


def test_setting_makes_the_parents_and_unsetting_makes_nothing(collections: Collections, name: str):
    """ml-user-delete §3: semantics to keep"""
    put(collections, name, a={"u": 1})
    change = {"$set": {"o.p.first": "D"}, "$unset": {"o.p.last": "", "q.r": ""}}
    assert collections.update(name, {"u": 1}, change) == (1, 1)
    assert only(collections, name) == {"u": 1, "o": {"p": {"first": "D"}}}


def test_only_what_is_named_is_removed(collections: Collections, name: str):
    put(collections, name, a={"p": {"last": "x", "email": None, "kept": [1]}, "last": "kept"})
    change = {"$set": {"p.first": "D"}, "$unset": {"p.last": "", "p.email": "", "p.phone": ""}}
    assert collections.update(name, {}, change) == (1, 1)
    assert only(collections, name) == {"p": {"kept": [1], "first": "D"}, "last": "kept"}


def test_which_documents_have_nothing_or_an_object(collections: Collections, name: str):
    """ml-user-delete §3: the guards"""
    put(collections, name, **{shape: {"p": value, "o": {"p": value}} for shape, value in SHAPES.items()})
    put(collections, name, missing={"o": {}})
    fit = ["an empty object", "an object", "missing"]
    for path in ("p", "o.p"):
        assert found(collections, name, absent_or_object(path)) == fit
        others = sorted(SHAPES.keys() - set(fit))
        assert found(collections, name, {"$nor": [absent_or_object(path)]}) == others


def test_the_guard_lets_an_update_pass_documents_that_it_can_not_change(collections: Collections, name: str):
    put(collections, name, **{shape: {"u": 1, "p": value} for shape, value in SHAPES.items()})
    assert collections.update(name, {"u": 1, **absent_or_object("p")}, {"$set": {"p.first": "D"}}) == (2, 2)
    assert found(collections, name, {"p.first": "D"}) == ["an empty object", "an object"]
    assert found(collections, name, {"p": None}) == ["null"]


@pytest.mark.parametrize("shape", ["a text", "a number", "yes", "a list of objects"])
def test_a_field_in_what_is_no_object_is_refused_and_not_quoted(collections: Collections, name: str, shape: str):
    put(collections, name, a={"u": "learner-1", "p": SHAPES[shape]})
    with pytest.raises(Refused) as refused:
        collections.update(name, {"u": "learner-1"}, {"$set": {"p.first": "D"}})
    assert "CC BY" not in str(refused.value)
    assert only(collections, name) == {"u": "learner-1", "p": SHAPES[shape]}


ROLES: list[Any] = [
    {"roleId": ROLE, "code": "PROGRAM_MANAGER", "programs": [ONE, TWO]},
    {"code": "X", "programs": None},
    "odd",
    {"n": Int64(5), "t": datetime(2024, 6, 24), "o": {"a": [1.5]}},
]


@pytest.mark.parametrize("roles", [ROLES, [], [{}], [[]], None, "odd", {"a": 1}, ...])
def test_a_value_is_replaced_where_it_is_still_what_was_read(collections: Collections, name: str, roles: Any):
    """ml-transfer-ownership §6"""
    put(collections, name, a={"roles": roles}, b={"roles": "another document"})
    read = next(document for document in collections.find(name, {"_id": "a"}))
    for other in (ROLES[:-1], [*ROLES, 1], [{**ROLES[0], "programs": [TWO, ONE]}, *ROLES[1:]], [None], 1):
        assert collections.update(name, {"_id": "a", "roles": other}, {"$set": {"roles": 1}}) == (0, 0)
    where = {"_id": "a", "roles": read.get("roles")}
    assert collections.update(name, where, {"$set": {"roles": [TWO]}}) == (1, 1)
    assert collections.update(name, where, {"$set": {"roles": [ONE]}}) == (0, 0)
    assert collections.update(name, {"_id": "a", "roles": [TWO]}, {"$unset": {"roles": ""}}) == (1, 1)
    assert collections.find(name, {"_id": "a"}) == [{"_id": "a"}]


def test_an_id_is_no_text(collections: Collections, name: str):
    """ml-transfer-ownership §4: the types matter"""
    for id_ in (ONE, str(ONE)):
        assert collections.insert_if_missing(name, {"_id": id_}, {"programs": [ONE, str(ONE)]}) is True
    assert collections.update(name, {"_id": ONE}, {"$set": {"owner": "learner-1"}}) == (1, 1)
    assert collections.find(name, {"owner": "learner-1"}) == [
        {"_id": ONE, "programs": [ONE, str(ONE)], "owner": "learner-1"}
    ]


def test_several_values_are_looked_for_at_once(collections: Collections, name: str):
    put(collections, name, a={"code": "PM"}, b={"code": "PD"}, c={"code": "HM"}, d={})
    assert found(collections, name, {"code": {"$in": ["PM", "HM", "?"]}}) == ["a", "c"]


@pytest.mark.parametrize("value", ["\ud800", 2**70, object(), {1, 2}, {5: "a"}, {"a\0": 1}])
def test_what_is_no_bson_is_refused_before_anything_is_written(collections: Collections, name: str, value: Any):
    put(collections, name, a={"x": 1})
    for call in (
        lambda: collections.find(name, {"x": value}),
        lambda: collections.update(name, {"x": value}, {"$set": {"y": 1}}),
        lambda: collections.update(name, {}, {"$set": {"y": value}}),
        lambda: collections.insert_if_missing(name, {"x": 2}, {"y": value}),
    ):
        with pytest.raises(Refused, match="no BSON"):
            call()
    assert only(collections, name) == {"x": 1}


def test_many_documents(collections: Collections, name: str):
    for n in range(300):
        collections.insert_if_missing(name, {"n": n}, {"u": n % 2})
    assert collections.update(name, {"u": 1}, {"$set": {"p.first": "D"}}) == (150, 150)
    assert sorted(document["n"] for document in collections.find(name, {"p.first": "D"})) == list(range(1, 300, 2))


def test_many_threads(collections: Collections, name: str):
    def work(n: int) -> None:
        for m in range(10):
            collections.insert_if_missing(name, {"n": n, "m": m}, {"x": 1})
            collections.update(name, {"n": n, "m": m}, {"$set": {"x": m}})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((d["n"], d["m"], d["x"]) for d in collections.find(name, {})) == [
        (n, m, m) for n in range(8) for m in range(10)
    ]


# --- the real server alone


@pytest.fixture
def proxy(mongo: Mongo, proxy_to: ProxyTo) -> Proxy:
    return proxy_to(mongo.hosts, mongo.port)


@pytest.mark.stack
def test_mongo_comes_back_while_it_is_waited_for(mongo: Mongo, opened: Any, proxy: Proxy, name: str):
    client = opened(replace(mongo, port=proxy.port, connect_timeout=0.5, retry_pauses=(0.1, 0.2, 0.4, 0.8, 1.6)))
    put(client, name, a={"u": 1})
    proxy.cut()
    timer = threading.Timer(0.7, proxy.restore)
    timer.start()
    assert client.update(name, {"u": 1}, {"$set": {"x": 1}}) == (1, 1)
    timer.join()
    assert only(client, name) == {"u": 1, "x": 1}


@pytest.mark.stack
def test_mongo_stays_away_and_comes_back_later(mongo: Mongo, opened: Any, proxy: Proxy, name: str):
    client = opened(replace(mongo, port=proxy.port, connect_timeout=0.3, retry_pauses=(0.05, 0.1)))
    put(client, name, a={"u": 1})
    proxy.cut()
    begin = time.monotonic()
    for call in (
        lambda: client.find(name, {}),
        lambda: client.update(name, {}, {"$set": {"x": 1}}),
        lambda: client.insert_if_missing(name, {"u": 2}, {}),
    ):
        with pytest.raises(StoreUnavailable, match=rf"127.0.0.1:{proxy.port}, database {mongo.database} stays away"):
            call()
    assert time.monotonic() - begin < 20
    proxy.restore()
    assert only(client, name) == {"u": 1}


@pytest.mark.stack
def test_mongo_that_does_not_answer_in_time(mongo: Mongo, opened: Any, proxy: Proxy, name: str):
    """ml-user-delete §6: every update has a time limit"""
    recipe = replace(mongo, port=proxy.port, connect_timeout=0.3, call_timeout=0.4, retry_pauses=(0.05,))
    client = opened(recipe)
    put(client, name, a={"u": 1})
    proxy.silence()
    begin = time.monotonic()
    with pytest.raises(StoreUnavailable, match=rf"127.0.0.1:{proxy.port}"):
        client.update(name, {"u": 1}, {"$set": {"x": 1}})
    assert time.monotonic() - begin < 20
    proxy.restore()
    assert client.update(name, {"u": 1}, {"$set": {"x": 2}}).matched == 1


@pytest.mark.stack
def test_an_update_whose_answer_was_lost_is_made_again(mongo: Mongo, opened: Any, proxy: Proxy, name: str):
    client = opened(replace(mongo, port=proxy.port, connect_timeout=0.5, call_timeout=1.0, retry_pauses=(0.1,) * 5))
    direct = mongo.open()
    put(direct, name, a={"n": 0})
    lost = threading.Event()
    update_many = client._database[name].update_many

    class Losing:
        def __getitem__(self, _: str) -> Any:
            return self

        def update_many(self, *arguments: Any) -> Any:
            result = update_many(*arguments)
            if not lost.is_set():
                lost.set()
                raise AutoReconnect("the answer was lost")
            return result

    client._database = Losing()  # type: ignore[assignment]
    assert client.update(name, {}, {"$set": {"n": 1}}) == (1, 0)
    assert only(direct, name) == {"n": 1}


def test_mongo_was_never_there_and_the_password_is_in_no_message(
    opened: Any, nobody: int, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    recipe = Mongo(
        "127.0.0.1", nobody, "d", username="u", password="secret-1", connect_timeout=0.2, retry_pauses=(0.05,)
    )
    with pytest.raises(StoreUnavailable, match=f"MongoDB at 127.0.0.1:{nobody}, database d stays away") as away:
        opened(recipe).find("c", {})
    assert "secret-1" not in f"{recipe!r} {away.value} {caplog.text}"


@pytest.mark.parametrize(
    ("error", "tries", "becomes"),
    [
        (NotPrimaryError("…", {"code": 10107}), 3, StoreUnavailable),
        (NetworkTimeout("…"), 3, StoreUnavailable),
        (ExecutionTimeout("…", 50), 3, StoreUnavailable),
        (WTimeoutError("…", 64), 3, StoreUnavailable),
        (OperationFailure("…", 11602), 3, StoreUnavailable),
        (OperationFailure("…", 43), 3, StoreUnavailable),
        (WriteError("…", 112), 3, StoreUnavailable),
        (WriteError("quoted", 28, {"codeName": "PathNotViable"}), 1, Refused),
        (WriteError("quoted", 121), 1, Refused),
        (OperationFailure("quoted", 10334), 1, Refused),
        (OperationFailure("quoted", 18, {"codeName": "AuthenticationFailed"}), 1, StoreUnavailable),
        (OperationFailure("quoted", 13), 1, StoreUnavailable),
        (ConfigurationError("reports wire version 5"), 1, StoreUnavailable),
    ],
)
def test_what_becomes_of_a_server_s_error(
    opened: Any, monkeypatch: pytest.MonkeyPatch, error: PyMongoError, tries: int, becomes: type[Exception]
):
    client = opened(Mongo("127.0.0.1", 1, "d", retry_pauses=(0.0, 0.0)))
    asked = []

    class Failing:
        def __getitem__(self, _: str) -> Any:
            return self

        def update_many(self, *arguments: Any) -> Any:
            asked.append(arguments)
            raise error

    monkeypatch.setattr(client, "_database", Failing())
    with pytest.raises(becomes) as raised:
        client.update("c", {}, {})
    assert len(asked) == tries
    assert "quoted" not in str(raised.value)
    details = getattr(error, "details", None) or {}
    assert details.get("codeName", "") in str(raised.value)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_document_that_an_index_keeps_out_is_refused_unless_it_is_there(
    opened: Any, monkeypatch: pytest.MonkeyPatch, is_there: bool
):
    client = opened(Mongo("127.0.0.1", 1, "d", retry_pauses=(0.0, 0.0)))
    where = {"userId": "user-1"}

    class Indexed:
        def __getitem__(self, _: str) -> Any:
            return self

        def update_one(self, *_: Any, **__: Any) -> Any:
            raise DuplicateKeyError("quoted", 11000)

        def find_one(self, asked: Any) -> Any:
            assert asked == where
            return where if is_there else None

    monkeypatch.setattr(client, "_database", Indexed())
    if is_there:
        assert client.insert_if_missing("c", where, {"externalId": ""}) is False
    else:
        with pytest.raises(Refused, match="11000") as raised:
            client.insert_if_missing("c", where, {"externalId": ""})
        assert "quoted" not in str(raised.value)


@pytest.mark.parametrize(
    ("hosts", "addresses", "direct"),
    [
        ("mongo", ["mongo:27017"], True),
        ("mongo:27018", ["mongo:27018"], True),
        ("10.0.0.1, mongo-2:27018", ["10.0.0.1:27017", "mongo-2:27018"], False),
        ("[::1]", ["[::1]:27017"], True),
    ],
)
def test_one_host_is_asked_itself_and_of_several_the_primary(
    opened: Any, hosts: str, addresses: list[str], direct: bool
):
    recipe = Mongo(hosts, 27017, "d")
    assert recipe.addresses == addresses
    assert opened(recipe)._client.topology_description.topology_type_name == ("Single" if direct else "Unknown")


@pytest.mark.parametrize("hosts", ["", "mongodb://mongo", "user:secret@mongo", "mongo/d", "mongo,"])
def test_what_is_no_host_is_refused(hosts: str):
    with pytest.raises(ValueError, match=r"ml-mongo.host: .* is not HOST or HOST:PORT"):
        Mongo(hosts, 27017, "d")
