"""Which events are work: activity-aggregate-updater §2, §3.1."""

import orjson
import pytest

from transforms.consumption import LONGEST_ID, Consumption, Enrolment, InvalidEvent, Work, consumption_of
from transforms.decode import Record


def event(**edata):
    defaults = {
        "action": "batch-enrolment-update",
        "userId": "learner-1",
        "courseId": "do_course",
        "batchId": "batch-1",
        "contents": [{"contentId": "do_a", "status": 2}],
    }
    return {"eid": "BE_JOB_REQUEST", "edata": {**defaults, **edata}}


ENROLMENT = Enrolment("learner-1", "do_course", "batch-1")


def test_a_completed_content_is_work():
    assert consumption_of(event()) == Consumption(ENROLMENT, ("do_a",))


@pytest.mark.parametrize("action", ["batch-enrolment-update", "BATCH-Enrolment-Update"])
def test_the_action_is_compared_without_case(action):
    assert consumption_of(event(action=action)) is not None


@pytest.mark.parametrize(
    "parsed",
    [
        {},
        {"edata": None},
        {"edata": []},
        {"edata": "text"},
        {"edata": 1},
        event(action="batch-enrolment-sync"),
        event(action=None),
        event(action=7),
        event(action=["batch-enrolment-update"]),
        event(contents=None),
        event(contents=[]),
        event(contents=[{"contentId": "do_a", "status": 1}]),
        event(contents=[{"contentId": "do_a", "status": 1}], userId=None),
    ],
)
def test_what_is_not_for_this_job_is_skipped(parsed):
    assert consumption_of(parsed) is None


@pytest.mark.parametrize("status", [0, 1, 3, "2", None, True, [2], {"v": 2}, 2.5])
def test_only_the_number_two_counts(status):
    reported = [{"contentId": "do_a", "status": status}, {"contentId": "do_b", "status": 2.0}]
    assert consumption_of(event(contents=reported)) == Consumption(ENROLMENT, ("do_b",))


def test_an_entry_without_status_is_dropped():
    assert consumption_of(event(contents=[{"contentId": "do_a"}])) is None


@pytest.mark.parametrize("name", ["userId", "courseId", "batchId"])
@pytest.mark.parametrize("value", [None, "", "  ", 7, ["x"], {}])
def test_a_missing_id_is_an_invalid_event(name, value):
    with pytest.raises(InvalidEvent, match=f"edata.{name}"):
        consumption_of(event(**{name: value}))


@pytest.mark.parametrize("contents", ["do_a", {"contentId": "do_a"}, 3, True])
def test_contents_that_are_no_list_are_an_invalid_event(contents):
    with pytest.raises(InvalidEvent, match="not a list"):
        consumption_of(event(contents=contents))


@pytest.mark.parametrize("content_id", [None, "", " ", 5, ["do_a"]])
def test_an_event_without_usable_content_id_is_invalid(content_id):
    with pytest.raises(InvalidEvent, match="contentId"):
        consumption_of(event(contents=[{"contentId": content_id, "status": 2}]))


def test_a_blank_content_id_is_dropped_and_the_rest_is_work():
    reported = [{"contentId": " ", "status": 2}, {"contentId": "do_b", "status": 2}, "text", None, 3]
    assert consumption_of(event(contents=reported)) == Consumption(ENROLMENT, ("do_b",))


@pytest.mark.parametrize("name", ["userId", "courseId", "batchId"])
def test_an_id_too_long_for_a_key_is_an_invalid_event_and_not_shown(name):
    with pytest.raises(InvalidEvent, match=f"edata.{name} is longer") as raised:
        consumption_of(event(**{name: "x" * (LONGEST_ID + 1)}))
    assert "xxx" not in str(raised.value)


def test_a_content_id_too_long_for_a_key_is_an_invalid_event():
    with pytest.raises(InvalidEvent, match="longer"):
        consumption_of(event(contents=[{"contentId": "é" * LONGEST_ID, "status": 2}]))


@pytest.mark.parametrize("odd", ["o'hara", 'say "x"', "a b", "🦜", "a\x00b", "a\nb", "a|b"])
def test_work_keeps_odd_ids_and_the_original_on_its_way(odd):
    value = orjson.dumps(event(userId=odd, contents=[{"contentId": odd, "status": 2}])) + b"\n"
    consumption = consumption_of(orjson.loads(value))
    work = Work.of(consumption, Record(value, "topic", 1, 2, 3, lasting=True))
    again = Work.from_bytes(work.to_bytes())
    assert again == Work(Consumption(Enrolment(odd, "do_course", "batch-1"), (odd,)), "topic:1:2:3", value)


def test_a_record_without_lasting_place_has_no_delivery():
    assert Work.of(Consumption(ENROLMENT, ("do_a",)), Record(b"{}", "file:x", 0, 0, 0)).delivery == ""
