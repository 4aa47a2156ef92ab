"""The demo's certificates: what the batch offers, what Sunbird knows of the learners, and who gets what, or why not.

Facts of the scenario and what follows from them in plain words; none of the jobs' own rules are used, so that it can
judge them. What the LMS and the user service keep of it is written here too.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import redis
import requests
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from deploy.local.scenario import CHANNEL, Course, EndState, Enrolment, Expected, Scenario

PICTURES = Path(__file__).with_name("templates")

ASSESSMENT = "assessment-aggregator"
RECONCILIATION = "enrolment-reconciliation"
MERGE = "merge-user-courses"
PRE_PROCESSOR = "collection-cert-pre-processor"
GENERATOR = "collection-certificate-generator"

OTHER_ORGANISATION = "0126684405014528003"
ISSUER = {"name": "State Council", "url": "https://scert.example.in/"}
ISSUED_AUDIT = "certificate-issued-svg"

COURSES_DATABASE = 0
CONTENTS_DATABASE = 5
CALL_SECONDS = 30

# --- what is offered, and who asks for it


@dataclass(frozen=True, slots=True)
class Offer:
    """A certificate of the batch, and its conditions beyond a finished course.

    ``picture`` is one of the templates that are shipped; ``least_score`` in percent; ``organisation``: for its learners
    only; ``mailed``: whether the learner is told by e-mail.
    """

    short: str
    name: str
    picture: str
    least_score: float | None = None
    organisation: str | None = None
    mailed: bool = False


OFFERS = (
    Offer("completion", "Course Completion Certificate", "classic", mailed=True),
    Offer("merit", "Certificate of Merit", "merit", least_score=60),
    Offer("staff", "Staff Training Certificate", "modern", organisation=CHANNEL),
)


class Assessment(NamedTuple):
    """A content with scores. Only those of type SelfAssess count; not all of them are in the content cache."""

    name: str
    content_type: str
    cached: bool


FINAL, MIDDLE, PRACTICE = (
    Assessment("final quiz", "SelfAssess", cached=True),
    Assessment("quiz half way", "SelfAssess", cached=False),
    Assessment("practice", "Resource", cached=True),
)


@dataclass(frozen=True, slots=True)
class Learner:
    """What Sunbird knows of a learner beside the progress.

    ``holds``: the short names of the offers that were issued before; ``scores``: (points, most points) of assessments.
    """

    first_name: str
    last_name: str | None
    organisation: str = OTHER_ORGANISATION
    phone: bool = False
    blocked: bool = False
    active: bool = True
    holds: tuple[str, ...] = ()
    scores: Mapping[Assessment, tuple[float, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The full name, as it is to stand on a certificate."""
        return " ".join(part for part in (self.first_name, self.last_name) if part and part != "null")

    @property
    def best_score(self) -> float | None:
        """The best of what counts, in percent; None without any."""
        counting = [
            points * 100 / most
            for assessment, (points, most) in self.scores.items()
            if assessment.content_type == "SelfAssess"
        ]
        return max(counting, default=None)


LEARNERS = (
    Learner("Learner", "One", CHANNEL, phone=True, scores={FINAL: (17, 20)}),
    Learner("Learner", "Two"),
    Learner("Learner", "O'Three", scores={FINAL: (9, 20)}),
    Learner("Learner", "Four"),
    Learner("Learner <b>Five</b>", '& "Co"', scores={MIDDLE: (6, 10)}),
    Learner("Learner", "Six", CHANNEL, blocked=True, scores={FINAL: (19, 20)}),
    Learner("Learner", "Seven", scores={FINAL: (20, 20)}),
    Learner("Learner", "Eight", holds=("completion",), scores={FINAL: (14, 20), MIDDLE: (4, 10)}),
    Learner("शिक्षार्थी", "नौ", CHANNEL),
    Learner("Learner Ten", "with a Rather Long Name", scores={PRACTICE: (10, 10)}),
    Learner("Learner", "Eleven", CHANNEL),
    Learner("Learner", "Twelve"),
    Learner("Learner", "Thirteen", blocked=True),
    Learner("Learner", "Fourteen", CHANNEL, active=False, scores={FINAL: (18, 20)}),
    Learner("Fifteen", "null", phone=True),
    Learner("المتعلم", "السادس عشر", scores={FINAL: (2, 20), MIDDLE: (9, 10)}),
    Learner("Learner", "Seventeen"),
    Learner("Learner", "Eighteen", CHANNEL, scores={FINAL: (20, 20), PRACTICE: (0, 10)}),
    Learner("Learner", None, scores={FINAL: (13, 20)}),
    Learner("Learner", "Twenty", scores={PRACTICE: (10, 10)}),
)


