"""What the demo prints: readable within 120 columns, with every certificate or the reason why not."""

from __future__ import annotations

import io
import re

from rich.console import Console

from deploy.local.demo_people import problems
from deploy.local.demo_report import Report
from tests.unit.deploy.outcome import PEOPLE, made_up


def printed(learners: int = 20) -> str:
    output = io.StringIO()
    Report(Console(file=output, width=120, highlight=False)).show(made_up(learners))
    return output.getvalue()


def lines_of_learners() -> dict[int, list[str]]:
    """The cells of each learner's line, by number."""
    lines = (line for line in printed().splitlines() if re.match(r" *learner-\d+ ", line))
    cells = (re.split(r" {2,}", line.strip()) for line in lines)
    return {int(line[0].removeprefix("learner-")): line for line in cells}


def test_every_learner_has_one_line_with_the_certificates_or_why_not() -> None:
    lines = lines_of_learners()

    assert sorted(lines) == list(range(1, 21))
    assert lines[1][-3:] == ["issued", "issued", "issued"]
    assert lines[3][2:] == ["10/10", "completed", "issued", "score 45 %", "other organisation"]
    assert lines[6][2:] == ["10/10", "completed", "account blocked", "–", "–"]
    assert lines[8][-3:] == ["has it already", "issued", "other organisation"]


def test_it_fits_a_terminal_of_120_columns() -> None:
    assert max(map(len, printed().splitlines())) <= 120


def test_times_and_counters_are_there() -> None:
    shown = " ".join(printed().split())

    assert "From the first event to the last certificate: 3.3 s (" in shown
    assert "the last course was completed after 2.0 s" in shown
    assert "Learners were told of 20 certificates: 11 e-mails, 2 SMS, 20 feed entries." in shown
    assert "notified-user-count 11" in shown
    assert "no leaf nodes in the relation cache" in shown


def test_what_was_done_for_people_is_told() -> None:
    shown = " ".join(printed().split())

    assert "tell learner-1 of a certificate Your certificate is ready: Dear [b]" in shown
    assert problems(PEOPLE) == [
        "user-deletion-cleanup was asked to delete the account learner-19: left: the cached profile"
    ]


def test_what_is_wrong_is_said() -> None:
    output = io.StringIO()
    Report(Console(file=output, width=120)).verdict(["learner-1: no [bold] certificate"])

    assert "learner-1: no [bold] certificate" in output.getvalue()
    assert "Everything is as it should be" not in output.getvalue()
