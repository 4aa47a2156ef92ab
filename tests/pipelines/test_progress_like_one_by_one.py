"""Any events, any batches, any redelivery: the same end state and events as one by one.

The step runs against the in-memory stores, batch by batch; ``reference_progress`` handles the same events one after
the other. Crashes are injected at any store operation, before or after it took effect, and after the last one (the
outputs are lost then, as those of a failed bundle); everything since the last whole batch is delivered again, cut
differently.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from itertools import count
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from io_connectors.memory import MemoryCassandra, MemoryCollectionStatuses, MemoryRedis
from schemas import redis_keys
from tests.pipelines.reference_progress import Reference
from transforms.consumption import Work, consumption_of
from transforms.decode import Record
from transforms.progress import Rules
from transforms.stores import Update
from transforms.update_progress import ProgressStores, ProgressTables, UpdateProgress

CONSUMPTION = "sunbird_courses.user_content_consumption"
AGGREGATES = "sunbird_courses.user_activity_agg"
ENROLMENTS = "sunbird_courses.user_enrolments"
BATCH = "batch-1"
USERS = ["learner-1", "learner-2"]
COURSES = ["C", "D", "retired", "broken"]
CONTENTS = ["a", "b", "c", "d"]
LEAF = {
    ("C", "C"): set("abcd"),
    ("C", "U1"): set("ab"),
    ("C", "U2"): set("cd"),
    ("D", "D"): set("ab"),
    ("retired", "R1"): set("ab"),
}
OPTIONAL = {("C", "C"): {"d"}, ("C", "U2"): {"d"}}
ANCESTORS = {
    ("C", "a"): {"U1", "C"},
    ("C", "b"): {"U1", "C"},
    ("C", "c"): {"U2", "C"},
    ("C", "d"): {"U2", "C", "no-leaf-nodes"},
    ("D", "a"): {"D"},
    ("retired", "a"): {"R1", "retired"},
}
STATUSES = {"retired": "Retired", "broken": "Live"}

numbers = count()


class Crash(BaseException):
    """The worker dies. No handler of the step may catch it."""


@dataclass
class Fuse:
    """Blows at the n-th store operation, before or after it took effect, or when half of its values are set."""

    at: int | None = None
    after: bool = False
    half: bool = False
    operations: int = 0

    def around(self, operation: Any) -> Any:
        def run(*arguments: Any, **options: Any) -> Any:
            self.operations += 1
            blown = self.operations == self.at
            if blown and self.half and isinstance(arguments[0], dict):
                values, *others = arguments
                operation(dict(list(values.items())[: len(values) // 2]), *others, **options)
            if blown and not self.after:
                raise Crash
            result = operation(*arguments, **options)
            if blown:
                raise Crash
            return result

        return run


@dataclass
class Fused:
    """A store whose operations go through a fuse; as a recipe, opens itself."""

    store: Any
    fuse: Fuse

    def open(self) -> Fused:
        return self

    def __getattr__(self, name: str) -> Any:
        return self.fuse.around(getattr(self.store, name))


def event(user: str, course: str, contents: list[tuple[str, int]]) -> dict[str, Any]:
    reported = [{"contentId": content, "status": status} for content, status in contents]
    edata = {"action": "batch-enrolment-update", "userId": user, "courseId": course, "batchId": BATCH}
    return {"edata": {**edata, "contents": reported}}


events = st.builds(
    event,
    st.sampled_from(USERS),
    st.sampled_from(COURSES),
    st.lists(st.tuples(st.sampled_from(CONTENTS), st.sampled_from([1, 2, 2, 2])), min_size=1, max_size=4),
)
rows = st.dictionaries(
    st.tuples(st.sampled_from(USERS), st.sampled_from(COURSES), st.just(BATCH), st.sampled_from(CONTENTS)),
    st.fixed_dictionaries(
        {
            "status": st.sampled_from([None, 0, 1, 2, 3]),
            "viewcount": st.sampled_from([None, 0, 1, 4]),
            "completedcount": st.sampled_from([None, 0, 1, 2]),
        }
    ),
    max_size=6,
)
enrolments = st.dictionaries(
    st.tuples(st.sampled_from(USERS), st.sampled_from(COURSES), st.just(BATCH)),
    st.fixed_dictionaries({"status": st.sampled_from([None, 0, 1, 2])}),
)
batch_sizes = st.lists(st.integers(1, 6), min_size=1, max_size=6)


class World:
    """The stores, filled, and a step on them."""

    def __init__(self, consumption: dict, enrolled: dict, dedup: bool, rules: Rules) -> None:
        name = f"world-{next(numbers)}"
        self.fuse = Fuse()
        self.tables = MemoryCassandra(name).open()
        self.relation_cache = MemoryRedis(name, 10).open()
        self.dedup = MemoryRedis(name, 13).open()
        collections = MemoryCollectionStatuses(name).open()
        for course, status in STATUSES.items():
            collections.set_status(course, status)
        for keys, sets in (
            (redis_keys.leafnodes, LEAF),
            (redis_keys.optionalnodes, OPTIONAL),
            (redis_keys.ancestors, ANCESTORS),
        ):
            self.relation_cache.replace_sets({keys(*pair): members for pair, members in sets.items()})
        key = ("userid", "courseid", "batchid", "contentid")
        for place, row in consumption.items():
            self._put(CONSUMPTION, dict(zip(key, place, strict=True)), {"progress": 100, **row})
        for place, row in enrolled.items():
            self._put(ENROLMENTS, dict(zip(key, place, strict=False)), {"active": True, **row})
        self.stores = ProgressStores(
            Fused(self.tables, self.fuse),
            Fused(self.relation_cache, self.fuse),
            Fused(self.dedup, self.fuse) if dedup else None,
            Fused(collections, self.fuse),
        )
        self.rules = rules
        self.now = 1_700_000_000_000

    def _put(self, table: str, where: dict, assign: dict) -> None:
        assert self.tables.write([[Update(table, where, assign)]]) == [None]

    def clock(self) -> int:
        self.now += 1
        return self.now

    def worker(self, events_per_unit: int = 1) -> UpdateProgress:
        """A fresh worker, as after a crash."""
        step = UpdateProgress(
            "activity-aggregate-updater",
            self.stores,
            ProgressTables(CONSUMPTION, AGGREGATES, ENROLMENTS),
            self.rules,
            size=100,
            events_per_unit=events_per_unit,
            statements_per_batch=3,
            checksum_expiry=604_800,
            plan_expiry=86_400,
            status_expiry=3_600,
            clock=self.clock,
            new_id=lambda: "id",
        )
        step.setup()
        return step

    def state(self) -> dict[str, Any]:
        """The end state in the reference's terms, read back through the store's own interface."""
        consumption = {
            (r["userid"], r["courseid"], r["batchid"], r["contentid"]): {
                name: r[name] for name in ("status", "viewcount", "completedcount")
            }
            for r in self.tables.rows(CONSUMPTION)
        }
        enrolled = {
            (r["userid"], r["courseid"], r["batchid"]): {
                "status": r["status"],
                "progress": r["progress"],
                "contentstatus": r["contentstatus"] or None,
                "completedon": r["completedon"] is not None,
            }
            for r in self.tables.rows(ENROLMENTS)
        }
        aggregates = {
            (r["user_id"], r["activity_id"], r["context_id"].removeprefix("cb:")): int(
                r["aggregates"]["completedCount"]
            )
            for r in self.tables.rows(AGGREGATES)
        }
        checksums = {key for key in self.dedup.scan("") if not key.startswith("plan:")}
        return {"consumption": consumption, "enrolments": enrolled, "aggregates": aggregates, "checksums": checksums}


def expected_state(reference: Reference) -> dict[str, Any]:
    return {
        "consumption": {
            place: {name: row.get(name) for name in ("status", "viewcount", "completedcount")}
            for place, row in reference.consumption.items()
        },
        "enrolments": {
            place: {
                "status": row.get("status"),
                "progress": row.get("progress"),
                "contentstatus": row.get("contentstatus"),
                "completedon": bool(row.get("completedon")),
            }
            for place, row in reference.enrolments.items()
        },
        "aggregates": reference.aggregates,
        "checksums": reference.checksums,
    }


def emitted(outputs: list[Any]) -> list[tuple[Any, ...]]:
    """What the step emitted, in the reference's terms."""
    found: list[tuple[Any, ...]] = []
    for output in outputs:
        value = orjson.loads(output.value)
        if output.tag == "failed":
            contents = {
                content: {
                    "status": c["status"],
                    "view": c["viewCount"],
                    "completed": c["completedCount"],
                    "input": c["fromInput"],
                    "actions": c["eventsFor"],
                }
                for content, c in value["contents"].items()
            }
            found.append(("failed", value["userId"], value["courseId"], value["batchId"], contents))
        elif output.tag == "certificate":
            found.append(
                ("certificate", value["edata"]["userIds"][0], value["edata"]["courseId"], value["edata"]["batchId"])
            )
        else:
            who = (value["actor"]["id"], value["object"]["rollup"]["l1"], value["context"]["cdata"][0]["id"])
            if value["edata"]["type"] == "enrol-complete":
                found.append(("enrol-complete", *who))
            else:
                found.append(("audit", *who, value["object"]["id"], value["edata"]["type"]))
    return found


