"""What the demo shows at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.local.end_state import Stored
from deploy.local.scenario import Enrolment, Scenario

STATUSES = {None: "not enrolled", 0: "not started", 1: "in progress", 2: "completed"}
STYLES = {None: "red", 0: "dim", 1: "yellow", 2: "green"}
LONGEST_REASON = 50
# of the table
MARGINS = 8


class Report:
    """Prints the parts of the demo's result."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def learners(self, scenario: Scenario, stored: Mapping[Enrolment, Stored], certificates: Mapping[str, int]) -> None:
        """Each learner's progress, and whether a certificate was requested."""
        required = {course.id: len(course.required) for course in scenario.courses}
        table = _table("Learners")
        for title in ("learner", "how", "progress", "status", "completed (UTC)", "certificate"):
            justify: Any = "right" if title == "progress" else "left"
            table.add_column(title, justify=justify, no_wrap=title in ("learner", "progress", "status"))
        for enrolment, how in scenario.enrolments.items():
            found = stored[enrolment]
            table.add_row(
                # all learners of a run have its name in theirs
                enrolment.user_id.rpartition("-")[0],
                how,
                f"{found.progress or 0}/{required[enrolment.course_id]}",
                Text(STATUSES.get(found.status, str(found.status)), STYLES.get(found.status, "red")),
                f"{found.completed_on:%d %b %H:%M:%S}" if found.completed_on else "",
                {0: "", 1: "requested"}.get(certificates[enrolment.user_id], "requested more than once"),
            )
        self._print(table)

    def counters(self, counted: Mapping[str, Mapping[str, int]]) -> None:
        """The counters of the jobs, side by side."""
        table = _table("Counters of this run")
        for job in counted:
            table.add_column(job, no_wrap=True)
            table.add_column("", justify="right")
        for line in zip_longest(*(numbers.items() for numbers in counted.values()), fillvalue=("", "")):
            table.add_row(*(str(cell) for pair in line for cell in pair))
        self._print(table)

    def dead_letters(self, letters: Sequence[Mapping[str, Any]]) -> None:
        """Why each record went to the failed topic, and how it begins."""
        table = _table("Dead letters")
        table.add_column("reason", max_width=LONGEST_REASON)
        table.add_column("record")
        for reason, raw in sorted(_reason_and_record(letter) for letter in letters):
            table.add_row(Text(reason), Text(_shortened(raw, self._console.width - LONGEST_REASON - MARGINS)))
        self._print(table)

    def steps(self, seconds: Mapping[str, float]) -> None:
        """How long each step took."""
        self._console.print("Steps: " + ", ".join(f"{name} {took:.1f} s" for name, took in seconds.items()))

    def verdict(self, problems: Sequence[str]) -> None:
        """Whether all is as the scenario implies, and what is not."""
        if not problems:
            self._console.print("[green]Everything is as it should be.")
            return
        self._console.print(f"[red]{len(problems)} things are not as they should be:")
        for problem in problems:
            self._console.print(f"  {problem}", markup=False)

    def _print(self, table: Table) -> None:
        self._console.print()
        self._console.print(table)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _reason_and_record(letter: Mapping[str, Any]) -> tuple[str, str]:
    if "failInfo" not in letter:
        return f"no leaf nodes in the relation cache: {letter.get('courseId')}", json.dumps(letter)
    raw = letter.get("rawEvent")
    if raw is None:
        edata = letter.get("edata", {})
        raw = json.dumps({name: value for name, value in edata.items() if name not in ("action", "iteration")})
    return str(letter["failInfo"]["error"]), raw or "(empty)"


def _shortened(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) < length else line[: max(length - 4, 20)] + "…"
