"""Made-up courses, learners and what they do: for the demo, the load generator and the tests of faults.

Plain data: what the publish pipeline and the LMS would write and send, and the end state that follows from it. The
end state is told from the definition of the scenario, not by the rules of the jobs, so that it can judge them.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from functools import cached_property
from random import Random
from typing import Any, NamedTuple

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

COLLECTION_TYPE = "application/vnd.ekstep.content-collection"
CONTENT_TYPE = "video/mp4"
CHANNEL = "0126684405014528002"

COMPLETED = 2
IN_PROGRESS = 1
NOT_STARTED = 0


# --- courses


@dataclass(frozen=True, slots=True)
class Content:
    """A leaf of the tree."""

    id: str
    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Collection:
    """The course itself or one of its units, at any level."""

    id: str
    name: str
    children: tuple[Collection | Content, ...]

    @property
    def contents(self) -> list[Content]:
        """All contents below, in the order of the tree."""
        found: list[Content] = []
        for child in self.children:
            found.extend([child] if isinstance(child, Content) else child.contents)
        return found

    @property
    def collections(self) -> list[Collection]:
        """This collection and all below it."""
        below = [child for child in self.children if isinstance(child, Collection)]
        return [self, *(found for child in below for found in child.collections)]

    @property
    def required(self) -> frozenset[str]:
        """The contents that count."""
        return frozenset(content.id for content in self.contents if not content.optional)


@dataclass(frozen=True)
class Course:
    """A published course.

    ``shape`` is the number of children at each level: (2, 3, 4) is a course of 2 modules of 3 units of 4 contents each,
    (3, 4) one of 3 units of 4 contents. The last content of each of the first ``optional`` units is optional.
    """

    id: str
    shape: tuple[int, ...] = (2, 2, 3)
    optional: int = 2

    @cached_property
    def tree(self) -> Collection:
        """The course as a tree."""
        optional_left = self.optional

        def grow(place: tuple[int, ...], counts: tuple[int, ...]) -> Collection:
            nonlocal optional_left
            children: list[Collection | Content] = []
            for number in range(1, counts[0] + 1):
                below = (*place, number)
                if len(counts) > 1:
                    children.append(grow(below, counts[1:]))
                else:
                    optional = number == counts[0] and optional_left > 0
                    optional_left -= optional
                    children.append(Content(self._id(below), f"Content {_numbered(below)}", optional))
            return Collection(self._id(place), self._name(place), tuple(children))

        return grow((), self.shape)

    @cached_property
    def leaf_nodes(self) -> tuple[str, ...]:
        """The ids of all contents, in the order of the tree."""
        return tuple(content.id for content in self.tree.contents)

    @cached_property
    def optional_nodes(self) -> frozenset[str]:
        """The ids of the contents that do not count."""
        return frozenset(self.leaf_nodes) - self.required

    @cached_property
    def required(self) -> frozenset[str]:
        """The ids of the contents that count."""
        return self.tree.required

    @cached_property
    def units(self) -> dict[str, Collection]:
        """The collections inside the course, at every level, by id."""
        return {collection.id: collection for collection in self.tree.collections if collection.id != self.id}

    def hierarchy(self) -> dict[str, Any]:
        """The tree as the publish pipeline stores it (spec: relation-cache-updater §3)."""
        return _node(self.tree, None, 0) | {
            "visibility": "Default",
            "contentType": "Course",
            "primaryCategory": "Course",
            "channel": CHANNEL,
            "trackable": {"enabled": "Yes", "autoBatch": "No"},
            "childNodes": [*self.units, *self.leaf_nodes],
            "pkgVersion": 1,
        }

    def publish_event(self, env: str, ets: int) -> bytes:
        """What the publish pipeline sends once the tree is stored; ``ets`` in epoch ms.

        spec: relation-cache-updater §2
        """
        return _job_request(
            ets,
            actor={"id": "Post Publish Processor", "type": "System"},
            context={"channel": CHANNEL, "env": env},
            object_={"ver": str(ets), "id": self.id},
            edata={
                "action": "post-publish-process",
                "iteration": 1,
                "identifier": self.id,
                "channel": CHANNEL,
                "mimeType": COLLECTION_TYPE,
                "contentType": "Course",
                "pkgVersion": 1,
                "status": "Live",
                "name": self.tree.name,
                "trackable": {"enabled": "Yes", "autoBatch": "No"},
            },
        )

    def _id(self, place: tuple[int, ...]) -> str:
        return "_".join([self.id, *map(str, place)])

    def _name(self, place: tuple[int, ...]) -> str:
        if not place:
            return "First aid"
        kind = "Module" if len(place) < len(self.shape) - 1 else "Unit"
        return f"{kind} {_numbered(place)}"


def _numbered(place: tuple[int, ...]) -> str:
    return ".".join(map(str, place))


def _node(node: Collection | Content, parent: str | None, index: int) -> dict[str, Any]:
    described: dict[str, Any] = {"identifier": node.id, "name": node.name, "status": "Live", "index": index}
    if parent is not None:
        described |= {"parent": parent}
    if isinstance(node, Content):
        described |= {"mimeType": CONTENT_TYPE, "visibility": "Default", "contentType": "Resource"}
        return described | {"relationalMetadata": {"optional": True}} if node.optional else described
    return described | {
        "mimeType": COLLECTION_TYPE,
        "visibility": "Parent",
        "contentType": "CourseUnit",
        "leafNodes": [content.id for content in node.contents],
        "leafNodesCount": len(node.contents),
        "children": [_node(child, node.id, place) for place, child in enumerate(node.children, start=1)],
    }


# --- events


class Enrolment(NamedTuple):
    """A learner in a batch of a course."""

    user_id: str
    course_id: str
    batch_id: str


def consumption_event(
    user_id: str, course_id: str, batch_id: str, contents: Sequence[tuple[str, int]], ets: int
) -> bytes:
    """What the LMS sends when a learner consumed ``contents`` (id, status). spec: activity-aggregate-updater §2"""
    return _job_request(
        ets,
        actor={"type": "System", "id": "Course Batch Updater"},
        context={},
        object_={"type": "CourseBatchEnrolment", "id": f"{batch_id}_{user_id}"},
        edata={
            "action": "batch-enrolment-update",
            "iteration": 1,
            "userId": user_id,
            "courseId": course_id,
            "batchId": batch_id,
            "contents": [{"contentId": content, "status": status} for content, status in contents],
        },
    )


def sync_event(enrolment: Enrolment, ets: int) -> bytes:
    """What the LMS sends when a learner presses "sync progress". spec: enrolment-reconciliation §2"""
    user_id, course_id, batch_id = enrolment
    return _job_request(
        ets,
        actor={"type": "System", "id": "Course Batch Updater"},
        context={},
        object_={"type": "CourseBatchEnrolment", "id": f"{batch_id}_{user_id}"},
        edata={
            "action": "user-enrolment-sync",
            "iteration": 1,
            "userId": user_id,
            "courseId": course_id,
            "batchId": batch_id,
        },
    )


def merge_event(source: str, target: str, ets: int) -> bytes:
    """What the user service sends when ``source`` was merged into ``target``. spec: merge-user-courses §2"""
    return _job_request(
        ets,
        actor={"id": "Merge User Courses and Cert", "type": "System"},
        context={},
        object_={"type": "MergeUserCoursesAndCert", "id": target},
        edata={
            "action": "merge-user-courses-and-cert",
            "fromAccountId": source,
            "toAccountId": target,
            "rootOrgId": CHANNEL,
            "iteration": 1,
        },
    )


def _job_request(
    ets: int, actor: dict[str, str], context: dict[str, str], object_: dict[str, str], edata: dict[str, Any]
) -> bytes:
    event = {
        "eid": "BE_JOB_REQUEST",
        "ets": ets,
        "mid": f"LP.{ets}.{uuid.uuid4()}",
        "actor": actor,
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}, **context},
        "object": object_,
        "edata": edata,
    }
    return json.dumps(event).encode()


class Fate(Enum):
    """What becomes of a message on the consumption topic."""

    HANDLED = "handled"
    SKIPPED = "skipped"
    INVALID = "invalid"  # to the failed topic as it came
    NO_LEAF_NODES = "no leaf nodes"  # to the failed topic as consumption, ready to be sent again


@dataclass(frozen=True, slots=True)
class Message:
    """A record of the consumption topic: its value (None: a tombstone), whose it is, and what the LMS stores of it."""

    value: bytes | None
    fate: Fate
    enrolment: Enrolment | None = None
    reported: tuple[tuple[str, int], ...] = ()

    @property
    def key(self) -> bytes | None:
        """The Kafka key: all of a learner's messages are in one partition, in order."""
        return self.enrolment.user_id.encode() if self.enrolment else None

    @property
    def completed(self) -> list[str]:
        """The contents reported as completed."""
        return [content for content, status in self.reported if status == COMPLETED]