def payloads(sequence: list[dict[str, Any]]) -> list[bytes]:
    """The step's input: what is left after the selection of records."""
    works = []
    for offset, parsed in enumerate(sequence):
        consumption = consumption_of(parsed)
        if consumption:
            value = orjson.dumps(parsed)
            works.append(Work.of(consumption, Record(value, "topic", 0, offset, 1, lasting=True)).to_bytes())
    return works


def counted(found: list[tuple[Any, ...]]) -> Counter[str]:
    return Counter(orjson.dumps(item, option=orjson.OPT_SORT_KEYS).decode() for item in found)


def reference_for(consumption: dict, enrolled: dict, sequence: list, dedup: bool, rules: Rules) -> Reference:
    reference = Reference(
        LEAF,
        OPTIONAL,
        ANCESTORS,
        STATUSES,
        copy.deepcopy(consumption),
        copy.deepcopy(enrolled),
        dedup=dedup,
        units=rules.unit_aggregates,
        skip_completed=rules.skip_completed_enrolments,
    )
    for parsed in sequence:
        if consumption_of(parsed):
            reference.handle(parsed)
    return reference


def cut(items: list[bytes], sizes: list[int]) -> list[list[bytes]]:
    batches, position, turn = [], 0, 0
    while position < len(items):
        size = sizes[turn % len(sizes)]
        batches.append(items[position : position + size])
        position, turn = position + size, turn + 1
    return batches


