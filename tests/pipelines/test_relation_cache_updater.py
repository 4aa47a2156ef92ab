"""The acceptance cases of relation-cache-updater §9, and what it does with bad data and absent stores."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_pipeline import TestPipeline
from hypothesis import given
from hypothesis import strategies as st

from io_connectors.cassandra import Cassandra
from io_connectors.memory import MemoryCassandra, MemoryRedis
from io_connectors.redis import Redis
from pipelines.in_memory import MemorySource
from pipelines.relation_cache_updater import NAME, Settings, build
from schemas.counters import COUNTERS
from schemas.redis_keys import ancestors, leafnodes, optionalnodes
from transforms.counters import counted_in_this_process, forget_counts
from transforms.relation_cache import COLLECTION_MIME_TYPE, flatten, unit_texts
from transforms.stores import KeyValues, StoreUnavailable, Update
from transforms.update_relation_cache import RelationCacheStores, UpdateRelationCache

UNUSED_DATABASES = (8, 9)
TABLE = "dev_hierarchy_store.content_hierarchy"
Tree = dict[str, Any]

numbers = itertools.count()


def twins() -> RelationCacheStores:
    """Stores in memory that no other test has."""
    name = f"relation-cache-{next(numbers)}"
    return RelationCacheStores(MemoryCassandra(name), MemoryRedis(name, 10), MemoryRedis(name, 5))


@dataclass
class Installation:
    """The stores of one test, and the job upon them."""

    stores: RelationCacheStores = field(default_factory=twins)
    published: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.relations = self.stores.relations.open()
        self.units = self.stores.units.open()

    def clear(self) -> None:
        for root in list(self.published):
            self.publish(root, None)
        for database in (self.relations, self.units):
            database.delete(database.scan(""))

    def publish(self, root: str, tree: Tree | str | None) -> None:
        text = orjson.dumps(tree).decode() if isinstance(tree, dict) else tree
        update = Update(TABLE, {"identifier": root}, {"hierarchy": text})
        assert self.stores.trees.open().write([[update]]) == [None]
        self.published.add(root)

    def run(self, *values: Any, trees_at_once: int = 16, stores: RelationCacheStores | None = None) -> dict[str, int]:
        """Run the job over the values (dicts as JSON) and give all its counters."""
        forget_counts(NAME)
        raw = tuple(value if isinstance(value, bytes | None) else orjson.dumps(value) for value in values)
        pipeline = TestPipeline(options=PipelineOptions(direct_num_workers=1))
        records = MemorySource(raw).read(pipeline)
        assert build(records, Settings(**{"job.env": "dev"}), stores or self.stores, trees_at_once) == {}
        result = pipeline.run()
        result.wait_until_finish()
        counters = dict.fromkeys(COUNTERS[NAME], 0)
        for counter in result.metrics().query()["counters"]:
            if counter.key.metric.namespace == NAME:
                counters[counter.key.metric.name] += counter.committed
        assert {name: times for name, times in counters.items() if times} == counted_in_this_process(NAME)
        return counters

    def sets(self, root: str = "") -> dict[str, set[str]]:
        keys = self.relations.scan(root)
        return {key: set(members) for key, members in zip(keys, self.relations.members(keys), strict=True)}

    def texts(self) -> dict[str, Any]:
        keys = self.units.scan("")
        return {key: orjson.loads(text or "") for key, text in zip(keys, self.units.get(keys), strict=True)}


@pytest.fixture(params=["twins", pytest.param("servers", marks=pytest.mark.stack)])
def site(request: pytest.FixtureRequest) -> Iterator[Installation]:
    """Every test on the twins and on the real servers, there in Redis databases that no job uses."""
    if request.param == "twins":
        yield Installation()
        return
    at = request.getfixturevalue("stack_of")("cassandra", "redis").environment()
    redis = [Redis(at["redis.host"], at["redis.port"], database) for database in UNUSED_DATABASES]
    site = Installation(RelationCacheStores(Cassandra(at["lms-cassandra.host"], at["lms-cassandra.port"]), *redis))
    yield site
    site.clear()


def counters(
    total: int, success: int = 0, skipped: int = 0, failed: int = 0, reads: int | None = None, writes: int = 0
) -> dict[str, int]:
    assert total == success + skipped + failed, "every record ends in one of these"
    return {
        "total-events-count": total,
        "success-events-count": success,
        "skipped-event-count": skipped,
        "failed-events-count": failed,
        "db-read-count": success + failed if reads is None else reads,
        "cache-write-count": writes,
    }


def event(identifier: Any = "R", **edata: Any) -> Tree:
    return {
        "eid": "BE_JOB_REQUEST",
        "ets": 1719000000456,
        "mid": "LP.1719000000456.5d3c9e10-2f54-4a43-8d0a-0d4f9f5b7c21",
        "actor": {"id": "Post Publish Processor", "type": "System"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}, "channel": "0126684405014528002"},
        "object": {"ver": "1718999990000", "id": identifier},
        "edata": {
            "action": "post-publish-process",
            "iteration": 1,
            "identifier": identifier,
            "mimeType": COLLECTION_MIME_TYPE,
            "trackable": {"enabled": "Yes", "autoBatch": "No"},
        }
        | edata,
    }


def unit(identifier: str, *children: Any, **members: Any) -> Tree:
    node = {"identifier": identifier, "mimeType": COLLECTION_MIME_TYPE, "visibility": "Parent"}
    return node | {"children": list(children)} | members


def course(*children: Any, identifier: str = "R", **members: Any) -> Tree:
    return unit(identifier, *children, visibility="Default", **members)


def leaf(identifier: str, optional: bool = False) -> Tree:
    mark = {"relationalMetadata": {"optional": True}} if optional else {}
    return {"identifier": identifier, "mimeType": "video/mp4", "visibility": "Default"} | mark


U1 = unit("U1", leaf("a"), leaf("b"))
U2 = unit("U2", leaf("b"), leaf("c", optional=True))
M = unit("M", U1, U2)
EXAMPLE = course(M, leaf("d"))
EXAMPLE_SETS = {
    "R:R:leafnodes": {"a", "b", "c", "d"},
    "R:M:leafnodes": {"a", "b", "c"},
    "R:U1:leafnodes": {"a", "b"},
    "R:U2:leafnodes": {"b", "c"},
    "R:R:optionalnodes": {"c"},
    "R:M:optionalnodes": {"c"},
    "R:U2:optionalnodes": {"c"},
    "R:a:ancestors": {"U1", "M", "R"},
    "R:b:ancestors": {"U1", "U2", "M", "R"},
    "R:c:ancestors": {"U2", "M", "R"},
    "R:d:ancestors": {"R"},
}


# --- §9 -----------------------------------------------------------------------------------------------------------


def test_case_01_publish(site: Installation) -> None:
    site.publish("R", EXAMPLE)
    assert site.run(event()) == counters(1, success=1, writes=4 + 3 + 4 + 3)
    assert site.sets() == EXAMPLE_SETS
    assert site.texts() == {"M": M, "U1": U1, "U2": U2}


def test_case_02_given_lists(site: Installation) -> None:
    site.publish(
        "R", course(unit("U", leaf("a"), leafNodes=[]), unit("V", leaf("b"), leafNodes=["x"]), leafNodes=["y"])
    )
    assert site.run(event()) == counters(1, success=1, writes=2 + 0 + 2 + 2)
    assert {key: members for key, members in site.sets().items() if key.endswith("leafnodes")} == {
        "R:R:leafnodes": {"y"},
        "R:V:leafnodes": {"x"},
    }


def test_case_03_republish_without_the_optional_mark(site: Installation) -> None:
    site.publish("R", EXAMPLE)
    site.publish("R2", course(U1, leaf("e", optional=True), identifier="R2"))
    site.run(event(), event("R2"))
    others = site.sets("R2:")
    assert set(others) >= {"R2:R2:optionalnodes", "R2:U1:leafnodes", "R2:a:ancestors"}

    site.publish("R", course(unit("M", unit("U2", leaf("b"), leaf("c"))), leaf("d")))
    assert site.run(event()) == counters(1, success=1, writes=3 + 0 + 3 + 2)
    assert site.sets("R:") == {
        "R:R:leafnodes": {"b", "c", "d"},
        "R:M:leafnodes": {"b", "c"},
        "R:U2:leafnodes": {"b", "c"},
        "R:b:ancestors": {"U2", "M", "R"},
        "R:c:ancestors": {"U2", "M", "R"},
        "R:d:ancestors": {"R"},
    }
    assert site.sets("R2:") == others
    assert site.texts()["U1"] == U1


def test_case_04_same_leaf_twice(site: Installation) -> None:
    site.publish("R", EXAMPLE)
    assert site.run(event()) == counters(1, success=1, writes=14)
    assert site.sets()["R:b:ancestors"] == {"U1", "U2", "M", "R"}


def test_case_05_optional_in_one_place_only(site: Installation) -> None:
    site.publish("R", course(unit("U1", leaf("e", optional=True)), unit("U2", leaf("e"))))
    assert site.run(event()) == counters(1, success=1, writes=3 + 2 + 1 + 2)
    assert {key: members for key, members in site.sets().items() if key.endswith("optionalnodes")} == {
        "R:R:optionalnodes": {"e"},
        "R:U1:optionalnodes": {"e"},
    }


def test_case_06_skipped(site: Installation) -> None:
    site.publish("R", EXAMPLE)
    site.publish("  ", EXAMPLE)
    odd = [event(action="publish"), event(mimeType="application/pdf"), event("  "), b"not JSON"]
    assert site.run(*odd) == counters(4, skipped=4)
    assert site.sets() == site.texts() == {}


def test_case_07_no_tree(site: Installation) -> None:
    # the draft is never read
    site.publish("R.img", EXAMPLE)
    site.publish("null", None)
    site.publish("empty", "")
    site.publish("blank", " \n ")
    roots = ["R", "null", "empty", "blank"]
    site.relations.replace_sets({leafnodes(root, root): {"a"} for root in roots})
    before = site.sets()
    assert site.run(*map(event, roots)) == counters(4, skipped=4, reads=4)
    assert site.sets() == before


def test_case_08_by_hand(site: Installation) -> None:
    site.publish("R", EXAMPLE)
    by_hand = event(action="relation-cache-update", mimeType=COLLECTION_MIME_TYPE.upper())
    assert site.run(by_hand) == counters(1, success=1, writes=14)
    assert site.sets() == EXAMPLE_SETS


def test_case_09_odd_json(site: Installation) -> None:
    tree = orjson.dumps(course(unit("U", leaf("a"), name="Teacher's day"))).decode()
    site.publish("R", tree.replace("Teacher's", r"Teacher\'s"))
    assert site.run(event()) == counters(1, success=1, writes=2 + 0 + 1 + 1)
    assert site.texts()["U"]["name"] == "Teacher's day"


GZIPPED = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV\x02\x00".decode("latin-1")
BROKEN = {
    "cut off": '{"identifier":"R","children":[{"identi',
    "gzip as text": GZIPPED,
    "gzip as base64": "H4sIAAAAAAAAA6tWAgA=",
    "null": "null",
    "a list": "[]",
    "a text": '"R"',
    "a number": "7",
    "lone surrogate": '{"identifier":"R","name":"\\ud800","children":[{"identifier":"a"}]}',
    "too deep": '{"identifier":"U","children":[' * 10_000 + "]}" * 10_000,
    "NUL": "\0",
}


def test_case_10_broken_tree(site: Installation) -> None:
    for root, text in BROKEN.items():
        site.publish(root, text)
    old = {leafnodes(root, root): {"x"} for root in BROKEN}
    site.relations.replace_sets(old)
    site.publish("R", EXAMPLE)
    expected = counters(len(BROKEN) + 1, success=1, failed=len(BROKEN), writes=14)
    assert site.run(*map(event, BROKEN), event()) == expected
    assert site.sets() == old | EXAMPLE_SETS


def test_case_10_the_log_names_the_root_and_not_the_data(site: Installation, caplog: pytest.LogCaptureFixture) -> None:
    site.publish("do_21", '{"identifier": secret')
    with caplog.at_level(logging.INFO):
        site.run(event("do_21"))
    assert "do_21" in caplog.text
    assert "secret" not in caplog.text


def test_case_11_units_map(site: Installation) -> None:
    shared = unit("S", leaf("a"), visibility="Default")
    site.publish("R", course(shared, unit("E")))
    assert site.run(event()) == counters(1, success=1, writes=2 + 0 + 1 + 0)
    assert site.sets() == {
        "R:R:leafnodes": {"a"},
        "R:S:leafnodes": {"a"},
        "R:a:ancestors": {"R", "S"},
    }
    assert site.texts() == {}


# --- core §15 -----------------------------------------------------------------------------------------------------


def test_core_case_02_records_that_are_no_object_are_skipped_and_the_next_is_handled(site: Installation) -> None:
    site.publish("R", EXAMPLE)
    bad = [b'{"eid":', b"", None, b"[1,2]", b"null", b"7", b'"text"', b"\xff\xfe{}", b" ", b'{"a":' * 5_000, b"{}"]
    assert site.run(*bad, event()) == counters(len(bad) + 1, success=1, skipped=len(bad), writes=14)
    assert site.sets() == EXAMPLE_SETS


# --- bad data -----------------------------------------------------------------------------------------------------

ODD_VALUES: list[Any] = [None, "", "\t", 0, 1.5, True, [], {}, ["R"], {"R": "R"}]


@pytest.mark.parametrize("name", ["action", "mimeType", "identifier"])
def test_values_of_other_types_in_the_event_are_skipped(site: Installation, name: str) -> None:
    site.publish("R", EXAMPLE)
    odd = [event(**{name: value}) for value in ODD_VALUES] if name != "identifier" else [*map(event, ODD_VALUES)]
    without_edata = [{**event(), "edata": value} for value in [*ODD_VALUES, "R"]]
    assert site.run(*odd, *without_edata) == counters(21, skipped=21)
    assert site.sets() == {}


def test_text_that_is_no_utf8_is_skipped(site: Installation) -> None:
    escaped = orjson.dumps(event()).replace(b'"identifier":"R"', b'"identifier":"\\ud83d"')
    assert site.run(escaped) == counters(1, skipped=1)


ODD_IDS = ["it's", 'a "b"', "a b", "\U0001f600", "a\0b", "a:b", "*", "a*b?c[d]e\\f", "[", "\\", "{a}", " R ", "क"]


def test_odd_ids_are_ids_like_any_other(site: Installation) -> None:
    expected: dict[str, set[str]] = {"R:R:leafnodes": {"x"}}
    for root in ODD_IDS:
        stale = {leafnodes(root, "gone"): {"x"}, optionalnodes(root, root): {"x"}, ancestors(root, "x"): {root}}
        others = {f"{root}x:U:leafnodes": {"x"}, f"{root}:c:d:leafnodes": {"x"}, f"{root}:x": {"x"}}
        site.relations.replace_sets(stale | others)
        site.publish(root, course(unit(f"U{root}", leaf(f"a{root}")), identifier=root))
        expected |= others | {
            leafnodes(root, root): {f"a{root}"},
            leafnodes(root, f"U{root}"): {f"a{root}"},
            ancestors(root, f"a{root}"): {root, f"U{root}"},
        }
    site.relations.replace_sets({"R:R:leafnodes": {"x"}})
    number = len(ODD_IDS)
    assert site.run(*map(event, ODD_IDS)) == counters(number, success=number, writes=number * (2 + 0 + 1 + 1))
    assert site.sets() == expected
    assert set(site.texts()) == {f"U{root}" for root in ODD_IDS}


def test_an_empty_tree_is_skipped_and_one_without_children_removes_all_keys(site: Installation) -> None:
    site.publish("R", EXAMPLE)
    site.run(event())
    site.publish("R", {})
    assert site.run(event()) == counters(1, skipped=1, reads=1)
    assert site.sets() == EXAMPLE_SETS
    site.publish("R", course())
    assert site.run(event()) == counters(1, success=1)
    assert site.sets() == {}


def test_cassandra_refuses_an_identifier_and_the_next_is_handled(site: Installation) -> None:
    site.publish("R", EXAMPLE)
    assert site.run(event("x" * 70_000), event()) == counters(2, success=1, failed=1, writes=14)
    assert site.sets() == EXAMPLE_SETS


@pytest.mark.parametrize("trees_at_once", [1, 2, 3, 16])
def test_every_event_counts_however_many_trees_are_read_at_once(site: Installation, trees_at_once: int) -> None:
    site.publish("R", EXAMPLE)
    site.publish("S", course(leaf("a"), identifier="S"))
    site.publish("broken", "{")
    values = [event(), event("S"), event("broken"), event(), b"", event("none"), event("S")]
    expected = counters(7, success=4, skipped=2, failed=1, reads=6, writes=14 + 14 + 2 + 2)
    assert site.run(*values, trees_at_once=trees_at_once) == expected
    assert site.sets() == EXAMPLE_SETS | {"S:S:leafnodes": {"a"}, "S:a:ancestors": {"S"}}


# --- stores that stay away, and the order of writes ---------------------------------------------------------------


@dataclass(frozen=True)
class Away:
    """A recipe of a store of which one method finds no server; the others are those of ``of``."""

    of: Any
    method: str

    def open(self) -> Any:
        def away(*_: Any, **__: Any) -> Any:
            raise StoreUnavailable("127.0.0.1:1 stayed away")

        store = self.of.open()
        without = type(
            "Without", (), {"__getattr__": lambda _, name: away if name == self.method else getattr(store, name)}
        )
        return without()


@pytest.mark.parametrize(
    ("store", "method"),
    [
        ("trees", "select"),
        ("relations", "replace_sets"),
        ("relations", "scan"),
        ("relations", "delete"),
        ("units", "set"),
    ],
)
def test_a_store_that_stays_away_fails_the_bundle_and_a_later_run_repairs_all(
    site: Installation, store: str, method: str
) -> None:
    site.publish("R", EXAMPLE)
    site.relations.replace_sets({"R:gone:leafnodes": {"x"}})
    stores = {"trees": site.stores.trees, "relations": site.stores.relations, "units": site.stores.units}
    with pytest.raises(Exception, match=r"127\.0\.0\.1:1 stayed away"):
        site.run(event(), stores=RelationCacheStores(**(stores | {store: Away(stores[store], method)})))
    assert counted_in_this_process(NAME)["failed-events-count"] == 1
    assert "success-events-count" not in counted_in_this_process(NAME)

    assert site.run(event()) == counters(1, success=1, writes=14)
    assert site.sets() == EXAMPLE_SETS
    assert site.texts() == {"M": M, "U1": U1, "U2": U2}


@dataclass(frozen=True)
class Absent:
    """A recipe of a store that is not there."""

    def open(self) -> Any:
        raise StoreUnavailable("127.0.0.1:1 is not there")


def test_a_store_is_asked_only_when_there_is_a_reason(site: Installation) -> None:
    none = RelationCacheStores(Absent(), Absent(), Absent())
    assert site.run(event(action="publish"), stores=none) == counters(1, skipped=1)
    only_trees = RelationCacheStores(site.stores.trees, Absent(), Absent())
    assert site.run(event(), stores=only_trees) == counters(1, skipped=1, reads=1)
    site.publish("R", course(leaf("a")))
    without_units = RelationCacheStores(site.stores.trees, site.stores.relations, Absent())
    assert site.run(event(), stores=without_units) == counters(1, success=1, writes=2)


@pytest.mark.parametrize("absent", ["trees", "relations", "units"])
def test_a_store_that_is_not_there_fails_the_bundle(site: Installation, absent: str) -> None:
    site.publish("R", EXAMPLE)
    stores = {"trees": site.stores.trees, "relations": site.stores.relations, "units": site.stores.units}
    with pytest.raises(Exception, match=r"127\.0\.0\.1:1 is not there"):
        site.run(event(), stores=RelationCacheStores(**(stores | {absent: Absent()})))
    assert counted_in_this_process(NAME)["failed-events-count"] == 1


log: list[tuple[str, str]] = []


@dataclass(frozen=True)
class Logged:
    """A recipe of a Redis database that notes what is written to it."""

    of: Any

    def open(self) -> Any:
        return LoggedStore(self.of.open())


@dataclass(frozen=True)
class LoggedStore:
    of: KeyValues

    def replace_sets(self, sets: Mapping[str, Collection[str]]) -> None:
        log.extend(("set", key.rpartition(":")[2]) for key in sets)
        self.of.replace_sets(sets)

    def scan(self, prefix: str) -> list[str]:
        return self.of.scan(prefix)

    def delete(self, keys: Sequence[str]) -> int:
        log.extend(("delete", key) for key in keys)
        return self.of.delete(keys)

    def set(self, values: Mapping[str, str], expiry: int | None = None) -> None:
        assert expiry is None
        log.extend(("text", "unit") for _ in values)
        self.of.set(values)


def test_the_order_of_writes(site: Installation) -> None:
    log.clear()
    site.relations.replace_sets({"R:gone:leafnodes": {"x"}})
    site.publish("R", EXAMPLE)
    stores = RelationCacheStores(site.stores.trees, Logged(site.stores.relations), Logged(site.stores.units))
    site.run(event(), stores=stores)
    assert [step for step, _ in itertools.groupby(log)] == [
        ("set", "leafnodes"),
        ("set", "optionalnodes"),
        ("set", "ancestors"),
        ("delete", "R:gone:leafnodes"),
        ("text", "unit"),
    ]


# --- any tree -----------------------------------------------------------------------------------------------------

nodes = st.recursive(
    st.builds(leaf, st.sampled_from("abcd"), st.booleans()),
    lambda inner: st.builds(
        lambda name, children: unit(name, *children), st.sampled_from("UVW"), st.lists(inner, max_size=3)
    ),
    max_leaves=12,
)
trees = st.lists(nodes, max_size=4).map(lambda children: course(*children))


@given(trees, trees)
def test_republishing_any_tree_leaves_exactly_the_keys_of_the_new_one(first: Tree, second: Tree) -> None:
    sites = Installation(), Installation()
    for site, versions in zip(sites, [(first, second), (second,)], strict=True):
        step = UpdateRelationCache(NAME, site.stores, TABLE, size=1)
        for version in versions:
            site.publish("R", version)
            forget_counts(NAME)
            step.handle([b"R"])
        written = len(site.sets()) + len(dict(unit_texts(flatten("R", second))))
        assert counted_in_this_process(NAME).get("cache-write-count", 0) == written
    twice, once = sites
    assert twice.sets() == once.sets()
    assert twice.texts().items() >= once.texts().items()


# --- size ---------------------------------------------------------------------------------------------------------


def test_a_course_of_5000_nodes_takes_less_than_two_seconds_of_cpu(site: Installation) -> None:
    filler = {f"member{number}": f"value {number} of some length" for number in range(20)}
    units = [
        unit(f"U{u}", *[unit(f"U{u}.{v}", *[leaf(f"do_{u}.{v}.{n}") | filler for n in range(48)]) for v in range(10)])
        for u in range(10)
    ]
    site.publish("R", course(*units))
    started = time.process_time()
    assert site.run(event()) == counters(1, success=1, writes=111 + 0 + 4_800 + 110)
    assert time.process_time() - started < 2
