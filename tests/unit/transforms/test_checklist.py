"""A checklist's steps in their order, and what is told of them."""

from __future__ import annotations

import pytest

from transforms.checklist import Report, Step


def test_steps_are_done_in_order_and_told_by_store():
    done: list[str] = []

    def change(name: str, changed: int) -> int:
        done.append(name)
        return changed

    report = Report()
    steps = [
        Step("rows", 3, lambda: change("first", 2)),
        # what could not be looked for before, and was changed
        Step("keycloak", 0, lambda: change("second", 1)),
        Step("rows", 1, lambda: change("third", 1)),
    ]
    report.carry_out(steps, dry_run=False)
    assert done == ["first", "second", "third"]
    assert str(report) == "rows 3 of 4, keycloak 1 of 1"
    assert report.counts() == {
        "rows-found-count": 4,
        "rows-changed-count": 3,
        "keycloak-found-count": 1,
        "keycloak-changed-count": 1,
    }


def test_a_dry_run_does_no_step():
    def never() -> int:
        raise AssertionError("a dry run changes nothing")

    report = Report()
    report.carry_out([Step("rows", 3, never)], dry_run=True)
    assert str(report) == "rows 0 of 3"


def test_what_a_step_raises_ends_the_checklist():
    done: list[int] = []

    def fails() -> int:
        raise LookupError

    report = Report()
    with pytest.raises(LookupError):
        report.carry_out([Step("a", 1, fails), Step("b", 1, lambda: len(done) or done.append(1) or 1)], dry_run=False)
    assert done == []
