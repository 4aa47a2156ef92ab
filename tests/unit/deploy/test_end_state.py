"""What is not as a scenario implies is found and named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from deploy.local.end_state import Stored, differences
from deploy.local.scenario import EndState, Enrolment

LEARNER = Enrolment("learner-1", "do_1", "batch-1")
WANTED = EndState(
    progress=1, status=2, certificate=True, aggregates={"do_1": 1, "do_1_1": 1}, counted=frozenset({"do_1_1_1"})
)
RIGHT = Stored(
    status=2,
    progress=1,
    completed_on=datetime(2024, 6, 1, tzinfo=UTC),
    content_status={"do_1_1_1": 2, "do_1_2_1": 1},
    aggregates={"do_1": 1, "do_1_1": 1, "do_1_2": 0},
    counted={"do_1_1_1": (1, 1)},
)


def test_nothing_is_said_about_what_is_right() -> None:
    assert differences(LEARNER, WANTED, RIGHT) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"status": 1}, "the enrolment's status is 1, not 2"),
        ({"status": None}, "the enrolment's status is None, not 2"),
        ({"progress": 2}, "the progress is 2, not 1"),
        ({"completed_on": None}, "completedon is set is False, not True"),
        ({"aggregates": {"do_1": 1}}, "the aggregate of do_1_1 is 0, not 1"),
        ({"aggregates": {"do_1": 1, "do_1_1": 1, "do_1_2": 3}}, "the aggregate of do_1_2 is 3, not 0"),
        ({"counted": {"do_1_1_1": (2, 2)}}, "(views, completions) of do_1_1_1 is (2, 2), not (1, 1)"),
        ({"counted": {}}, "(views, completions) of do_1_1_1 is (0, 0), not (1, 1)"),
        ({"content_status": {}}, "contentstatus has the completed contents []"),
        ({"content_status": {"do_9": 2}}, "contentstatus has the completed contents ['do_9']"),
    ],
)
def test_each_difference_is_named(changed: dict[str, Any], named: str) -> None:
    assert differences(LEARNER, WANTED, replace(RIGHT, **changed)) == [f"learner-1: {named}"]
