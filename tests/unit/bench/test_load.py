"""The load of the bench: its shape, and that the expected end state follows from its events."""

from collections import Counter

import pytest

from deploy.local.scenario import COMPLETED, Fate
from tests.bench.load import Load, Shape, load_of, relation_cache

SMALL = Shape(events=400, learners=90)


@pytest.fixture(scope="module")
def load() -> Load:
    return Load.of(SMALL, SMALL.course("small"), "a")


def test_it_has_the_shape_that_was_asked_for(load: Load) -> None:
    messages = load.scenario.messages
    assert len(messages) == 400
    assert Counter(message.fate for message in messages) == {Fate.HANDLED: 396, Fate.SKIPPED: 4}
    assert len({message.value for message in messages}) == 400 - 40
    assert {len(message.completed) for message in messages if message.fate is Fate.HANDLED} == {1, 2, 3, 4}
    assert len(load.scenario.enrolments) == 90


def test_a_duplicate_comes_behind_its_original_as_the_same_bytes(load: Load) -> None:
    first: dict[bytes | None, int] = {}
    repeated = [
        place for place, message in enumerate(load.scenario.messages) if first.setdefault(message.value, place) != place
    ]
    assert len(repeated) == 40
    assert any(load.scenario.messages[place] is load.scenario.messages[place - 1] for place in repeated)


def test_no_event_but_a_duplicate_reports_a_content_again(load: Load) -> None:
    distinct = {message.value: message for message in load.scenario.messages if message.fate is Fate.HANDLED}
    reported = Counter((m.enrolment, content) for m in distinct.values() for content in m.completed)
    assert set(reported.values()) == {1}


def test_the_same_seed_gives_the_same_load(load: Load) -> None:
    again = Load.of(SMALL, SMALL.course("small"), "a")
    assert [m.reported for m in again.scenario.messages] == [m.reported for m in load.scenario.messages]
    other = Load.of(SMALL, SMALL.course("small"), "a", seed=2)
    assert [m.reported for m in other.scenario.messages] != [m.reported for m in load.scenario.messages]


def test_the_lms_has_written_all_but_the_last_event_of_each_learner(load: Load) -> None:
    written = {(message.enrolment, content) for message in load.written_by_lms() for content in message.completed}
    for enrolment, state in load.end_states.items():
        missing = {content for content in state.counted if (enrolment, content) not in written}
        last = [m for m in load.scenario.messages if m.enrolment == enrolment and m.fate is Fate.HANDLED]
        newest = max(last, key=lambda m: load.first_reports[enrolment.user_id, m.completed[0]], default=None)
        assert missing == set(newest.completed if newest else ())


def test_the_events_that_must_come_follow_from_the_end_state(load: Load) -> None:
    complete = [e.user_id for e, state in load.end_states.items() if state.status == COMPLETED]
    assert complete
    assert load.certificates() == Counter(complete)
    kinds = Counter(kind for _, _, kind in load.audits().elements())
    counted = sum(len(state.counted) for state in load.end_states.values())
    assert kinds == {"start": counted, "complete": counted, "enrol-complete": len(complete)}


def test_a_learner_is_told_to_be_of_a_load(load: Load) -> None:
    assert {load_of(enrolment.user_id) for enrolment in load.scenario.enrolments} == {load.name} == {"a"}
    assert load_of("") == ""


def test_too_few_learners_are_refused() -> None:
    with pytest.raises(ValueError, match="take more learners"):
        Load.of(Shape(events=100, learners=2), Shape().course("c"), "a")


def test_units_of_uneven_size_are_refused() -> None:
    with pytest.raises(ValueError, match="dealt out evenly"):
        Shape(leaf_nodes=10, units=3).course("c")


def test_learners_in_the_usual_proportion() -> None:
    assert Shape.learners_for(6_091) == 1_300
    assert Shape.learners_for(1) == 1


def test_the_relation_cache_of_a_course() -> None:
    sets = relation_cache(Shape(leaf_nodes=4, units=2).course("c"))
    assert sets["do_c:do_c:leafnodes"] == {"do_c_1_1", "do_c_1_2", "do_c_2_1", "do_c_2_2"}
    assert sets["do_c:do_c_1:leafnodes"] == {"do_c_1_1", "do_c_1_2"}
    assert sets["do_c:do_c_2_1:ancestors"] == {"do_c_2", "do_c"}
    assert len(sets) == 3 + 4
