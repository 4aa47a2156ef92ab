"""The rules of merge-user-courses §3, one by one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
import pytest

from schemas.event_schemas import validator
from transforms.merge_records import (
    INVALID,
    InvalidMerge,
    Merge,
    aggregate_change,
    carried_columns,
    consumption_changes,
    enrolments_to_carry,
    merge_of,
    sync_event,
)
from transforms.overlapped import in_turns

FORMAT = "yyyy-MM-dd HH:mm:ss:SSSZ"
EARLY, LATE = datetime(2024, 5, 1), datetime(2024, 5, 2)
AT_TEN, AT_HALF_PAST_EIGHT = "2024-05-02 10:00:00:000+0000", "2024-05-02 14:00:00:000+0530"
NOW = 1_714_650_001_000


def event(**edata: Any) -> dict[str, Any]:
    accounts = {"action": "merge-user-courses-and-cert", "fromAccountId": "u", "toAccountId": "v", **edata}
    return {"eid": "BE_JOB_REQUEST", "edata": {k: v for k, v in accounts.items() if v is not ...}}


def test_the_accounts_of_an_event() -> None:
    """§2"""
    assert merge_of(event()) == Merge("u", "v")
    assert merge_of(event(toAccountId="U")) == Merge("u", "U")
    validator("merge-user-courses").validate(event())


@pytest.mark.parametrize(
    "parsed",
    [
        {},
        {"edata": None},
        {"edata": []},
        event(fromAccountId=...),
        event(toAccountId=" \t"),
        event(toAccountId=5),
        event(fromAccountId=None),
        event(fromAccountId="v"),
    ],
)
def test_an_event_without_two_accounts(parsed: dict[str, Any]) -> None:
    """§2, §8.6"""
    with pytest.raises(InvalidMerge, match=f"^{INVALID}$"):
        merge_of(parsed)


@pytest.mark.parametrize(
    ("pairs", "turns"),
    [
        ("", []),
        ("ab cd", [[0, 1]]),
        ("ab ab", [[0], [1]]),
        ("ab cb db", [[0], [1], [2]]),
        ("ab bc xy", [[0, 2], [1]]),
        ("ab xy bc ya", [[0, 1], [2, 3]]),
    ],
)
def test_turns(pairs: str, turns: list[list[int]]) -> None:
    """§3: two merges into one account never run side by side"""
    assert in_turns([Merge(*pair) for pair in pairs.split()]) == turns


def consumption(**columns: Any) -> dict[str, Any]:
    return {"userid": "u", "courseid": "C", "batchid": "B", "contentid": "a", **columns}


@pytest.mark.parametrize(
    ("column", "mine", "theirs", "change"),
    [
        ("status", 2, 1, 2),
        ("status", 1, 2, None),
        ("status", 0, None, 0),
        ("status", None, 2, None),
        ("progress", 100, 40, 100),
        ("viewcount", 4, 2, 6),
        ("viewcount", 4, None, 4),
        ("viewcount", None, 2, None),
        ("completedcount", 0, 2, None),
        ("datetime", LATE, EARLY, LATE),
        ("last_access_time", EARLY, LATE, None),
        ("last_completed_time", EARLY, None, EARLY),
        ("last_updated_time", LATE, LATE, None),
        ("completionpercentage", 90.0, 10.0, None),
        ("completionpercentage", 90.0, None, None),
        ("progressdetails", "{}", None, None),
        ("lastaccesstime", AT_TEN, AT_HALF_PAST_EIGHT, AT_TEN),
        ("lastcompletedtime", "2024-05-02 08:30:00:000+0000", AT_HALF_PAST_EIGHT, None),
        ("lastupdatedtime", "x", "y", None),
        ("lastupdatedtime", "x", None, "x"),
    ],
)
def test_one_column_of_a_content_that_both_have(column: str, mine: Any, theirs: Any, change: Any) -> None:
    """§3.1"""
    changes = consumption_changes([consumption(**{column: mine})], [consumption(**{column: theirs})], FORMAT)
    assert changes == ({} if change is None else {("C", "B", "a"): {column: change}})


def test_a_content_that_the_target_has_not() -> None:
    """§3.1: every column as it is"""
    row = consumption(status=1, progressdetails="{}", more=5, viewcount=None)
    other = consumption(contentid="b", status=2)
    assert consumption_changes([row], [other], FORMAT) == {
        ("C", "B", "a"): {"status": 1, "progressdetails": "{}", "more": 5}
    }


def test_columns_of_an_enrolment() -> None:
    row = {"userid": "u", "courseid": "C", "batchid": "B", "active": False, "status": None, "progress": 0}
    assert carried_columns(row, ("courseid", "batchid")) == {"active": False, "progress": 0}


def test_enrolments_in_batches_that_the_target_is_not_in() -> None:
    """§3.3: compared exactly, by batch alone"""

    def rows(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
        return [{"courseid": course, "batchid": batch} for course, batch in pairs]

    source = rows(("C", "B1"), ("D", "B1"), ("C", "b2"), ("E", "B3"))
    assert enrolments_to_carry(source, rows(("X", "B1"), ("C", "B2"))) == rows(("C", "b2"), ("E", "B3"))


def test_an_aggregate_that_changes_nothing_but_the_count() -> None:
    """§3.2"""
    row = {"aggregates": {"completedCount": 2.0, "score:x": 1.0}, "agg": {"n": 1}, "agg_details": ["1"]}
    assert aggregate_change(row, row, NOW) == (
        {},
        {"aggregates": {"completedCount": 2.0}, "agg_last_updated": {"completedCount": NOW}},
    )


def test_details_are_put_behind_those_that_are_there() -> None:
    """§3.2"""
    source = {"agg_details": ["3", "1", "3"]}
    assert aggregate_change(source, {"agg_details": ["2", "1"]}, NOW).assign == {"agg_details": ["2", "1", "3", "3"]}
    assert aggregate_change({"agg_details": None}, {"agg_details": ["2"]}, NOW).assign == {}


def test_the_sync_event_fits_its_schema() -> None:
    new_id = "8c1d2f7e-53c3-4c83-9d0f-6b9d9b0f2a11"
    sync = orjson.loads(sync_event({"userid": "v", "courseid": "C", "batchid": "B"}, NOW, lambda: new_id))
    validator("batch-enrolment-sync").validate(sync)
    validator("be-job-request").validate(sync)
    assert sync["mid"] == f"LP.{NOW}.{new_id}"