@dataclass(frozen=True)
class Scenario:
    """Who learns what, and what the LMS sends about it, in order.

    ``enrolments`` are those that have a row, each with a word on how the learner goes about it. ``without_tree`` are
    ids of courses that are live and never reached the relation cache.

    What comes when all messages are handled: the LMS stores ``lost``, whose events nobody ever gets; of ``merges``, the
    first account's record is carried over to the second one's; the progress of ``synced`` is counted again, among them
    all who got another account's record.
    """

    courses: tuple[Course, ...]
    enrolments: Mapping[Enrolment, str]
    messages: tuple[Message, ...]
    without_tree: tuple[str, ...] = ()
    lost: tuple[Message, ...] = ()
    merges: tuple[tuple[Enrolment, Enrolment], ...] = ()
    synced: tuple[Enrolment, ...] = ()

    @property
    def without_repairs(self) -> Scenario:
        """What is there before anything is lost, merged or synced."""
        return replace(self, lost=(), merges=(), synced=())


# --- scenarios


def journeys(
    random: Random,
    run: str,
    ets: int,
    learners: int = 20,
    shape: tuple[int, ...] = (2, 2, 3),
    optional: int = 2,
) -> Scenario:
    """Learners who go about a course in all ways that there are, and messages that no learner ever sent.

    ``run`` is part of every id, so that scenarios do not meet; ``ets`` (epoch ms) is the time of the first event.
    Half of the 17th learner's events get lost, and the 19th is an old account of the 20th.
    """
    course = Course(f"do_{run}", shape, optional)
    without_tree = f"do_{run}_without_tree"
    # the tag of its certificates, which may hold no dash (spec: collection-certificate-generator §2)
    batch_id = f"batch_{run}"
    clock = iter(range(ets, ets + 1_000_000_000, 1_000))
    by_learner: list[list[Message]] = []
    enrolments: dict[Enrolment, str] = {}
    for number in range(learners):
        enrolment = Enrolment(f"learner-{number + 1}-{run}", course.id, batch_id)
        how, reports = _REPAIRED.get(number + 1, _WAYS[number % len(_WAYS)])
        enrolments[enrolment] = how
        by_learner.append([_consumption(enrolment, reported, next(clock)) for reported in reports(course, random)])
    stray = _messages_of_nobody(run, batch_id, course, next(clock))
    lost = Enrolment(f"learner-1-{run}", without_tree, batch_id)
    stray.append(_consumption(lost, ((f"{without_tree}_1", COMPLETED),), next(clock), Fate.NO_LEAF_NODES))
    messages = _interleaved(random, [*by_learner, *([message] for message in stray)])
    scenario = Scenario((course,), enrolments, tuple(messages), (without_tree,))
    return _with_repairs(scenario, next(clock))


