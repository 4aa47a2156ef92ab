"""The made-up scenario holds what it says, and the end state that it implies is the right one."""

from __future__ import annotations

import json
from random import Random

import pytest

from deploy.local.scenario import (
    COMPLETED,
    IN_PROGRESS,
    Course,
    EndState,
    Enrolment,
    Fate,
    Message,
    Scenario,
    consumption_event,
    expected,
    journeys,
    load,
    merge_event,
    sync_event,
)
from transforms.consumption import Consumption, InvalidEvent, consumption_of
from transforms.consumption import Enrolment as EnrolmentRead
from transforms.decode import NotAnObject, parse_object
from transforms.merge_records import merge_of
from transforms.reconcile_progress import reconciliation_of
from transforms.relation_cache import ancestors, flatten, leaf_nodes, optional_nodes

COURSE = Course("do_1", (2, 2), optional=1)
LEARNER = Enrolment("learner-1", "do_1", "batch-1")
ETS = 1_718_000_000_000


def test_a_course_has_the_shape_asked_for() -> None:
    course = Course("do_1", (2, 2, 3), optional=2)

    assert len(course.leaf_nodes) == 12
    assert set(course.units) == {"do_1_1", "do_1_2", "do_1_1_1", "do_1_1_2", "do_1_2_1", "do_1_2_2"}
    assert course.optional_nodes == {"do_1_1_1_3", "do_1_1_2_3"}
    assert [unit.name for unit in course.units.values()][:2] == ["Module 1", "Unit 1.1"]


def test_the_tree_is_one_that_the_relation_cache_reads() -> None:
    nodes = flatten("do_1", json.loads(json.dumps(COURSE.hierarchy())))

    assert dict(leaf_nodes(nodes))["do_1"] == set(COURSE.leaf_nodes)
    assert dict(leaf_nodes(nodes))["do_1_2"] == {"do_1_2_1", "do_1_2_2"}
    assert dict(optional_nodes(nodes))["do_1"] == {"do_1_1_2"}
    assert dict(ancestors(nodes))["do_1_2_1"] == {"do_1", "do_1_2"}


def message(*reported: tuple[str, int], fate: Fate = Fate.HANDLED, enrolment: Enrolment = LEARNER) -> Message:
    return Message(consumption_event(*enrolment, reported, ETS), fate, enrolment, reported)


def end_state(*messages: Message) -> EndState:
    return expected(Scenario((COURSE,), {LEARNER: ""}, messages)).end_states[LEARNER]


def test_a_consumption_event_is_one_that_the_job_reads() -> None:
    value = consumption_event(*LEARNER, [("do_1_1_1", COMPLETED), ("do_1_1_2", IN_PROGRESS)], ETS)

    assert consumption_of(parse_object(value)) == Consumption(EnrolmentRead(*LEARNER), ("do_1_1_1",))


def test_what_is_partly_done_is_in_progress() -> None:
    assert end_state(message(("do_1_1_1", COMPLETED), ("do_1_2_1", IN_PROGRESS))) == EndState(
        progress=1, status=1, certificate=False, aggregates={"do_1": 1, "do_1_1": 1}, counted=frozenset({"do_1_1_1"})
    )


def test_optional_contents_do_not_count_and_are_not_needed() -> None:
    assert end_state(message(("do_1_1_2", COMPLETED))).progress == 0
    state = end_state(message(*((content, COMPLETED) for content in COURSE.required)))
    assert (state.progress, state.status, state.certificate) == (3, 2, True)


def test_nothing_completed_leaves_the_enrolment_alone() -> None:
    state = end_state(message(("do_1_1_1", IN_PROGRESS), fate=Fate.SKIPPED))
    assert (state.progress, state.status, state.certificate, state.aggregates) == (None, 0, False, {})


def test_who_is_not_enrolled_gets_aggregates_only() -> None:
    scenario = Scenario((COURSE,), {}, (message(*((content, COMPLETED) for content in COURSE.leaf_nodes)),))
    state = expected(scenario).end_states[LEARNER]
    assert (state.progress, state.status, state.certificate) == (None, None, False)
    assert state.aggregates == {"do_1": 3, "do_1_1": 1, "do_1_2": 2}


def test_a_repeated_event_is_one_event_more_and_nothing_else() -> None:
    once, twice = (
        expected(Scenario((COURSE,), {LEARNER: ""}, (message(("do_1_1_1", COMPLETED)),) * times)) for times in (1, 2)
    )
    assert once.end_states == twice.end_states
    assert once.audits == twice.audits
    assert twice.counters["batch-enrolment-update-count"] == 2
    assert twice.counters["processed-enrolment-count"] == 1


