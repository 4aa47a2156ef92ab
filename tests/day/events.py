"""A day at an installation: what its services write and send, hour by hour, the same for the same arguments.

In an hour, first the services write their rows, then the jobs handle the hour's events. Where the jobs' rules let the
order of two topics decide, an hour holds no such pair: a course that is published anew is cached before its learners go
on (``Hour.published``), an account that is merged has no other events in that hour, and none at all afterwards when its
record was carried over; where a course is retired, nobody asks to count what the same hour brought.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from deploy.local.scenario import COMPLETED, IN_PROGRESS, Course, consumption_event
from transforms.stores import Update

__all__ = [
    "ACTIVITY",
    "ASSESSMENT",
    "FIRST",
    "MERGE",
    "RECONCILIATION",
    "RELATION",
    "RETIRED",
    "UNKNOWN",
    "Day",
    "Hour",
]

ACTIVITY, ASSESSMENT = "activity-aggregate-updater", "assessment-aggregator"
RECONCILIATION, MERGE, RELATION = "enrolment-reconciliation", "merge-user-courses", "relation-cache-updater"

FIRST = 1_718_000_000_000  # epoch ms
HOUR = 3_600_000
HOURS = 24

# courses that never reached the relation cache, one of them retired
UNKNOWN, RETIRED = "do_unknown", "do_retired"
# of an hour's events; the rest is consumption
ASSESSMENTS, SYNCS, MERGES, PUBLISHED, STRAYS = 0.2, 0.08, 0.01, 0.005, 0.02
EVENTS_OF_A_LEARNER = 25
QUESTIONS = 6

Enrolled = tuple[str, str, str]
"""User, course, batch."""


@dataclass
class Hour:
    """``at`` in epoch ms; ``writes`` are there before any event; ``events`` of each job in the order of its topic."""

    at: int
    writes: list[Update] = field(default_factory=list)
    published: list[bytes] = field(default_factory=list)
    events: dict[str, list[bytes | None]] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """How many events it has."""
        return len(self.published) + sum(map(len, self.events.values()))


class Day:
    """``events`` events or a few more. ``keyspace`` has the learners' tables, ``hierarchies`` the courses' trees."""

    def __init__(self, events: int, keyspace: str, hierarchies: str, seed: int = 1) -> None:
        self._random = Random(seed)
        self._in_an_hour = -(-events // HOURS)
        self._keyspace = keyspace
        self._hierarchies = hierarchies
        shapes = ((2, 2, 3), (3, 4), (1, 5), (2, 3))
        self.courses = {f"do_{n}": Course(f"do_{n}", shapes[n % 4], n % 3) for n in range(max(4, events // 4_000))}
        known = list(self.courses)
        self._enrolments: dict[str, list[Enrolled]] = {}
        for number in range(max(20, events // EVENTS_OF_A_LEARNER)):
            user = f"learner-{number}"
            taken = self._random.sample(known, self._random.choice((1, 1, 2)))
            if number % 50 == 0:
                taken.append(RETIRED if number % 100 else UNKNOWN)
            self._enrolments[user] = [(user, course, f"batch-{course}-{number % 2}") for course in taken]
        self._statuses: dict[tuple[str, ...], int] = {}
        self._last: dict[Enrolled, bytes] = {}
        self._attempts: list[dict[str, Any]] = []
        self._merged: set[str] = set()

    def hours(self) -> Iterator[Hour]:
        """One after the other; to be asked for once."""
        for number in range(HOURS):
            yield self._hour(number)

    def totals(self) -> dict[str, str]:
        """What the content cache holds of contents: how many questions."""
        contents = sorted({content for course in self.courses.values() for content in course.leaf_nodes})
        return {content: json.dumps({"totalQuestions": QUESTIONS - 1}) for content in contents}

    # --- an hour

    def _hour(self, number: int) -> Hour:
        random, hour = self._random, Hour(FIRST + number * HOUR)
        self._publish(hour, number)
        if number == 0:
            for user, enrolments in self._enrolments.items():
                # some learn without being enrolled
                hour.writes += [self._enrolment(place, hour.at) for place in enrolments if not user.endswith("7")]
        merges = self._merges(number)
        self._merged |= {account for merge in merges for account in merge}
        hour.events[MERGE] = [_merge(hour.at, *merge) for merge in merges]
        learners = [user for user in self._enrolments if user not in self._merged]
        left = self._in_an_hour - hour.number
        kinds = random.choices(
            (ASSESSMENT, RECONCILIATION, "stray", ACTIVITY),
            (ASSESSMENTS, SYNCS, STRAYS, 1 - ASSESSMENTS - SYNCS - STRAYS),
            k=left,
        )
        for name in (ACTIVITY, ASSESSMENT, RECONCILIATION):
            hour.events[name] = []
        learned_of_retired: set[Enrolled] = set()
        for place, kind in enumerate(kinds):
            enrolled = random.choice(self._enrolments[random.choice(learners)])
            now = hour.at + place
            if kind == ACTIVITY:
                learned_of_retired |= {enrolled} if enrolled[1] == RETIRED else set()
                hour.events[ACTIVITY].append(self._learn(hour, enrolled, now))
            elif kind == ASSESSMENT:
                hour.events[ASSESSMENT].append(self._answer(enrolled, now))
            elif kind == RECONCILIATION:
                hour.events[RECONCILIATION].append(_sync(enrolled))
            else:
                job = random.choice(list(hour.events))
                hour.events[job].append(random.choice(_STRAYS))
        of_retired = {_sync(enrolled) for enrolled in learned_of_retired}
        hour.events[RECONCILIATION] = [each for each in hour.events[RECONCILIATION] if each not in of_retired]
        self._merged = self._merged - {target for _, target in merges} | {source for source, _ in merges}
        for source, _ in merges:
            del self._enrolments[source]
        return hour

    def _publish(self, hour: Hour, number: int) -> None:
        """All courses first, later some again, of which every second has grown."""
        courses = list(self.courses.values())
        if number:
            courses = self._random.sample(courses, max(1, round(self._in_an_hour * PUBLISHED)) % len(courses) or 1)
        for place, course in enumerate(courses):
            if number and place % 2:
                grown = (*course.shape[:-1], course.shape[-1] + 1)
                course = self.courses[course.id] = Course(course.id, grown, course.optional)
            tree = {"hierarchy": json.dumps(course.hierarchy())}
            hour.writes.append(Update(f"{self._hierarchies}.content_hierarchy", {"identifier": course.id}, tree))
            hour.published.append(course.publish_event("dev", hour.at))

    def _merges(self, number: int) -> list[tuple[str, str]]:
        """Pairs of accounts, some of which are the next one's source."""
        wanted = round(self._in_an_hour * MERGES) if number else 0
        accounts = self._random.sample(list(self._enrolments), min(wanted * 2, len(self._enrolments) // 8))
        pairs = list(zip(accounts[::2], accounts[1::2], strict=False))
        if len(pairs) > 2:
            pairs.append((pairs[0][1], pairs[1][1]))
        return pairs

    # --- what the LMS writes and sends

    def _learn(self, hour: Hour, enrolled: Enrolled, now: int) -> bytes:
        random = self._random
        user, course, batch = enrolled
        if enrolled in self._last and random.random() < 0.1:
            return self._last[enrolled]
        contents = self.courses[course].leaf_nodes if course in self.courses else (f"{course}_1", f"{course}_2")
        chosen = random.sample(contents, min(len(contents), random.choice((1, 1, 2, 4))))
        reported = [(content, random.choice((COMPLETED, COMPLETED, COMPLETED, IN_PROGRESS))) for content in chosen]
        for content, status in reported:
            key = {"userid": user, "courseid": course, "batchid": batch, "contentid": content}
            if status > self._statuses.get((*enrolled, content), 0):
                self._statuses[*enrolled, content] = status
                columns = {"status": status, "progress": 50 * status, "datetime": now, "last_access_time": now}
                hour.writes.append(Update(f"{self._keyspace}.user_content_consumption", key, columns))
        self._last[enrolled] = consumption_event(user, course, batch, reported, now)
        return self._last[enrolled]

    def _answer(self, enrolled: Enrolled, now: int) -> bytes:
        """An attempt: a new one, an old one again (earlier, later, the same), or none: to be recomputed."""
        random = self._random
        user, course, batch = enrolled
        ids = {"userId": user, "courseId": course, "batchId": batch}
        kind = random.random()
        if kind < 0.1:
            return json.dumps({**ids, "contentId": self._content(course), "assessmentTs": now}).encode()
        if kind < 0.3 and self._attempts:
            again = random.choice(self._attempts[-500:])
            if again["userId"] in self._merged:
                again = again | ids
            later = random.choice((-1_000, 0, 1_000))
            return json.dumps({**again, "assessmentTs": again["assessmentTs"] + later}).encode()
        answers = [self._answered(now, random.randrange(QUESTIONS)) for _ in range(random.randint(1, QUESTIONS + 1))]
        attempt = {"attemptId": f"attempt-{now}", "contentId": self._content(course), "assessmentTs": now}
        self._attempts.append({**ids, **attempt, "events": answers})
        return json.dumps(self._attempts[-1]).encode()

    def _content(self, course: str) -> str:
        """One of the course's first contents; one of another course now and then."""
        if course not in self.courses or self._random.random() < 0.01:
            return f"{course}_elsewhere"
        return self._random.choice(self.courses[course].leaf_nodes[:2])

    def _answered(self, now: int, question: int) -> dict[str, Any]:
        score = self._random.choice((0, 0.5, 1, "1", None))
        item = {
            "id": f"q{question}",
            "maxscore": 1,
            "type": "mcq",
            "params": [{"1": "a"}, {"answer": {"correct": [1]}}],
        }
        edata = {"item": item, "score": score, "resvalues": [{"1": score}], "duration": question}
        return {"eid": "ASSESS", "ets": now + self._random.randrange(3), "edata": edata}

    def _enrolment(self, enrolled: Enrolled, now: int) -> Update:
        key = dict(zip(("userid", "courseid", "batchid"), enrolled, strict=True))
        columns = {"active": True, "status": 0, "enrolled_date": now}
        return Update(f"{self._keyspace}.user_enrolments", key, columns)


def _sync(enrolled: Enrolled) -> bytes:
    ids = dict(zip(("userId", "courseId", "batchId"), enrolled, strict=True))
    return json.dumps({"eid": "BE_JOB_REQUEST", "edata": {"action": "user-enrolment-sync", **ids}}).encode()


def _merge(now: int, source: str, target: str) -> bytes:
    edata = {"action": "merge-user-courses-and-cert", "fromAccountId": source, "toAccountId": target, "iteration": 1}
    return json.dumps({"eid": "BE_JOB_REQUEST", "ets": now, "edata": edata}).encode()


_STRAYS: tuple[bytes | None, ...] = (
    None,
    b"",
    b'{"eid":',
    b"[1, 2]",
    b"\xff\xfe",
    b'{"edata": {"action": "batch-enrolment-update", "contents": [{"contentId": "x", "status": 2}]}}',
    b'{"edata": {"action": "user-enrolment-sync", "userId": " "}}',
    b'{"edata": {"action": "of-another-job", "userId": "learner-1"}}',
    b'{"edata": {"fromAccountId": "learner-1", "toAccountId": "learner-1"}}',
    b'{"courseId": "do_1", "batchId": "b", "userId": "learner-1", "contentId": "c", "events": [{"ets": "x"}]}',
)
