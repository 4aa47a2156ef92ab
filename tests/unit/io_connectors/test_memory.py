"""What the twins can do beside the interfaces that tests/contract holds them to."""

from __future__ import annotations

import pickle

import pytest

from io_connectors.memory import Crashed, MemoryCassandra, MemoryKeyValues, MemoryRedis, MemoryTables, Operation
from io_connectors.memory_documents import MemoryDocuments, MemoryElasticsearch
from io_connectors.memory_objects import MemoryObject, MemoryObjects, MemoryObjectStore
from transforms.stores import Delete, Select, StoreUnavailable, Update

TREES = "dev_hierarchy_store.content_hierarchy"
ENROLMENTS = "sunbird_courses.user_enrolments"


@pytest.fixture
def tables(request: pytest.FixtureRequest) -> MemoryTables:
    return MemoryCassandra(request.node.name).open()


@pytest.fixture
def store(request: pytest.FixtureRequest) -> MemoryKeyValues:
    return MemoryRedis(request.node.name, 0).open()


@pytest.fixture
def documents(request: pytest.FixtureRequest) -> MemoryDocuments:
    return MemoryElasticsearch(request.node.name).open()


@pytest.fixture
def objects(request: pytest.FixtureRequest) -> MemoryObjects:
    return MemoryObjectStore(request.node.name, "certificates").open()


def tree(identifier: str, text: str | None) -> Update:
    return Update(TREES, {"identifier": identifier}, {"hierarchy": text})


def test_a_pickled_copy_finds_the_same_data():
    for recipe in (
        MemoryCassandra("pickled"),
        MemoryRedis("pickled", 5),
        MemoryElasticsearch("pickled"),
        MemoryObjectStore("pickled", "certificates"),
    ):
        copy = pickle.loads(pickle.dumps(recipe))  # noqa: S301 - our own bytes
        assert copy.open() is recipe.open()
    assert MemoryRedis("pickled", 5).open() is not MemoryRedis("pickled", 6).open()
    assert MemoryObjectStore("pickled", "a").open() is not MemoryObjectStore("pickled", "b").open()
    assert MemoryCassandra("pickled").open() is not MemoryCassandra("pickled", "test").open()


def test_the_tables_of_another_environment():
    tables = MemoryCassandra("environment", "Test").open()
    assert tables.write([[Update("Test_hierarchy_store.content_hierarchy", {"identifier": "a"}, {"hierarchy": "{}"})]])
    assert tables.rows("test_hierarchy_store.content_hierarchy")[0]["hierarchy"] == "{}"
    with pytest.raises(StoreUnavailable):
        tables.write([[tree("a", "{}")]])


def test_rows_have_all_columns_in_order_of_their_keys(tables):
    tables.write([[tree("b", "{}")], [tree("a", "[]")]])
    assert tables.rows(TREES) == [
        {"identifier": "a", "hierarchy": "[]", "relational_metadata": None},
        {"identifier": "b", "hierarchy": "{}", "relational_metadata": None},
    ]


def test_an_inserted_row_exists_without_other_columns(tables):
    key = {"userid": "learner-1", "courseid": "c", "batchid": "b"}
    tables.insert(ENROLMENTS, {**key, "status": None}, {**key, "batchid": "b2"})
    assert [row["status"] for row in tables.rows(ENROLMENTS)] == [None, None]
    tables.write([[Update(ENROLMENTS, key, {"status": 1})]])
    tables.write([[Update(ENROLMENTS, key, {"status": None})]])
    assert tables.select([Select(ENROLMENTS, ("status",), key)]) == [[{"status": None}]]


def test_rows_that_are_given_away_are_copies(tables):
    tables.write([[tree("a", "{}")]])
    tables.rows(TREES)[0]["hierarchy"] = "changed"
    [[row]] = tables.select([Select(TREES, ("hierarchy",), {"identifier": "a"})])
    row["hierarchy"] = "changed"
    assert tables.rows(TREES)[0]["hierarchy"] == "{}"


def test_what_was_asked(tables, store):
    batch = (tree("a", "{}"), tree("b", "{}"))
    select = Select(TREES, ("hierarchy",), {"identifier": "a"})
    tables.write([batch])
    tables.select([select])
    assert tables.operations == [Operation("write", batch), Operation("select", select)]
    tables.clear()
    assert (tables.operations, tables.rows(TREES)) == ([], [])

    store.set({"a": "1", "b": "2"})
    store.get(["a", "b"])
    assert store.operations == [Operation("set", "a"), Operation("set", "b"), Operation("get", ("a", "b"))]
    store.clear()
    assert store.operations == []
    assert store.scan("") == []


def test_failing_on_demand(tables, store):
    tables.fail_next(2)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            tables.write([[tree("a", "{}")]])
    assert tables.write([[tree("a", "{}")]]) == [None]
    store.unavailable = True
    for call in (lambda: store.get(["a"]), lambda: store.set({"a": "b"}), lambda: store.scan("")):
        with pytest.raises(StoreUnavailable):
            call()
    store.unavailable = False
    assert store.get(["a"]) == [None]


