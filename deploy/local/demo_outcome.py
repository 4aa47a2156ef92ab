"""How a run of the demo ended, learner by learner, for the terminal and the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from deploy.local.demo_certificates import (
    ASSESSMENT,
    Certification,
    ExpectedCertificates,
    Learner,
    Offer,
    WhyNot,
    why_not,
)
from deploy.local.demo_people import Happened
from deploy.local.end_state import Stored, StoredCertificate, StoredCertificates
from deploy.local.scenario import Enrolment, Expected, Scenario

STATUSES = {None: "not enrolled", 0: "not started", 1: "in progress", 2: "completed"}


class Verdict(NamedTuple):
    """A learner and an offer: the certificate of this run, or why there is none; ``right``: as it should be."""

    offer: Offer
    certificate: StoredCertificate | None
    why_not: WhyNot | None
    right: bool


@dataclass(frozen=True)
class Row:
    """A learner at the end. ``required`` contents count; ``stored`` and ``verdicts`` are as the stores have it."""

    enrolment: Enrolment
    learner: Learner
    how: str
    required: int
    stored: Stored
    verdicts: tuple[Verdict, ...]

    @property
    def id(self) -> str:
        """The learner's id without the name of the run, which all of them have in theirs."""
        return self.enrolment.user_id.rpartition("-")[0]

    @property
    def progress(self) -> int:
        return self.stored.progress or 0

    @property
    def status(self) -> str:
        return STATUSES.get(self.stored.status, str(self.stored.status))

    @property
    def reason(self) -> WhyNot | None:
        """Why the learner has none at all, where that is one and the same reason."""
        reasons = {verdict.why_not for verdict in self.verdicts}
        (reason, *others) = reasons
        none_issued = not any(verdict.certificate for verdict in self.verdicts)
        return reason if none_issued and not others and reason is not None and reason.all else None


class DeadLetter(NamedTuple):
    """Why a record went to a job's failed topic, and the record."""

    job: str
    reason: str
    record: str


@dataclass(frozen=True)
class Outcome:
    """The end of a run. ``first_event_at`` in UTC, ``steps`` in seconds, ``problems`` a line for each."""

    scenario: Scenario
    certification: Certification
    progress: Expected
    wanted: ExpectedCertificates
    first_event_at: datetime
    stored: Mapping[Enrolment, Stored]
    certificates: StoredCertificates
    counted: Mapping[str, Mapping[str, int]]
    letters: Sequence[tuple[str, Mapping[str, Any]]]
    problems: Sequence[str]
    steps: Mapping[str, float]
    people: Sequence[Happened] = ()

    @property
    def rows(self) -> list[Row]:
        """Every learner, in the order of their numbers."""
        required = len(self.certification.course.required)
        return [
            Row(
                enrolment,
                self.certification.learners[enrolment],
                how,
                required,
                self.stored[enrolment],
                tuple(self._verdict(enrolment, offer) for offer in self.certification.offers),
            )
            for enrolment, how in self.scenario.enrolments.items()
        ]

    def _verdict(self, enrolment: Enrolment, offer: Offer) -> Verdict:
        reason = why_not(self.certification, enrolment, self.progress.end_states[enrolment], offer)
        held = self.certification.held(enrolment)
        found = (
            certificate
            for certificate in self.certificates.issued[enrolment]
            if certificate.name == offer.name and certificate.entry not in held
        )
        certificate = next(found, None)
        if certificate is None and reason is None:
            return Verdict(offer, None, WhyNot("missing", "It should be there"), right=False)
        return Verdict(offer, certificate, reason, right=(certificate is None) == (reason is not None))

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters of all jobs, sorted."""
        return sorted(_dead_letter(job, letter) for job, letter in self.letters)

    @property
    def completed(self) -> int:
        """How many learners completed the course."""
        return sum(stored.completed_on is not None for stored in self.stored.values())

    @property
    def issued(self) -> int:
        """How many certificates were issued in this run."""
        return sum(verdict.certificate is not None for row in self.rows for verdict in row.verdicts)

    @property
    def seconds_to_progress(self) -> float | None:
        """From the first event to the last completion of the course; None without any."""
        return self._seconds_to(max((s.completed_on for s in self.stored.values() if s.completed_on), default=None))

    @property
    def seconds_to_certificates(self) -> float | None:
        """From the first event to the last certificate noted in an enrolment; None without any."""
        return self._seconds_to(self.certificates.last_issued_at)

    def _seconds_to(self, end: datetime | None) -> float | None:
        return None if end is None else (end - self.first_event_at).total_seconds()


def _dead_letter(job: str, letter: Mapping[str, Any]) -> DeadLetter:
    if job == ASSESSMENT:
        reason = letter.get("metadata", {}).get("validation_error", "a content of another course")
        return DeadLetter(job, reason, letter.get("rawEvent") or json.dumps(letter))
    if "failInfo" not in letter:
        return DeadLetter(job, f"no leaf nodes in the relation cache: {letter.get('courseId')}", json.dumps(letter))
    raw = letter.get("rawEvent")
    if raw is None:
        edata = letter.get("edata", {})
        raw = json.dumps({name: value for name, value in edata.items() if name not in ("action", "iteration")})
    return DeadLetter(job, str(letter["failInfo"]["error"]), raw or "(empty)")