@settings(max_examples=400, deadline=None)
@given(rows, enrolments, st.lists(events, max_size=14), batch_sizes, st.booleans(), st.booleans(), st.booleans())
def test_any_cut_of_batches(consumption, enrolled, sequence, sizes, dedup, units, skip_completed):
    rules = Rules(units, skip_completed)
    world = World(consumption, enrolled, dedup, rules)
    worker = world.worker()
    outputs = [emitted(worker.handle(batch)) for batch in cut(payloads(sequence), sizes)]
    reference = reference_for(consumption, enrolled, sequence, dedup, rules)
    assert world.state() == expected_state(reference)
    assert counted([item for batch in outputs for item in batch]) == counted(reference.emitted)


@settings(max_examples=600, deadline=None)
@given(
    rows,
    enrolments,
    st.lists(events, min_size=1, max_size=10),
    batch_sizes,
    batch_sizes,
    st.integers(1, 60),
    st.booleans(),
    st.booleans(),
)
def test_a_crash_at_any_operation_and_redelivery(
    consumption, enrolled, sequence, sizes, sizes_again, at, after, restart_from_batch
):
    rules = Rules()
    world = World(consumption, enrolled, True, rules)
    world.fuse.at, world.fuse.after = at, after
    world.fuse.operations = 0
    works = payloads(sequence)
    committed: list[tuple[Any, ...]] = []
    lost: list[tuple[Any, ...]] = []
    handled = 0
    worker = world.worker()
    for batch in cut(works, sizes):
        try:
            found = emitted(worker.handle(batch))
        except Crash:
            break
        if world.fuse.operations >= at - 2 and restart_from_batch:
            # the worker died when all was done, and what it emitted never left it
            lost = found
            break
        committed += found
        handled += len(batch)
    world.fuse.at = None
    worker = world.worker()
    for batch in cut(works[handled:], sizes_again):
        committed += emitted(worker.handle(batch))

    reference = reference_for(consumption, enrolled, sequence, True, rules)
    assert world.state() == expected_state(reference)
    # a repeated failed event shows the table as it is now, with what later events wrote before the crash
    found, should = (
        counted([item[:4] if item[0] == "failed" else item for item in of]) for of in (committed, reference.emitted)
    )
    assert not should - found, f"lost (after a crash that took {lost})"
    assert set(found) == set(should)


def crashes(world: World, works: list[bytes], at: int, events_per_unit: int = 1, **fuse: bool) -> bool:
    """Whether the worker died over the works; what it emitted is lost in either case."""
    world.fuse = Fuse(at, **fuse)
    for store in (world.stores.tables, world.stores.relation_cache, world.stores.dedup, world.stores.collections):
        store.fuse = world.fuse
    try:
        world.worker(events_per_unit).handle(works)
    except Crash:
        return True
    finally:
        world.fuse.at = None
    return False


@pytest.mark.parametrize("after", [False, True])
def test_a_completion_is_not_lost_when_its_event_comes_again_in_a_larger_unit(after):
    """activity-aggregate-updater §3.2, §8.9"""
    of_learner = [[("a", 2), ("b", 2)], [("c", 2)], [("extra", 2)]]
    works = payloads([event(USERS[0], "C", contents) for contents in of_learner])
    for at in count(1):
        world = World({}, {(USERS[0], "C", BATCH): {"status": 0}}, True, Rules())
        died = crashes(world, works[:2], at, events_per_unit=3, after=after)
        found = emitted(world.worker(events_per_unit=3).handle(works))
        assert ("certificate", USERS[0], "C", BATCH) in found, f"died at operation {at}"
        if not died:
            break


def test_no_audit_is_lost_when_the_worker_dies_twice_with_half_of_the_checksums_stored():
    """activity-aggregate-updater §3.10, §3.11"""
    works = payloads([event(USERS[0], "C", [("a", 2), ("b", 2)])])
    actions = ("start", "complete")
    should = Counter(("audit", USERS[0], "C", BATCH, content, action) for content in "ab" for action in actions)
    for first in count(1):
        for second in count(1):
            world = World({}, {}, True, Rules())
            died = crashes(world, works, first, half=True)
            died_again = crashes(world, works, second, after=True)
            found = Counter(emitted(world.worker().handle(works)))
            assert found == should, f"died at operations {first} and {second}"
            if not died_again:
                break
        if not died:
            break