def test_a_crash_between_two_writes_leaves_the_first(tables, store):
    tables.crash_at(2)
    with pytest.raises(Crashed):
        tables.write([[tree("a", "{}")], [tree("b", "{}")], [tree("c", "{}")]])
    assert [row["identifier"] for row in tables.rows(TREES)] == ["a"]
    assert tables.write([[tree("b", "{}")]]) == [None]

    store.crash_at(2)
    with pytest.raises(Crashed):
        store.set({"a": "1", "b": "2"})
    assert store.scan("") == ["a"]


def test_a_cell_that_is_written_twice_in_one_batch_is_a_mistake(tables):
    with pytest.raises(ValueError, match="twice"):
        tables.write([[tree("a", "{}"), tree("a", "[]")]])
    where = {"activity_type": "Course", "activity_id": "c", "user_id": "learner-1", "context_id": "cb:b"}
    one, other = ({"aggregates": {name: 1.0}} for name in "ab")
    table = "sunbird_courses.user_activity_agg"
    assert tables.write([[Update(table, where, add=one), Update(table, where, add=other)]]) == [None]
    assert tables.rows(table)[0]["aggregates"] == {"a": 1.0, "b": 1.0}
    with pytest.raises(ValueError, match="twice"):
        tables.write([[Update(table, where, add=one), Update(table, where, add=one)]])


def test_keys_expire_by_the_clock(store):
    now = [100.0]
    store.clock = lambda: now[0]
    store.set({"a": "1"}, 10)
    now[0] = 109.9
    assert store.get(["a"]) == ["1"]
    assert store.time_to_live("a") == pytest.approx(0.1)
    now[0] = 110.0
    assert store.get(["a"]) == [None]
    assert store.exists(["a"]) == [False]
    assert store.scan("") == []
    assert store.time_to_live("a") is None
    assert store.type_of("a") == "none"


def test_to_write_and_delete_a_row_in_one_batch_is_a_mistake(tables):
    for batch in (
        [tree("a", "{}"), Delete(TREES, {"identifier": "a"})],
        [Delete(TREES, {"identifier": "a"}), tree("a", "{}")],
    ):
        with pytest.raises(ValueError, match="written and deleted"):
            tables.write([batch])
    assert tables.rows(TREES) == []
    assert tables.write([[tree("a", "{}"), Delete(TREES, {"identifier": "b"})]]) == [None]


def test_an_inserted_row_that_was_deleted_is_gone(tables):
    key = {"userid": "learner-1", "courseid": "c", "batchid": "b"}
    tables.insert(ENROLMENTS, {**key, "status": 1})
    tables.write([[Delete(ENROLMENTS, key)], [Update(ENROLMENTS, key, {"status": 1})]])
    tables.write([[Update(ENROLMENTS, key, {"status": None})]])
    assert tables.rows(ENROLMENTS) == []


def test_an_inserted_row_exists_for_an_update_if_exists(tables):
    key = {"userid": "learner-1", "courseid": "c", "batchid": "b"}
    tables.insert(ENROLMENTS, key)
    tables.write([[Update(ENROLMENTS, key, {"status": 1}, if_exists=True)]])
    assert tables.rows(ENROLMENTS)[0]["status"] == 1


def test_what_was_asked_for_documents(documents):
    documents.index("certs", {"a": {"x": 1}, "b": {}})
    documents.update("certs", {"a": {"y": 2}})
    documents.get("certs", ["a"])
    documents.delete("certs", ["b", "c"])
    assert documents.operations == [
        Operation("index", ("certs", "a")),
        Operation("index", ("certs", "b")),
        Operation("update", ("certs", "a")),
        Operation("get", ("certs", "a")),
        Operation("delete", ("certs", "b")),
        Operation("delete", ("certs", "c")),
    ]
    assert documents.documents("certs") == {"a": {"x": 1, "y": 2}}
    assert documents.documents("other") == {}
    documents.clear()
    assert (documents.operations, documents.documents("certs")) == ([], {})


def test_what_was_asked_for_objects(objects):
    objects.put("tag/a.json", b"{}", "application/json")
    objects.get("tag/a.json")
    objects.delete("tag/b.json")
    assert objects.operations == [
        Operation("put", "tag/a.json"),
        Operation("get", "tag/a.json"),
        Operation("delete", "tag/b.json"),
    ]
    assert objects.objects() == {"tag/a.json": MemoryObject(b"{}", "application/json")}
    objects.clear()
    assert (objects.operations, objects.objects()) == ([], {})


def test_documents_and_objects_fail_on_demand(documents, objects):
    for twin, call in (
        (documents, lambda: documents.index("certs", {"a": {}, "b": {}})),
        (objects, lambda: objects.put("a.json", b"{}", "application/json")),
    ):
        twin.fail_next(1)
        with pytest.raises(StoreUnavailable):
            call()
        twin.crash_at(1)
        with pytest.raises(Crashed):
            call()
        twin.unavailable = True
        with pytest.raises(StoreUnavailable):
            call()
        twin.unavailable = False
        assert twin.operations == []
        call()
    documents.crash_at(2)
    with pytest.raises(Crashed):
        documents.delete("certs", ["a", "b"])
    assert documents.documents("certs") == {"b": {}}