def _with_repairs(scenario: Scenario, ets: int) -> Scenario:
    (course,), learners = scenario.courses, dict(enumerate(scenario.enrolments, start=1))
    first, _ = _halves(course)
    lost = tuple(_consumption(learners[n], ((c, COMPLETED),), ets) for n in (SYNCED,) if n in learners for c in first)
    merges = ((learners[OLD_ACCOUNT], learners[NEW_ACCOUNT]),) if NEW_ACCOUNT in learners else ()
    synced = tuple(learners[n] for n in (SYNCED, NEW_ACCOUNT) if n in learners)
    return replace(scenario, lost=lost, merges=merges, synced=synced)


def load(
    random: Random,
    run: str,
    ets: int,
    learners: int,
    events: int,
    shape: tuple[int, ...] = (3, 4),
    optional: int = 0,
    courses: int = 1,
    most_contents: int = 4,
    duplicates: float = 0.1,
    skipped: float = 0.01,
) -> Scenario:
    """``events`` events of ``learners`` learners, each with 1 to ``most_contents`` completed contents.

    ``duplicates`` is the share of events that repeat the learner's last one, ``skipped`` the share that the job has to
    skip. ``ets`` (epoch ms) is the time of the first event; the others follow a millisecond apart.
    """
    all_courses = tuple(Course(f"do_{run}_{number}", shape, optional) for number in range(1, courses + 1))
    batch_id = f"batch-{run}"
    enrolled = [
        Enrolment(f"learner-{number + 1}-{run}", all_courses[number % courses].id, batch_id)
        for number in range(learners)
    ]
    leaf_nodes = {course.id: course.leaf_nodes for course in all_courses}
    last: dict[Enrolment, Message] = {}
    messages: list[Message] = []
    while len(messages) < events:
        enrolment = random.choice(enrolled)
        kind = random.random()
        if kind < skipped:
            reported: tuple[tuple[str, int], ...] = ((random.choice(leaf_nodes[enrolment.course_id]), IN_PROGRESS),)
            messages.append(_consumption(enrolment, reported, ets + len(messages), Fate.SKIPPED))
        elif kind < skipped + duplicates and enrolment in last:
            messages.append(last[enrolment])
        else:
            chosen = random.sample(leaf_nodes[enrolment.course_id], random.randint(1, most_contents))
            reported = tuple((content, COMPLETED) for content in chosen)
            last[enrolment] = _consumption(enrolment, reported, ets + len(messages))
            messages.append(last[enrolment])
    return Scenario(all_courses, dict.fromkeys(enrolled, "at random"), tuple(messages))