class Attempt(NamedTuple):
    """A learner's answers to an assessment: so many of its questions are right. ``number`` is from 1 on."""

    enrolment: Enrolment
    content_id: str
    number: int
    right: float
    questions: float

    @property
    def total(self) -> str:
        """As the table has it. spec: assessment-aggregator §3.5"""
        return f"{float(self.right)}/{float(self.questions)}"

    def event(self, ets: int) -> bytes:
        """What the LMS sends of it; ``ets`` in epoch ms. spec: assessment-aggregator §2"""
        user_id, course_id, batch_id = self.enrolment
        answers = [_answer(number, int(number <= self.right), ets) for number in range(1, int(self.questions) + 1)]
        event = {"courseId": course_id, "batchId": batch_id, "userId": user_id, "contentId": self.content_id}
        attempt_id = f"{user_id}-{self.content_id}-{self.number}"
        return json.dumps({**event, "attemptId": attempt_id, "assessmentTs": ets, "events": answers}).encode()


def _answer(number: int, score: int, ets: int) -> dict[str, Any]:
    item = {"id": f"question-{number}", "maxscore": 1, "type": "mcq", "title": f"Question {number}?\n"}
    item["params"] = [{"1": '{"text":"this"}'}, {"2": '{"text":"that"}'}, {"answer": '{"correct":["1"]}'}]
    answered = {"1": '{"text":"this"}'} if score else {"2": '{"text":"that"}'}
    edata = {"item": item, "index": number, "score": score, "resvalues": [answered], "duration": 3}
    return {"eid": "ASSESS", "ets": ets, "edata": edata}


@dataclass(frozen=True)
class Stray:
    """A record that no job should be stopped by: on which topic, and whether it ends as a dead letter or skipped."""

    job: str
    value: bytes
    dead_letter: bool


@dataclass(frozen=True)
class Certification:
    """Who may get which certificates of one batch. ``assessments``: content id -> what it is.

    ``attempts`` in the order in which they are made; of ``again`` the event comes twice. ``merged``: the accounts that
    were merged into others, with those; the latter have the scores of both.
    """

    course: Course
    batch_id: str
    offers: tuple[Offer, ...]
    learners: Mapping[Enrolment, Learner]
    assessments: Mapping[str, Assessment]
    strays: tuple[Stray, ...]
    attempts: tuple[Attempt, ...] = ()
    again: tuple[Attempt, ...] = ()
    merged: Mapping[Enrolment, Enrolment] = field(default_factory=dict)

    def attempts_of(self, enrolment: Enrolment) -> list[tuple[str, str]]:
        """(content, points of most points) of a learner's own attempts, sorted."""
        return sorted((made.content_id, made.total) for made in self.attempts if made.enrolment == enrolment)

    def events_of(self, enrolment: Enrolment) -> int:
        """How many events of attempts come of a learner."""
        return sum(made.enrolment == enrolment for made in (*self.attempts, *self.again))

    def template_id(self, offer: Offer) -> str:
        """The id of the offer's template; all of a run's are its own."""
        return f"{self.course.id}_{offer.short}"

    def templates(self) -> dict[str, dict[str, str]]:
        """The batch's templates as the LMS keeps them: all members are texts, some of which are JSON, by id.

        spec: collection-cert-pre-processor §3.1
        """
        return {(template_id := self.template_id(offer)): _as_kept(template_id, offer) for offer in self.offers}

    def scores(self, learner: Learner) -> dict[str, float]:
        """The aggregates of the learner's scores. spec: assessment-aggregator §3.7"""
        found: dict[str, float] = {}
        for content_id, assessment in self.assessments.items():
            if assessment in learner.scores:
                points, most = learner.scores[assessment]
                found |= {f"score:{content_id}": float(points), f"max_score:{content_id}": float(most)}
                found[f"attempts_count:{content_id}"] = 2.0 if assessment is FINAL else 1.0
        return found

    def held(self, enrolment: Enrolment) -> list[dict[str, str]]:
        """The entries of certificates that the learner had before."""
        return [
            {
                "name": offer.name.upper(),
                "identifier": f"held-{enrolment.user_id}",
                "token": "A1B2C3",
                "lastIssuedOn": "2024-06-12T08:00:06.123+0000",
            }
            for offer in self.offers
            if offer.short in self.learners[enrolment].holds
        ]


