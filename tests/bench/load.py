"""What the measured job is given: learners who complete a course, a few contents with each event."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from deploy.local.scenario import (
    COMPLETED,
    IN_PROGRESS,
    Course,
    EndState,
    Enrolment,
    Fate,
    Message,
    Scenario,
    consumption_event,
    expected,
)
from schemas import redis_keys

__all__ = ["Load", "Shape", "load_of", "relation_cache"]

FIRST_EVENT = 1_718_000_000_000  # epoch ms
# The load that the Scala job was measured with: 1,300 learners for 6,091 events.
EVENTS_OF_A_LEARNER = 6_091 / 1_300
# between a learner's number and the name of the load
_OF = "-of-"


@dataclass(frozen=True)
class Shape:
    """How large a load is and what it is made of; ``duplicates`` and ``skipped`` are shares of the events."""

    events: int = 6_091
    learners: int = 1_300
    leaf_nodes: int = 12
    units: int = 3
    contents_per_event: tuple[int, int] = (1, 4)
    duplicates: float = 0.10
    skipped: float = 0.01

    @staticmethod
    def learners_for(events: int) -> int:
        """As many learners as give each the usual number of events."""
        return max(1, math.ceil(events / EVENTS_OF_A_LEARNER))

    def course(self, name: str) -> Course:
        """One level of units with as many leaf nodes each. Raises ValueError when they can not be dealt out evenly."""
        if self.leaf_nodes % self.units:
            raise ValueError(f"{self.leaf_nodes} leaf nodes can not be dealt out evenly to {self.units} units")
        return Course(f"do_{name}", (self.units, self.leaf_nodes // self.units), optional=0)


@dataclass(frozen=True)
class Load:
    """A scenario, its expected end state, and the place of the event that is the first to report a content.

    ``first_reports``: (user, content) -> place in the scenario's messages.
    """

    name: str
    scenario: Scenario
    end_states: dict[Enrolment, EndState]
    first_reports: dict[tuple[str, str], int] = field(repr=False)

    @classmethod
    def of(cls, shape: Shape, course: Course, name: str, seed: int = 1) -> Load:
        """Generate a load, the same for the same arguments but for the ids of its events.

        Each learner completes the contents of the course in an order of its own. Half of the duplicates come right
        behind their original, the others some time later. ``name`` is part of the learners' ids. Raises ValueError
        when the learners have fewer contents to complete than the events would report.
        """
        random = Random(seed)
        enrolments = [
            Enrolment(f"learner-{n + 1}{_OF}{name}", course.id, f"batch-{course.id}") for n in range(shape.learners)
        ]
        skipped = round(shape.events * shape.skipped)
        duplicates = round(shape.events * shape.duplicates)
        new = list(_completions(shape, course, enrolments, random, shape.events - skipped - duplicates))
        placed = [(float(place), message) for place, message in enumerate(new)]
        for number in range(duplicates):
            original = random.randrange(len(new))
            behind = original + 0.5
            placed.append((behind if number % 2 else random.uniform(behind, len(new)), new[original]))
        for _ in range(skipped):
            reported = ((random.choice(course.leaf_nodes), IN_PROGRESS),)
            message = _message(random.choice(enrolments), reported, Fate.SKIPPED, FIRST_EVENT)
            placed.append((random.uniform(0, len(new)), message))
        placed.sort(key=lambda pair: pair[0])
        messages = tuple(message for _, message in placed)
        scenario = Scenario((course,), dict.fromkeys(enrolments, "a few contents at a time"), messages)
        first_reports: dict[tuple[str, str], int] = {}
        for place, message in enumerate(messages):
            for content in message.completed:
                first_reports.setdefault((_user(message), content), place)
        return cls(name, scenario, dict(expected(scenario).end_states), first_reports)

    def written_by_lms(self) -> list[Message]:
        """What the LMS has stored when the job sees the events of a backlog: all but each learner's last report.

        The LMS sends an event first and writes its contents' status afterwards, so that the last is the one that may
        be missing. With all others there, a learner completes the course with the last event, not with the first.
        """
        latest: dict[str, int] = {}
        for (user_id, _), place in self.first_reports.items():
            latest[user_id] = max(place, latest.get(user_id, 0))
        return [
            message
            for message in self.scenario.messages
            if message.fate is not Fate.HANDLED
            or self.first_reports[_user(message), message.completed[0]] != latest[_user(message)]
        ]

    def audits(self) -> Counter[tuple[str, str, str]]:
        """The AUDIT events that must come: (user, object, type), each once."""
        counted = ((e.user_id, content) for e, state in self.end_states.items() for content in state.counted)
        events = Counter((*of_content, action) for of_content in counted for action in ("start", "complete"))
        events.update((user_id, user_id, "enrol-complete") for user_id in self.certificates())
        return events

    def certificates(self) -> Counter[str]:
        """The certificate requests that must come: the users, each once."""
        return Counter(enrolment.user_id for enrolment, state in self.end_states.items() if state.certificate)


def load_of(user_id: str) -> str:
    """The name of the load that a learner belongs to; empty for nobody."""
    return user_id.partition(_OF)[2]


def relation_cache(course: Course) -> dict[str, set[str]]:
    """The sets that relation-cache-updater writes for a course without optional nodes, by key."""
    sets: dict[str, set[str]] = {}
    for collection in course.tree.collections:
        contents = {content.id for content in collection.contents}
        sets[redis_keys.leafnodes(course.id, collection.id)] = contents
        for content in contents:
            sets.setdefault(redis_keys.ancestors(course.id, content), set()).add(collection.id)
    return sets


def _completions(
    shape: Shape, course: Course, enrolments: list[Enrolment], random: Random, events: int
) -> Iterator[Message]:
    """Events that each report contents which their learner never reported before."""
    left = {enrolment: random.sample(course.leaf_nodes, len(course.leaf_nodes)) for enrolment in enrolments}
    active = list(enrolments)
    for number in range(events):
        if not active:
            raise ValueError(
                f"{shape.learners} learners complete all {shape.leaf_nodes} contents in {number} events, "
                f"and {events} were asked for: take more learners"
            )
        place = random.randrange(len(active))
        contents = left[active[place]]
        chosen = [contents.pop() for _ in range(min(random.randint(*shape.contents_per_event), len(contents)))]
        reported = tuple((content, COMPLETED) for content in chosen)
        yield _message(active[place], reported, Fate.HANDLED, FIRST_EVENT + number)
        if not contents:
            active[place] = active[-1]
            active.pop()


def _message(enrolment: Enrolment, reported: tuple[tuple[str, int], ...], fate: Fate, ets: int) -> Message:
    return Message(consumption_event(*enrolment, reported, ets), fate, enrolment, reported)


def _user(message: Message) -> str:
    if message.enrolment is None:
        raise ValueError("a message of nobody")
    return message.enrolment.user_id
