"""What the twins can do beside the interfaces that tests/contract holds them to."""

from __future__ import annotations

import pickle

import pytest

from io_connectors.memory import Crashed, MemoryCassandra, MemoryKeyValues, MemoryRedis, MemoryTables, Operation
from transforms.stores import Select, StoreUnavailable, Update

TREES = "dev_hierarchy_store.content_hierarchy"
ENROLMENTS = "sunbird_courses.user_enrolments"


@pytest.fixture
def tables(request: pytest.FixtureRequest) -> MemoryTables:
    return MemoryCassandra(request.node.name).open()


@pytest.fixture
def store(request: pytest.FixtureRequest) -> MemoryKeyValues:
    return MemoryRedis(request.node.name, 0).open()


def tree(identifier: str, text: str | None) -> Update:
    return Update(TREES, {"identifier": identifier}, {"hierarchy": text})


def test_a_pickled_copy_finds_the_same_data():
    for recipe in (MemoryCassandra("pickled"), MemoryRedis("pickled", 5)):
        copy = pickle.loads(pickle.dumps(recipe))  # noqa: S301 - our own bytes
        assert copy.open() is recipe.open()
    assert MemoryRedis("pickled", 5).open() is not MemoryRedis("pickled", 6).open()
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
