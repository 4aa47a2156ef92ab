"""A trace as a table for people, and as one JSON document for programs.

The document: ``user``, ``course``, ``batch``; ``verdict`` with ``text``, ``toDo``, ``step`` and ``template`` (null
when all is well) and ``also`` (other steps that say no); ``storesAway`` (why stores that are needed could not be
asked); ``steps``, each with ``name``, ``template`` (null but for criteria and certificate), ``lookedAt``, ``found``,
``verdict`` (``ok``, ``no``, ``unknown``, ``not reached``), ``why``, ``toDo`` and ``details`` (values, by step).
"""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.trace import Trace
from transforms.trace import Step, Verdict
from transforms.trace_verdict import also_said

__all__ = ["as_json", "print_table"]

_STYLES = {Verdict.OK: "green", Verdict.NO: "bold red", Verdict.UNKNOWN: "yellow", Verdict.NOT_REACHED: "dim"}


def as_json(trace: Trace) -> str:
    """The document, indented."""
    text, to_do = trace.conclusion.text, trace.conclusion.to_do
    step = trace.conclusion.step
    document = {
        "user": trace.learner.user_id,
        "course": trace.learner.course_id,
        "batch": trace.learner.batch_id,
        "verdict": {
            "text": text,
            "toDo": to_do,
            "step": step and step.name,
            "template": step and step.template,
            "also": list(trace.conclusion.also),
        },
        "storesAway": trace.away,
        "steps": [_step(one) for one in trace.steps],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _step(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "template": step.template,
        "lookedAt": step.looked_at,
        "found": step.found,
        "verdict": step.verdict.value,
        "why": step.why,
        "toDo": step.to_do,
        "details": dict(step.details),
    }


def print_table(trace: Trace, console: Console) -> None:
    """The steps as a table, then the verdict."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("step", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("looked at, found, what to do", overflow="fold")
    for step in trace.steps:
        said = [_text(step.looked_at, "dim"), _text(step.found)]
        if step.to_do:
            said.append(_text(f"→ {step.to_do}"))
        table.add_row(Text(step.name), Text(step.verdict.value, _STYLES[step.verdict]), Text("\n").join(said))
    user, course, batch = trace.learner
    console.print(_text(f"Learner {user}, course {course}, batch {batch}"))
    console.print()
    console.print(table)
    console.print()
    verdict = " ".join(filter(None, (trace.conclusion.text, also_said(trace.conclusion))))
    console.print(Text.assemble(("Verdict: ", "bold"), _text(verdict)))
    if trace.conclusion.to_do:
        console.print(Text.assemble(("What to do: ", "bold"), _text(trace.conclusion.to_do)))


def _text(said: str, style: str = "") -> Text:
    """A text without what would command the terminal."""
    return Text("".join(character if character.isprintable() else " " for character in said), style)