Reports = list[tuple[tuple[str, int], ...]]


def _all_completed(contents: Sequence[str]) -> tuple[tuple[str, int], ...]:
    return tuple((content, COMPLETED) for content in contents)


def _one_by_one(course: Course, random: Random) -> Reports:
    return [((content, COMPLETED),) for content in course.leaf_nodes]


def _in_one_event(course: Course, random: Random) -> Reports:
    return [_all_completed(course.leaf_nodes)]


def _in_parts_out_of_order(course: Course, random: Random) -> Reports:
    contents = random.sample(course.leaf_nodes, len(course.leaf_nodes))
    return [_all_completed(contents[start : start + 3]) for start in range(0, len(contents), 3)]


def _each_event_twice(course: Course, random: Random) -> Reports:
    return [report for report in _one_by_one(course, random) for _ in range(2)]


def _all_sent_again_later(course: Course, random: Random) -> Reports:
    return _in_parts_out_of_order(course, random) + _one_by_one(course, random)


def _started_then_completed(course: Course, random: Random) -> Reports:
    return [((content, status),) for content in course.leaf_nodes for status in (IN_PROGRESS, COMPLETED)]


def _opened_again_later(course: Course, random: Random) -> Reports:
    return _in_one_event(course, random) + [((content, IN_PROGRESS),) for content in course.leaf_nodes[:2]]


def _without_optional(course: Course, random: Random) -> Reports:
    required = [content for content in course.leaf_nodes if content in course.required]
    return [((content, COMPLETED),) for content in required]


def _only_optional(course: Course, random: Random) -> Reports:
    return [((content, COMPLETED),) for content in sorted(course.optional_nodes)]


