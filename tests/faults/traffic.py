"""Learners at work while something breaks, and the judgement of what is left: lost, doubled, or as it should be."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType

from confluent_kafka import Producer

from deploy.local.end_state import Reader, differences
from deploy.local.scenario import Course, Platform
from tests.bench.load import Load, Shape, relation_cache
from tests.e2e.installation import PROGRESS, SECONDS, Installation, Written, eventually

EVENTS_PER_SECOND = 150
SECONDS_OF_BLOCK = 3
LINES_SHOWN = 20
# an outage may leave this much to catch up with
CAUGHT_UP_SECONDS = 180
# a checkpoint, and a batch after it
DUE_SECONDS = 60


class Traffic:
    """Consumption events at a steady rate, from a thread of its own: from ``with`` to its end, ``seconds`` at most.

    Learners report a few contents with each event, a tenth of the events are repeated. They come in blocks, each with
    learners of its own, and a block that was begun is sent to its end. What the LMS stores of them is stored
    beforehand: it must not hang on a store that a test stops.
    """

    def __init__(self, site: Installation, name: str, seconds: int = 60) -> None:
        events = SECONDS_OF_BLOCK * EVENTS_PER_SECOND
        shape = Shape(events, Shape.learners_for(events))
        self.site = site
        self.course: Course = shape.course(site.name(name))
        blocks = range(seconds // SECONDS_OF_BLOCK)
        self._waiting = [Load.of(shape, self.course, site.name(f"{name}-{n}"), seed=n) for n in blocks]
        self.loads: list[Load] = []  # those that were sent
        self.sent = 0
        self.reported_at: dict[tuple[str, str], float] = {}  # (user, content) -> epoch seconds
        self._error: Exception | None = None
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        for key, members in relation_cache(self.course).items():
            site.relation_cache.sadd(key, *members)
        platform = Platform(site.session, site.stack_environment)
        for load in self._waiting:
            platform.enrol(load.scenario.enrolments)
            platform.store_consumption(load.written_by_lms())
        site.written()  # from here on, what is written is of this traffic

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._enough.set()
        self._thread.join(SECONDS_OF_BLOCK + 2 * SECONDS)
        if error is None:
            assert not self._thread.is_alive(), "the sending did not end"
            assert self._error is None, self._error

    def flow(self, seconds: float) -> None:
        """Let it flow for so long."""
        self._wait_for(self.sent + round(seconds * EVENTS_PER_SECOND))

    def flow_until_some_would_come_again(self) -> None:
        """Let it flow until the job has handled something that no checkpoint covers: a restart delivers it again."""
        committed = self.site.committed(PROGRESS)
        eventually(lambda: self.site.committed(PROGRESS) > committed, DUE_SECONDS)
        written = self.site.records_written()
        eventually(lambda: self.site.records_written() > written, DUE_SECONDS)
        assert self._thread.is_alive(), "it ran dry before"

    def _wait_for(self, sent: int) -> None:
        while self.sent < sent:
            assert self._thread.is_alive(), f"it ran dry: {self._error or 'all is sent'}"
            time.sleep(0.05)

    def _run(self) -> None:
        try:
            self._send_blocks()
        except Exception as error:
            self._error = error

    def _send_blocks(self) -> None:
        refused: list[str] = []
        producer = Producer(
            {
                "bootstrap.servers": str(self.site.settings["kafka.broker-servers"]),
                "linger.ms": 5,
                "enable.idempotence": True,
            }
        )
        begun = time.monotonic()
        while self._waiting and not self._enough.is_set():
            load = self._waiting.pop(0)
            self.loads.append(load)
            for message in load.scenario.messages:
                time.sleep(max(0.0, begun + self.sent / EVENTS_PER_SECOND - time.monotonic()))
                producer.produce(
                    self.site.topics.consumption,
                    message.value,
                    message.key,
                    on_delivery=lambda error, _: refused.append(str(error)) if error else None,
                )
                self.sent += 1
                for content in message.completed:
                    if message.enrolment:
                        self.reported_at.setdefault((message.enrolment.user_id, content), time.time())
                producer.poll(0)
        if producer.flush(SECONDS) or refused:
            raise RuntimeError(f"the broker did not take all events: {refused[:1]}")


@dataclass
class Judgement:
    """What is left of a traffic, held against what follows from it. Events: AUDIT events and certificate requests."""

    events: int = 0
    lost_counts: int = 0  # contents whose view or completion is missing
    doubled_counts: int = 0  # contents that were counted more than once
    wrong_rows: list[str] = field(default_factory=list)  # any difference of the tables, counts among them
    lost_events: Counter[tuple[str, ...]] = field(default_factory=Counter)
    repeated_events: Counter[tuple[str, ...]] = field(default_factory=Counter)
    strange_events: Counter[tuple[str, ...]] = field(default_factory=Counter)  # that nothing gave reason for
    dead_letters: int = 0
    recovery: float | None = None  # seconds from the fault to the first outcome of an event sent after it
    longest_wait: float = 0.0  # seconds from an event to its outcome

    def __str__(self) -> str:
        repeated = Counter(kind for *_, kind in self.repeated_events.elements())
        parts = [
            f"{self.events} events",
            *([] if self.recovery is None else [f"recovered after {self.recovery:.1f} s"]),
            f"longest wait {self.longest_wait:.1f} s",
            f"counts lost {self.lost_counts}, doubled {self.doubled_counts}",
            f"wrong rows {len(self.wrong_rows)}",
            f"events lost {self.lost_events.total()}, strange {self.strange_events.total()}",
            f"repeated {self.repeated_events.total()} {dict(repeated) or ''}".rstrip(),
            f"dead letters {self.dead_letters}",
        ]
        return "; ".join(parts)

    @property
    def faults(self) -> list[str]:
        """What is not as in an undisturbed run. An AUDIT event or a certificate request may come again."""
        found = [f"{self.doubled_counts} counts doubled"] if self.doubled_counts else []
        found += [f"{self.lost_counts} counts lost"] if self.lost_counts else []
        found += self.wrong_rows[:LINES_SHOWN]
        found += [f"never came: {event}" for event in list(self.lost_events)[:LINES_SHOWN]]
        found += [f"came for no reason: {event}" for event in list(self.strange_events)[:LINES_SHOWN]]
        return found + ([f"{self.dead_letters} dead letters"] if self.dead_letters else [])


def judge(traffic: Traffic, fault_at: float | None = None) -> Judgement:
    """Wait until the job has handled the traffic, and judge. ``fault_at`` in epoch seconds."""
    site = traffic.site
    site.handled(PROGRESS, CAUGHT_UP_SECONDS)
    eventually(site.cassandra_answers, SECONDS)
    found = Judgement(traffic.sent)
    _judge_tables(traffic, found)
    _judge_events(traffic, found, site.written(), fault_at)
    return found


def _judge_tables(traffic: Traffic, found: Judgement) -> None:
    wanted = {enrolment: state for load in traffic.loads for enrolment, state in load.end_states.items()}
    stored = Reader(traffic.site.session).read([traffic.course], list(wanted))
    for enrolment, state in wanted.items():
        found.wrong_rows += differences(enrolment, state, stored[enrolment])
        for content in state.counted:
            counts = stored[enrolment].counted.get(content, (0, 0))
            found.lost_counts += min(counts) < 1
            found.doubled_counts += max(counts) > 1


def _judge_events(traffic: Traffic, found: Judgement, written: list[Written], fault_at: float | None) -> None:
    wanted: Counter[tuple[str, ...]] = Counter()
    for load in traffic.loads:
        wanted.update(load.audits())
        wanted.update((user, "certificate") for user in load.certificates())
    came: Counter[tuple[str, ...]] = Counter()
    recovered = []
    for record in written:
        if record.topic == traffic.site.topics.failed_of(PROGRESS):
            found.dead_letters += 1
            continue
        event = record.event
        if record.topic == traffic.site.topics.certificates:
            came.update((user, "certificate") for user in event["edata"]["userIds"])
            continue
        user, content, kind = event["actor"]["id"], event["object"]["id"], event["edata"]["type"]
        came[user, content, kind] += 1
        sent_at = traffic.reported_at.get((user, content))
        if sent_at is not None and came[user, content, kind] == 1:
            found.longest_wait = max(found.longest_wait, record.timestamp / 1000 - sent_at)
            if fault_at is not None and sent_at > fault_at:
                recovered.append(record.timestamp / 1000 - fault_at)
    found.recovery = min(recovered, default=None)
    found.lost_events = wanted - came
    found.strange_events = Counter({event: times for event, times in came.items() if event not in wanted})
    found.repeated_events = came - wanted - found.strange_events
