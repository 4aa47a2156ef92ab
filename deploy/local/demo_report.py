"""What the demo shows on the terminal at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.local.demo_outcome import Outcome, Row, Verdict

STYLES = {None: "red", 0: "dim", 1: "yellow", 2: "green"}
SIDE_BY_SIDE = 2
LONGEST_REASON = 50
# of the table
MARGINS = 8


class Report:
    """Prints the parts of the demo's result."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, outcome: Outcome) -> None:
        """All of it but the verdict."""
        self.learners(outcome)
        jobs = list(outcome.counted.items())
        for start in range(0, len(jobs), SIDE_BY_SIDE):
            self.counters(dict(jobs[start : start + SIDE_BY_SIDE]), "Counters of this run" if start == 0 else None)
        self.dead_letters(outcome)
        told = ", ".join(f"{number} {way}" for way, number in outcome.certificates.told.items())
        self._console.print(f"Learners were told of {outcome.issued} certificates: {told}.")
        self.people(outcome)
        self._console.print("Steps: " + ", ".join(f"{name} {took:.1f} s" for name, took in outcome.steps.items()))
        if outcome.seconds_to_progress is not None and outcome.seconds_to_certificates is not None:
            events, learners = len(outcome.scenario.messages), len(outcome.stored)
            self._console.print(
                f"From the first event to the last certificate: {outcome.seconds_to_certificates:.1f} s "
                f"({events} events of {learners} learners, {outcome.issued} certificates; "
                f"the last course was completed after {outcome.seconds_to_progress:.1f} s)."
            )

    def learners(self, outcome: Outcome) -> None:
        """Each learner's progress, and each certificate: issued, or why not."""
        table = _table("Learners")
        offers = [offer.short for offer in outcome.certification.offers]
        for title in ("learner", "how", "progress", "status", *offers):
            justify: Any = "right" if title == "progress" else "left"
            table.add_column(title, justify=justify, no_wrap=title in ("learner", "progress", "status"))
        for row in outcome.rows:
            table.add_row(
                row.id,
                row.how,
                f"{row.progress}/{row.required}",
                Text(row.status, STYLES.get(row.stored.status, "red")),
                *_certificates(row),
            )
        self._print(table)

    def counters(self, counted: Mapping[str, Mapping[str, int]], title: str | None) -> None:
        """The counters of some jobs, side by side."""
        table = _table(title)
        for job in counted:
            table.add_column(job, no_wrap=True, min_width=33)
            table.add_column("", justify="right", min_width=4)
        for line in zip_longest(*(numbers.items() for numbers in counted.values()), fillvalue=("", "")):
            table.add_row(*(str(cell) for pair in line for cell in pair))
        self._print(table)

    def dead_letters(self, outcome: Outcome) -> None:
        """Why each record went to a failed topic, and how it begins."""
        table = _table("Dead letters")
        table.add_column("reason", max_width=LONGEST_REASON)
        table.add_column("record")
        for letter in outcome.dead_letters:
            record = _shortened(letter.record, self._console.width - LONGEST_REASON - MARGINS)
            table.add_row(Text(letter.reason), Text(record))
        self._print(table)

    def people(self, outcome: Outcome) -> None:
        """What was asked of the jobs around people, and what came of it."""
        table = _table("People")
        for title in ("asked", "came of it"):
            table.add_column(title, overflow="fold")
        for each in outcome.people:
            table.add_row(Text(each.asked), Text(each.found, "green" if each.right else "red"))
        self._print(table)

    def verdict(self, problems: Sequence[str]) -> None:
        """Whether all is as the scenario implies, and what is not."""
        if not problems:
            self._console.print("[green]Everything is as it should be.")
            return
        self._console.print("[red]Not as it should be:")
        for problem in problems:
            self._console.print(f"  {problem}", markup=False)

    def _print(self, table: Table) -> None:
        self._console.print()
        self._console.print(table)


def _table(title: str | None) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _certificates(row: Row) -> list[Text]:
    if row.reason is not None:
        return [Text(row.reason.short, "yellow"), *(Text("–", "dim") for _ in row.verdicts[1:])]
    return [_certificate(verdict) for verdict in row.verdicts]


def _certificate(verdict: Verdict) -> Text:
    words = "issued" if verdict.certificate else ""
    if verdict.why_not:
        words = f"{words}, though {verdict.why_not.short}" if words else verdict.why_not.short
    if not verdict.right:
        return Text(words, "red")
    return Text(words, "green" if verdict.certificate else "dim")


def _shortened(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) < length else line[: max(length - 4, 20)] + "…"
