"""The one line at the end of a trace: which of its steps explains it, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from transforms.consumption import COMPLETED
from transforms.trace import (
    CERTIFICATE,
    CONSUMPTION,
    CRITERIA,
    ENROLMENT,
    PROGRESS,
    RELATIONS,
    TEMPLATES,
    Step,
    Verdict,
    first,
    listed,
)
from transforms.trace_records import BACKLOG, DEAD_LETTERS, ISSUE, REQUESTS

__all__ = [
    "Conclusion",
    "also_said",
    "conclude",
    "is_certificate_due",
    "is_certificate_missing",
    "is_progress_missing",
    "is_something_missing",
]

_NOT_FINE = (Verdict.NO, Verdict.UNKNOWN)


class Conclusion(NamedTuple):
    """``step`` explains it (None: all is as it should be); ``also`` are other steps that say no."""

    step: Step | None
    text: str
    to_do: str
    also: tuple[str, ...]


def is_certificate_due(steps: Sequence[Step]) -> bool:
    """Whether a certificate is missing although the criteria are met."""
    return any(step.details.get("standing") == "due" for step in steps)


def is_something_missing(steps: Sequence[Step]) -> bool:
    """Whether the course is not complete, or a certificate of the batch is not there."""
    certificates = _named(steps, CERTIFICATE)
    return not _is_complete(steps) or not certificates or any(s.verdict is not Verdict.OK for s in certificates)


def is_progress_missing(steps: Sequence[Step]) -> bool:
    """Whether the course is not complete."""
    return not _is_complete(steps)


def is_certificate_missing(steps: Sequence[Step]) -> bool:
    """Whether a certificate is not there, or not as it should be, and nothing tells that it is not due."""
    return any(step.verdict in _NOT_FINE for step in _named(steps, CERTIFICATE))


def conclude(steps: Sequence[Step]) -> Conclusion:
    """What explains why there is no progress or no certificate: the first of what can be the reason.

    An enrolment that is complete needs neither consumption nor relation cache any more; a certificate whose criteria
    are met waits for a request, not for progress.
    """
    explained, text, to_do = _explained(steps)
    also = (
        step.name
        for step in steps
        if step.verdict is Verdict.NO and step is not explained and _against(step) != {ENROLMENT}
    )
    # what a certificate lacks is said by the step that explains it
    beside = tuple(dict.fromkeys(name for name in also if name not in (CERTIFICATE, explained and explained.name)))
    return Conclusion(explained, text, to_do, beside)


def _explained(steps: Sequence[Step]) -> tuple[Step | None, str, str]:
    enrolment, certificates = _named(steps, ENROLMENT)[0], _named(steps, CERTIFICATE)
    if certificates and all(step.verdict is Verdict.OK for step in certificates):
        issued = ", ".join(str(step.details.get("certificate")) for step in certificates)
        return None, f"The learner has the certificate: {issued}.", ""
    if enrolment.verdict in _NOT_FINE:
        return _as_it_says(enrolment)
    for standing in ("lost", "unreferenced", "refused"):
        if broken := [step for step in certificates if step.details.get("standing") == standing]:
            return _as_it_says(broken[0])
    if due := [step for step in certificates if step.details.get("standing") == "due"]:
        return _not_issued(steps, due[0])
    if not _is_complete(steps) and _waits_for_progress(steps):
        chain = [step for step in steps if step.name in (CONSUMPTION, RELATIONS, PROGRESS)]
        if (step := first(chain, *_NOT_FINE)) is not None:
            return _no_progress(steps, step)
    of_certificates = [step for step in steps if step.name in (TEMPLATES, CRITERIA)]
    letters = _named(steps, DEAD_LETTERS)
    for of_kind, verdict in (
        (of_certificates, Verdict.NO),
        (letters, Verdict.NO),
        (of_certificates, Verdict.UNKNOWN),
        (certificates, Verdict.UNKNOWN),
    ):
        if (step := first(of_kind, verdict)) is not None:
            return _as_it_says(step)
    return None, "Nothing was found that stands against progress and certificate.", ""


def _not_issued(steps: Sequence[Step], due: Step) -> tuple[Step, str, str]:
    """The certificate should be there: what became of its request."""
    letters, requests, backlog = (_named(steps, name) for name in (DEAD_LETTERS, REQUESTS, BACKLOG))
    if (step := first(backlog, Verdict.NO)) is not None and step.details["learnersRequestsWaiting"]:
        return step, f"{due.why} {step.why}", step.to_do
    for step in (*letters, *requests):
        if step.verdict is Verdict.NO:
            return step, f"{due.why} {step.why}", step.to_do
    if (step := first(requests, Verdict.UNKNOWN)) is not None:
        return due, f"{due.why} Whether it was asked for is not known: {step.found}", ISSUE
    why = "It was asked for, and nothing came of it; perhaps the criteria were not met then."
    return due, f"{due.why} {why}", ISSUE


def _no_progress(steps: Sequence[Step], step: Step) -> tuple[Step, str, str]:
    explained, text, to_do = _as_it_says(step)
    if step.name == PROGRESS and (letter := first(_named(steps, DEAD_LETTERS), Verdict.NO)) is not None:
        text = f"{text} {letter.why}"
    return explained, text, to_do


def _as_it_says(step: Step) -> tuple[Step, str, str]:
    return step, step.why or f"The {step.name} is not known: {step.found}", step.to_do


def _is_complete(steps: Sequence[Step]) -> bool:
    return any(step.details.get("status") == COMPLETED for step in _named(steps, ENROLMENT))


def _waits_for_progress(steps: Sequence[Step]) -> bool:
    """Whether the enrolment's status is what a certificate, or every certificate that there could be, waits for."""
    criteria = _named(steps, CRITERIA)
    if not criteria:
        return True
    return any(ENROLMENT in _against(step) for step in criteria)


def _against(criteria: Step) -> set[str]:
    """Which criteria are not met."""
    return {one["name"] for one in criteria.details.get("criteria", ()) if one["verdict"] == Verdict.NO}


def _named(steps: Sequence[Step], name: str) -> list[Step]:
    return [step for step in steps if step.name == name]


def also_said(conclusion: Conclusion) -> str:
    """The other steps that say no, as a sentence; empty without any."""
    return f"Also not right: {listed(conclusion.also)}." if conclusion.also else ""