@pytest.mark.parametrize(
    "scenario",
    [journeys(Random(1), "run1", ETS, learners=26), load(Random(2), "run2", ETS, learners=20, events=500)],
    ids=["journeys", "load"],
)
def test_each_message_fares_as_its_fate_says(scenario: Scenario) -> None:
    for sent in scenario.messages:
        try:
            consumption = consumption_of(parse_object(sent.value))
        except (NotAnObject, InvalidEvent):
            assert sent.fate is Fate.INVALID
            continue
        if consumption is None:
            assert sent.fate is Fate.SKIPPED
        else:
            assert sent.fate in (Fate.HANDLED, Fate.NO_LEAF_NODES)
            assert (consumption.enrolment, list(consumption.contents)) == (sent.enrolment, sent.completed)


def test_the_journeys_have_something_of_everything() -> None:
    scenario = journeys(Random(1), "run1", ETS)
    implied = expected(scenario)

    assert len(scenario.enrolments) == 20
    assert {sent.fate for sent in scenario.messages} == set(Fate)
    assert {state.status for state in implied.end_states.values()} == {0, 1, 2}
    assert implied.dead_letters == implied.counters["failed-events-count"] == 10
    assert implied.counters["total-events-count"] == len(scenario.messages) + len(scenario.merges)
    certified = sum(s.certificate for s in implied.end_states.values())
    assert implied.counters["cert-issue-events-count"] + implied.repaired == certified


def test_what_is_repaired_is_complete_only_then() -> None:
    scenario = journeys(Random(1), "run1", ETS)
    (course,) = scenario.courses
    lost, source, target = scenario.synced[0], *scenario.merges[0]
    assert scenario.synced == (lost, target)
    before, after = (expected(each).end_states for each in (scenario.without_repairs, scenario))
    assert [state[each].status for state in (before, after) for each in (lost, source, target)] == [1, 1, 1, 2, 1, 2]
    assert before[source] == after[source], "nothing of the old account changes"
    assert after[target].counted == set(course.leaf_nodes)
    assert after[lost].counted == before[lost].counted
    assert after[lost].counted | after[lost].lost == set(course.leaf_nodes)
    assert expected(scenario).repaired == 2


def test_fewer_learners_have_less_to_repair() -> None:
    scenario = journeys(Random(1), "run1", ETS, learners=16)
    assert scenario == scenario.without_repairs
    scenario = journeys(Random(1), "run1", ETS, learners=19)
    assert (len(scenario.synced), scenario.merges) == (1, ())


def test_the_events_of_repairs_are_ones_that_the_jobs_read() -> None:
    assert reconciliation_of(parse_object(sync_event(LEARNER, ETS))) == Consumption(EnrolmentRead(*LEARNER), ())
    assert merge_of(parse_object(merge_event("old", "new", ETS))) == ("old", "new")


def test_a_learners_messages_keep_their_order_whatever_is_between_them() -> None:
    scenario = journeys(Random(3), "run1", ETS)
    for enrolment in scenario.enrolments:
        times = [
            json.loads(sent.value)["ets"] for sent in scenario.messages if sent.enrolment == enrolment and sent.value
        ]
        assert times == sorted(times)


def test_the_same_seed_gives_the_same_scenario() -> None:
    def without_ids(scenario: Scenario) -> list[object]:
        return [(sent.enrolment, sent.reported, sent.fate) for sent in scenario.messages]

    assert without_ids(journeys(Random(7), "run1", ETS)) == without_ids(journeys(Random(7), "run1", ETS))
    assert without_ids(journeys(Random(7), "run1", ETS)) != without_ids(journeys(Random(8), "run1", ETS))


def test_a_load_has_as_many_events_as_asked_for_in_the_shares_asked_for() -> None:
    scenario = load(Random(5), "run1", ETS, learners=50, events=2_000, duplicates=0.1, skipped=0.05, courses=2)

    assert len(scenario.messages) == 2_000
    assert 60 < sum(sent.fate is Fate.SKIPPED for sent in scenario.messages) < 140
    assert len({id(sent) for sent in scenario.messages}) < 1_900
    assert {enrolment.course_id for enrolment in scenario.enrolments} == {"do_run1_1", "do_run1_2"}