def certification(scenario: Scenario, run: str) -> Certification:
    """The certificates of the scenario's first course; its learners are those of LEARNERS, in turn."""
    course = scenario.courses[0]
    last, *_, first = reversed(course.leaf_nodes)
    middle = course.leaf_nodes[len(course.leaf_nodes) // 2]
    batch_id = next(iter(scenario.enrolments)).batch_id
    assessments = {last: FINAL, middle: MIDDLE, first: PRACTICE}
    learners = {enrolment: LEARNERS[place % len(LEARNERS)] for place, enrolment in enumerate(scenario.enrolments)}
    attempts = tuple(
        made for enrolment, learner in learners.items() for made in _attempts(enrolment, learner, assessments)
    )
    for source, target in scenario.merges:
        learners[target] = replace(learners[target], scores={**learners[source].scores, **learners[target].scores})
    return Certification(
        course,
        batch_id,
        OFFERS,
        learners,
        assessments,
        _strays(run, course, batch_id),
        attempts,
        tuple(made for made in attempts if made.number == 2),
        dict(scenario.merges),
    )


def _attempts(enrolment: Enrolment, learner: Learner, assessments: Mapping[str, Assessment]) -> Iterator[Attempt]:
    """Each assessment once; the final one first with half of the points, then with all of them."""
    for content_id, assessment in assessments.items():
        if assessment in learner.scores:
            points, most = learner.scores[assessment]
            if assessment is FINAL:
                yield Attempt(enrolment, content_id, 1, points // 2, most)
            yield Attempt(enrolment, content_id, 2 if assessment is FINAL else 1, points, most)


def _strays(run: str, course: Course, batch_id: str) -> tuple[Stray, ...]:
    def event(**edata: Any) -> bytes:
        return json.dumps({"eid": "BE_JOB_REQUEST", "mid": f"LP.{run}", "edata": edata}).encode()

    batch = {"batchId": batch_id, "courseId": course.id}
    learner = f"learner-1-{run}"
    elsewhere = Attempt(Enrolment(learner, course.id, batch_id), f"do_{run}_of_another_course", 1, 1, 1)
    return (
        Stray(PRE_PROCESSOR, b"no JSON at all %s" % run.encode(), dead_letter=True),
        Stray(PRE_PROCESSOR, event(action="issue-certificate", userIds=[], **batch), dead_letter=False),
        Stray(PRE_PROCESSOR, event(action="issue-certificate", userIds=[learner], batchId=7), dead_letter=False),
        Stray(GENERATOR, event(name="Certificate", userId=learner, data=[]), dead_letter=True),
        Stray(ASSESSMENT, elsewhere.event(1_714_623_600_000), dead_letter=True),
        Stray(ASSESSMENT, b'{"courseId": "%s"' % course.id.encode(), dead_letter=True),
        Stray(RECONCILIATION, event(action="user-enrolment-sync", userId=" ", **batch), dead_letter=True),
        Stray(RECONCILIATION, event(action="batch-enrolment-update", userId=learner, **batch), dead_letter=False),
        Stray(MERGE, event(fromAccountId=learner, toAccountId=learner), dead_letter=True),
    )


# --- what follows


class WhyNot(NamedTuple):
    """Why a learner does not get a certificate: in a few words, and in some more.

    ``all``: the reason is the learner's, and the same for every certificate.
    """

    short: str
    words: str
    all: bool = False


def why_not(certification: Certification, enrolment: Enrolment, state: EndState, offer: Offer) -> WhyNot | None:
    """Why a learner is not given a certificate in this run; None for who is."""
    learner = certification.learners[enrolment]
    if (of_all := _why_none(certification, enrolment, state)) is not None:
        return of_all
    if offer.short in learner.holds:
        return WhyNot("has it already", "Has it since June 2024")
    if offer.least_score is not None:
        best = learner.best_score
        if best is None:
            practised = "Practice does not count" if learner.scores else f"No score, needs {offer.least_score:.0f} %"
            return WhyNot("no score", practised)
        if best < offer.least_score:
            return WhyNot(f"score {best:.0f} %", f"Score {best:.0f} %, needs {offer.least_score:.0f} %")
    if offer.organisation not in (None, learner.organisation):
        return WhyNot("other organisation", "Other organisation")
    return None


def _why_none(certification: Certification, enrolment: Enrolment, state: EndState) -> WhyNot | None:
    """Why a learner is given no certificate at all."""
    learner = certification.learners[enrolment]
    if enrolment in certification.merged:
        return WhyNot("account merged", "The account was merged into another one", all=True)
    if not state.certificate:
        needed, done = len(certification.course.required), state.progress or 0
        if state.progress is None:
            return WhyNot("not begun", "Has not completed anything", all=True)
        return WhyNot("not finished", f"Has completed {done} of {needed} required contents", all=True)
    if not learner.active:
        return WhyNot("enrolment inactive", "The enrolment is not active", all=True)
    if learner.blocked:
        return WhyNot("account blocked", "The account is blocked", all=True)
    return None


@dataclass(frozen=True)
class ExpectedCertificates:
    """What follows for the certificates of a run, and for the jobs that have to do with scores and repairs.

    ``issued``: the offers that each learner is given; ``counters`` by job, those that do not depend on how the work is
    cut into batches; ``told``: how often learners hear of it, by way.
    """

    issued: Mapping[Enrolment, tuple[Offer, ...]]
    counters: Mapping[str, Mapping[str, int]]
    told: Mapping[str, int]
    dead_letters: Mapping[str, int]

    @property
    def number(self) -> int:
        """How many certificates are issued in all."""
        return sum(map(len, self.issued.values()))


def expected_certificates(scenario: Scenario, certification: Certification, progress: Expected) -> ExpectedCertificates:
    """What follows for all jobs but activity-aggregate-updater and relation-cache-updater (spec: their §7)."""
    states = progress.end_states
    issued = {
        enrolment: tuple(
            offer
            for offer in certification.offers
            if why_not(certification, enrolment, states[enrolment], offer) is None
        )
        for enrolment in certification.learners
    }
    asked = [enrolment for enrolment in certification.learners if states[enrolment].certificate]
    number = sum(map(len, issued.values()))
    mailed = [enrolment for enrolment, offers in issued.items() for offer in offers if offer.mailed]
    strays = Counter((stray.job, stray.dead_letter) for stray in certification.strays)
    scores_read = sum(
        offer.least_score is not None and offer.short not in learner.holds
        for enrolment in asked
        for offer in certification.offers
        if (learner := certification.learners[enrolment]).active
    )
    pairs = len(asked) * len(certification.offers)
    attempts, again = len(certification.attempts), len(certification.again)
    # nobody had completed the course when they were made
    refused = (attempts + again) * len(certification.offers)
    return ExpectedCertificates(
        issued,
        counters={
            ASSESSMENT: {
                "batch-success-event-count": attempts,
                "db-update-count": attempts,
                "db-read-count": again,
                "skipped-event-count": again,
                "ignored-event-count": 0,
                "failed-event-count": strays[ASSESSMENT, True],
                # the content of another course is looked for, too
                "cache-hit-count": attempts + again + 1,
                "cache-hit-miss-count": 0,
                "recompute-agg-event-count": 0,
                "db-score-read-count": attempts + again,
                "db-score-update-count": attempts + again,
                "cert-issue-events-count": attempts + again,
            },
            RECONCILIATION: {
                "total-events-count": len(scenario.synced)
                + strays[RECONCILIATION, True]
                + strays[RECONCILIATION, False],
                "skipped-events-count": strays[RECONCILIATION, False],
                "failed-events-count": strays[RECONCILIATION, True],
                "retired-consumption-events-count": 0,
                "enrolment-complete-count": progress.repaired,
                "cert-issue-events-count": progress.repaired,
            },
            MERGE: {
                "total-events-count": len(scenario.merges) + strays[MERGE, True],
                "success-events-count": len(scenario.merges),
                "skipped-event-count": strays[MERGE, True],
                "failed-events-count": 0,
                "db-update-user-course-batch": len(scenario.merges),
            },
            PRE_PROCESSOR: {
                "total-events-count": len(asked)
                + attempts
                + again
                + strays[PRE_PROCESSOR, True]
                + strays[PRE_PROCESSOR, False],
                "success-events-count": number,
                "skipped-event-count": pairs - number + refused + strays[PRE_PROCESSOR, False],
                "failed-events-count": strays[PRE_PROCESSOR, True],
                "db-read-count": pairs + refused + scores_read,
                "db-update-count": 0,
            },
            GENERATOR: {
                "total-events-count": number + strays[GENERATOR, True],
                "success-events-count": number,
                "skipped-event-count": 0,
                "failed-events-count": strays[GENERATOR, True],
                "enrollment-db-read-count": 2 * number,
                "db-update-user-enrollment-count": number,
                "notified-user-count": len(mailed),
                "skipped-notify-user-count": number - len(mailed),
                "user-feed-count": number,
            },
        },
        told={
            "e-mails": len(mailed),
            "SMS": sum(certification.learners[enrolment].phone for enrolment in mailed),
            "feed entries": number,
        },
        dead_letters={job: times for (job, dead_letter), times in strays.items() if dead_letter},
    )


# --- what the LMS, the publish pipeline and the user service keep


class Registrar:
    """Writes what is there of certificates before the jobs see anything of a run."""

    def __init__(self, session: Session, environment: Mapping[str, Any], keyspace: str = "sunbird_courses") -> None:
        self._session = session
        self._environment = environment
        self._batch = session.prepare(
            f"INSERT INTO {keyspace}.course_batch (courseid, batchid, name, status, cert_templates) "  # noqa: S608
            "VALUES (?, ?, 'First batch', 1, ?)"
        )
        self._enrolment = session.prepare(
            f"UPDATE {keyspace}.user_enrolments SET active = ?, issued_certificates = ? "  # noqa: S608
            "WHERE userid = ? AND courseid = ? AND batchid = ?"
        )

    def store(self, certification: Certification) -> None:
        """All of it; call it when the enrolments are there. Raises what Cassandra, Redis and requests raise."""
        self._store_pictures()
        self._store_users(certification)
        self._store_contents(certification)
        learners = certification.learners.items()
        self._write(
            self._enrolment,
            [(learner.active, certification.held(enrolment) or None, *enrolment) for enrolment, learner in learners],
        )
        batch = (certification.course.id, certification.batch_id, certification.templates())
        self._write(self._batch, [batch])

    def _write(self, statement: Any, rows: list[tuple[Any, ...]]) -> None:
        execute_concurrent_with_args(self._session, statement, rows, concurrency=64)

    def _store_pictures(self) -> None:
        self._tell("templates", {f"demo/{path.stem}": path.read_text() for path in PICTURES.glob("*.svg")})

    def _store_users(self, certification: Certification) -> None:
        self._tell("users", {e.user_id: _as_known(learner) for e, learner in certification.learners.items()})

    def _store_contents(self, certification: Certification) -> None:
        described = {
            content_id: {"identifier": content_id, "name": assessment.name, "contentType": assessment.content_type}
            for content_id, assessment in certification.assessments.items()
        }
        cached = {content_id: assessment.cached for content_id, assessment in certification.assessments.items()}
        self._tell("contents", {each: content for each, content in described.items() if not cached[each]})
        host, port = self._environment["redis-meta.host"], self._environment["redis-meta.port"]
        with redis.Redis(host, port, CONTENTS_DATABASE, socket_timeout=5) as contents:
            contents.mset({each: json.dumps(content) for each, content in described.items() if cached[each]})
        course = {"identifier": certification.course.id, "name": certification.course.tree.name}
        host, port = self._environment["redis.host"], self._environment["redis.port"]
        with redis.Redis(host, port, COURSES_DATABASE, socket_timeout=5) as courses:
            courses.set(certification.course.id, json.dumps(course))

    def _tell(self, kind: str, what: Mapping[str, Any]) -> None:
        stub = self._environment["service.learner.basePath"]
        requests.put(f"{stub}/stub/{kind}", json=what, timeout=CALL_SECONDS).raise_for_status()


def _as_known(learner: Learner) -> dict[str, Any] | str:
    if learner.blocked:
        return "blocked"
    known: dict[str, Any] = {"firstName": learner.first_name, "lastName": learner.last_name}
    known["rootOrgId"] = learner.organisation
    return {**known, "maskedPhone": "******3210"} if learner.phone else known


def _as_kept(template_id: str, offer: Offer) -> dict[str, str]:
    criteria: dict[str, Any] = {"enrollment": {"status": 2}}
    if offer.least_score is not None:
        criteria["assessment"] = {"score": {">=": offer.least_score}}
    if offer.organisation is not None:
        criteria["user"] = {"rootOrgId": offer.organisation}
    signatories = [
        {"id": "DIR", "name": "R. Iyer", "designation": "Director", "image": _signature("director")},
        {"id": "CHAIR", "name": "Chair", "designation": "Chairperson", "image": _signature("chair")},
    ]
    members: dict[str, Any] = {
        "identifier": template_id,
        "name": offer.name,
        "url": f"CLOUD_BASE_PATH/demo/{offer.picture}.svg",
        "criteria": criteria,
        "issuer": ISSUER,
        "signatoryList": signatories,
    }
    if offer.mailed:
        members["notifyTemplate"] = {"subject": offer.name, "emailTemplateType": "defaultCertTemp"}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in members.items()}


def _signature(name: str) -> str:
    # a browser loads nothing from outside for a picture within a picture
    content = (PICTURES / "signatures" / f"{name}.svg").read_bytes()
    return "data:image/svg+xml;base64," + b64encode(content).decode()
