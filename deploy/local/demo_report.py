"""What the demo shows at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.local.end_state import Stored
from deploy.local.scenario import Enrolment, Scenario

STATUSES = {None: "not enrolled", 0: "not started", 1: "in progress", 2: "completed"}
STYLES = {None: "red", 0: "dim", 1: "yellow", 2: "green"}
LONGEST_RAW = 70


class Report:
    """Prints the parts of the demo's result."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def learners(self, scenario: Scenario, stored: Mapping[Enrolment, Stored], certificates: Mapping[str, int]) -> None:
        """Each learner's progress, and whether a certificate was requested."""
        required = {course.id: len(course.required) for course in scenario.courses}
        table = Table(title="Learners", title_justify="left")
        for title in ("learner", "how", "progress", "status", "completed on (UTC)", "certificate"):
            table.add_column(title, justify="right" if title == "progress" else "left", no_wrap=True)
        for enrolment, how in scenario.enrolments.items():
            found = stored[enrolment]
            table.add_row(
                enrolment.user_id,
                how,
                f"{found.progress or 0}/{required[enrolment.course_id]}",
                Text(STATUSES.get(found.status, str(found.status)), STYLES.get(found.status, "red")),
                f"{found.completed_on:%Y-%m-%d %H:%M:%S}" if found.completed_on else "",
                {0: "", 1: "requested"}.get(certificates[enrolment.user_id], "requested more than once"),
            )
        self._print(table)

    def counters(self, counted: Mapping[str, Mapping[str, int]]) -> None:
        """The counters of the jobs, side by side."""
        table = Table(title="Counters of this run", title_justify="left")
        for job in counted:
            table.add_column(job, no_wrap=True)
            table.add_column("", justify="right")
        for line in zip_longest(*(numbers.items() for numbers in counted.values()), fillvalue=("", "")):
            table.add_row(*(str(cell) for pair in line for cell in pair))
        self._print(table)

    def dead_letters(self, letters: Sequence[Mapping[str, Any]]) -> None:
        """Why each record went to the failed topic, and how it begins."""
        table = Table(title="Dead letters", title_justify="left")
        table.add_column("reason", overflow="fold")
        table.add_column("record", no_wrap=True)
        for reason, raw in sorted(_reason_and_record(letter) for letter in letters):
            table.add_row(Text(reason), Text(raw))
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
        self._console.print()


def _reason_and_record(letter: Mapping[str, Any]) -> tuple[str, str]:
    if "failInfo" not in letter:
        return f"no leaf nodes in the relation cache: {letter.get('courseId')}", _shortened(json.dumps(letter))
    original = {name: value for name, value in letter.items() if name not in ("jobName", "failInfo", "rawEvent")}
    raw = letter.get("rawEvent", json.dumps(original.get("edata", original)))
    return str(letter["failInfo"]["error"]), _shortened(raw or "(empty)")


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_RAW else line[: LONGEST_RAW - 1] + "…"