def _half(course: Course, random: Random) -> Reports:
    return [((content, COMPLETED),) for content in random.sample(course.leaf_nodes, len(course.leaf_nodes) // 2)]


def _all_but_one(course: Course, random: Random) -> Reports:
    missing = min(course.required)
    others = [content for content in course.leaf_nodes if content != missing]
    random.shuffle(others)
    return [(*_all_completed(others[:4]), (missing, IN_PROGRESS)), *(((content, COMPLETED),) for content in others[4:])]


def _only_looks(course: Course, random: Random) -> Reports:
    return [((content, IN_PROGRESS),) for content in course.leaf_nodes[:3]]


def _never_comes(course: Course, random: Random) -> Reports:
    return []


def _halves(course: Course) -> tuple[tuple[str, ...], tuple[str, ...]]:
    middle = len(course.leaf_nodes) // 2
    return course.leaf_nodes[:middle], course.leaf_nodes[middle:]


def _first_half(course: Course, random: Random) -> Reports:
    return [((content, COMPLETED),) for content in _halves(course)[0]]


def _second_half(course: Course, random: Random) -> Reports:
    return [((content, COMPLETED),) for content in _halves(course)[1]]


# by the learners' numbers
SYNCED, OLD_ACCOUNT, NEW_ACCOUNT = 17, 19, 20
_REPAIRED = {
    SYNCED: ("half lost, then synced", _second_half),
    OLD_ACCOUNT: ("half, in an old account", _first_half),
    NEW_ACCOUNT: ("rest, merged, synced", _second_half),
}

_WAYS = (
    ("one after the other", _one_by_one),
    ("all in one event", _in_one_event),
    ("in threes, out of order", _in_parts_out_of_order),
    ("half of it", _half),
    ("every event sent twice", _each_event_twice),
    ("all sent again later", _all_sent_again_later),
    ("all but one", _all_but_one),
    ("started, then completed", _started_then_completed),
    ("opened again at the end", _opened_again_later),
    ("no optional contents", _without_optional),
    ("only optional contents", _only_optional),
    ("only looks", _only_looks),
    ("never comes", _never_comes),
)


def _consumption(
    enrolment: Enrolment, reported: tuple[tuple[str, int], ...], ets: int, fate: Fate | None = None
) -> Message:
    completes_any = any(status == COMPLETED for _, status in reported)
    fate = fate or (Fate.HANDLED if completes_any else Fate.SKIPPED)
    return Message(consumption_event(*enrolment, reported, ets), fate, enrolment, reported)


def _messages_of_nobody(run: str, batch_id: str, course: Course, ets: int) -> list[Message]:
    """Messages that a working LMS does not send, and some that are for other jobs."""
    completed = [(course.leaf_nodes[0], COMPLETED)]
    good = json.loads(consumption_event(f"learner-1-{run}", course.id, batch_id, completed, ets))

    def changed(**edata: Any) -> bytes:
        return json.dumps(good | {"edata": good["edata"] | edata}).encode()

    edata = {name: value for name, value in good["edata"].items() if name != "userId"}
    without_user = json.dumps(good | {"edata": edata}).encode()
    return [
        Message(b'{"eid": "BE_JOB_REQUEST", "mid": "LP.%s' % run.encode(), Fate.INVALID),
        Message(b"no JSON at all \xff\xfe %s" % run.encode(), Fate.INVALID),
        Message(b'["a list", "%s"]' % run.encode(), Fate.INVALID),
        Message(b"", Fate.INVALID),
        Message(without_user, Fate.INVALID),
        Message(changed(courseId="  "), Fate.INVALID),
        Message(changed(batchId=None), Fate.INVALID),
        Message(changed(contents={"contentId": completed[0][0], "status": COMPLETED}), Fate.INVALID),
        Message(changed(contents=[{"contentId": "", "status": COMPLETED}]), Fate.INVALID),
        Message(changed(action="batch-enrolment-sync"), Fate.SKIPPED),
        Message(changed(contents=[]), Fate.SKIPPED),
        Message(changed(contents=[{"contentId": completed[0][0], "status": "2"}]), Fate.SKIPPED),
        Message(json.dumps({"eid": "BE_JOB_REQUEST", "mid": f"LP.{run}"}).encode(), Fate.SKIPPED),
    ]


def _interleaved(random: Random, sequences: list[list[Message]]) -> Iterator[Message]:
    """All messages in a random order that keeps the order within each sequence."""
    turns = [place for place, sequence in enumerate(sequences) for _ in sequence]
    random.shuffle(turns)
    following = [iter(sequence) for sequence in sequences]
    for place in turns:
        yield next(following[place])


# --- what follows


@dataclass(frozen=True)
class EndState:
    """What the stores hold of an enrolment in the end.

    ``progress`` is None while the job had no reason to touch the enrolment, ``status`` None without an enrolment row,
    ``certificate`` says whether one is asked for.
    ``aggregates``: completed contents of the course and of each unit, without those that are 0. ``counted``: the
    contents counted, each with one view and one completion; ``lost``: those that are completed all the same.
    """

    progress: int | None
    status: int | None
    certificate: bool
    aggregates: Mapping[str, int]
    counted: frozenset[str]
    lost: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Expected:
    """What a scenario implies, as long as de-duplication is on and no record is delivered twice.

    ``counters`` are those of activity-aggregate-updater that do not depend on how its work is cut into batches;
    ``audits`` the number of AUDIT events by ``edata.type``; ``dead_letters`` the records on the failed topic;
    ``repaired`` how many enrolments are complete only because they were synced.
    """

    end_states: Mapping[Enrolment, EndState]
    counters: Mapping[str, int]
    audits: Mapping[str, int]
    dead_letters: int
    repaired: int = 0


def expected(scenario: Scenario) -> Expected:
    """The end state, as the words of the specification have it (spec: activity-aggregate-updater §1)."""
    courses = {course.id: course for course in scenario.courses}
    fates = Counter(message.fate for message in scenario.messages)
    completed: dict[Enrolment, set[str]] = {enrolment: set() for enrolment in scenario.enrolments}
    with_something_new = 0
    for message in scenario.messages:
        if message.fate is Fate.HANDLED and message.enrolment:
            so_far = completed.setdefault(message.enrolment, set())
            with_something_new += not so_far.issuperset(message.completed)
            so_far.update(message.completed)
    first_times = sum(map(len, completed.values()))
    complete_before = {
        enrolment
        for enrolment, contents in completed.items()
        if enrolment in scenario.enrolments and _is_complete(courses[enrolment.course_id], contents)
    }
    lost: dict[Enrolment, set[str]] = {}
    for message in scenario.lost:
        if message.enrolment:
            lost.setdefault(message.enrolment, set()).update(message.completed)
    for source, target in scenario.merges:
        completed[target] = completed[target] | completed[source]
    end_states = {
        enrolment: _end_state(
            courses[enrolment.course_id],
            contents,
            frozenset(lost.get(enrolment, set()) - contents),
            enrolled=enrolment in scenario.enrolments,
        )
        for enrolment, contents in completed.items()
    }
    complete = sum(state.certificate for state in end_states.values())
    failed = fates[Fate.INVALID] + fates[Fate.NO_LEAF_NODES]
    return Expected(
        end_states,
        counters={
            # what is said of each merged account is not for this job
            "total-events-count": len(scenario.messages) + len(scenario.merges),
            "skipped-events-count": fates[Fate.SKIPPED] + len(scenario.merges),
            "batch-enrolment-update-count": fates[Fate.HANDLED] + fates[Fate.NO_LEAF_NODES],
            "processed-enrolment-count": with_something_new + fates[Fate.NO_LEAF_NODES],
            "enrolment-complete-count": len(complete_before),
            "cert-issue-events-count": len(complete_before),
            "failed-events-count": failed,
            "retired-consumption-events-count": 0,
        },
        audits={"start": first_times, "complete": first_times, "enrol-complete": complete},
        dead_letters=failed,
        repaired=complete - len(complete_before),
    )


def _is_complete(course: Course, completed: Set[str]) -> bool:
    return bool(completed) and course.required <= completed


def _end_state(course: Course, counted: set[str], lost: frozenset[str], *, enrolled: bool) -> EndState:
    completed = counted | lost
    done = {collection.id: len(collection.required & completed) for collection in course.tree.collections}
    finished = _is_complete(course, completed)
    status = (COMPLETED if finished else IN_PROGRESS if completed else NOT_STARTED) if enrolled else None
    return EndState(
        progress=done[course.id] if completed and enrolled else None,
        status=status,
        certificate=finished and enrolled,
        aggregates={activity: count for activity, count in done.items() if count},
        counted=frozenset(counted),
        lost=lost,
    )


# --- what the LMS and the publish pipeline write


class Platform:
    """Writes to Cassandra what the LMS and the publish pipeline write, before the jobs see anything of it.

    ``keyspace`` is the one with the tables of learners and enrolments.
    """

    def __init__(self, session: Session, env: str, keyspace: str = "sunbird_courses") -> None:
        self._session = session
        self._tree = session.prepare(
            f"INSERT INTO {env.lower()}_hierarchy_store.content_hierarchy (identifier, hierarchy) "  # noqa: S608
            "VALUES (?, ?)"
        )
        self._enrolment = session.prepare(
            f"INSERT INTO {keyspace}.user_enrolments (userid, courseid, batchid, active, status, addedby, "  # noqa: S608
            "enrolled_date) VALUES (?, ?, ?, true, 0, 'demo', ?)"
        )
        self._consumption = session.prepare(
            f"UPDATE {keyspace}.user_content_consumption SET status = ?, progress = ?, datetime = ?, "  # noqa: S608
            "last_access_time = ?, last_updated_time = ? WHERE userid = ? AND courseid = ? AND batchid = ? "
            "AND contentid = ?"
        )
        self._last_read = session.prepare(
            f"UPDATE {keyspace}.user_enrolments SET lastreadcontentid = ?, lastreadcontentstatus = ?, "  # noqa: S608
            "lastcontentaccesstime = ? WHERE userid = ? AND courseid = ? AND batchid = ?"
        )
        self._enrolled: set[Enrolment] = set()
        self._statuses: dict[tuple[Enrolment, str], int] = {}

    def store_tree(self, course: Course) -> None:
        """The tree of a published course."""
        self._session.execute(self._tree, (course.id, json.dumps(course.hierarchy())), timeout=30)

    def enrol(self, enrolments: Iterable[Enrolment], at: datetime | None = None) -> None:
        """An enrolment row for each, not started."""
        at = at or datetime.now(UTC)
        enrolments = list(enrolments)
        self._enrolled.update(enrolments)
        self._write(self._enrolment, [(*enrolment, at) for enrolment in enrolments])

    def store_consumption(self, messages: Iterable[Message], at: datetime | None = None) -> None:
        """What the LMS keeps of consumption: the highest status of each content, and what was read last."""
        at = at or datetime.now(UTC)
        statuses: dict[tuple[Enrolment, str], int] = {}
        last_read: dict[Enrolment, tuple[str, int]] = {}
        for message in messages:
            if message.enrolment is None:
                continue
            for content, status in message.reported:
                place = (message.enrolment, content)
                if status > self._statuses.get(place, NOT_STARTED):
                    self._statuses[place] = statuses[place] = status
                if message.enrolment in self._enrolled:
                    last_read[message.enrolment] = (content, status)
        self._write(
            self._consumption,
            [
                (status, 100 if status == COMPLETED else 50, at, at, at, *enrolment, content)
                for (enrolment, content), status in statuses.items()
            ],
        )
        self._write(self._last_read, [(*read, at, *enrolment) for enrolment, read in last_read.items()])

    def _write(self, statement: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        execute_concurrent_with_args(self._session, statement, rows, concurrency=64)
