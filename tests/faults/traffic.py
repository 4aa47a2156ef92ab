"""Learners at work while something breaks, and the judgement of what is left: lost, doubled, or as it should be."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from types import TracebackType

from confluent_kafka import Producer

from deploy.local.end_state import Reader, differences
from deploy.local.scenario import Course, Message, Platform
from tests.bench.load import Load, Shape, relation_cache
from tests.e2e.installation import PROGRESS, SECONDS, Installation, eventually

EVENTS_PER_SECOND = 150
LINES_SHOWN = 20
# an outage may leave this much to catch up with
CAUGHT_UP_SECONDS = 180
OUTCOME_SECONDS = 60


class Traffic:
    """Consumption events at a steady rate, from a thread of its own, for ``seconds``.

    Learners with a few contents to each event, a tenth of the events repeated. What the LMS stores of them is stored
    beforehand: it must not hang on a store that a test stops.
    """

    def __init__(self, site: Installation, name: str, seconds: float, rate: int = EVENTS_PER_SECOND) -> None:
        events = round(seconds * rate)
        shape = Shape(events, Shape.learners_for(events))
        self._site = site
        self._rate = rate
        self._brokers = str(site.settings["kafka.broker-servers"])
        self.course: Course = shape.course(site.name(name))
        self.load = Load.of(shape, self.course, site.name(name))
        self.sent_at: list[float] = []  # epoch seconds, by the message's place
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        for key, members in relation_cache(self.course).items():
            site.relation_cache.sadd(key, *members)
        platform = Platform(site.session, site.stack_environment)
        platform.enrol(self.load.scenario.enrolments)
        platform.store_consumption(self.load.written_by_lms())
        site.written()  # from here on, what is written is of this traffic

    @property
    def messages(self) -> tuple[Message, ...]:
        return self.load.scenario.messages

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.join(2 * len(self.messages) / self._rate + SECONDS)
        if error is None:
            assert not self._thread.is_alive(), "the sending did not end"
            assert self._error is None, self._error

    def flow(self, seconds: float) -> None:
        """Let it flow for so long."""
        until = min(len(self.sent_at) + round(seconds * self._rate), len(self.messages))
        while len(self.sent_at) < until and self._thread.is_alive():
            time.sleep(0.05)

    def flow_until_some_would_come_again(self, seconds: float) -> None:
        """Let it flow for so long, and on until the job has handled something that no checkpoint covers yet.

        A restart delivers that again.
        """
        self.flow(seconds)
        committed = self._site.committed(PROGRESS)
        eventually(lambda: self._site.committed(PROGRESS) > committed, OUTCOME_SECONDS)
        written = self._site.records_written()
        eventually(lambda: self._site.records_written() > written, OUTCOME_SECONDS)

    def _run(self) -> None:
        try:
            self._send_all()
        except Exception as error:
            self._error = error

    def _send_all(self) -> None:
        refused: list[str] = []
        producer = Producer({"bootstrap.servers": self._brokers, "linger.ms": 5, "enable.idempotence": True})
        begun = time.monotonic()
        for place, message in enumerate(self.messages):
            time.sleep(max(0.0, begun + place / self._rate - time.monotonic()))
            producer.produce(
                self._site.topics.consumption,
                message.value,
                message.key,
                on_delivery=lambda error, _: refused.append(str(error)) if error else None,
            )
            self.sent_at.append(time.time())
            producer.poll(0)
        if producer.flush(SECONDS) or refused:
            raise RuntimeError(f"the broker did not take all events: {refused[:1]}")


@dataclass
class Judgement:
    """What is left of a traffic, held against what follows from it."""

    events: int = 0
    lost_counts: int = 0  # contents whose view or completion is missing
    doubled_counts: int = 0  # contents that were counted more than once
    wrong_rows: list[str] = field(default_factory=list)  # any difference of the tables, counts among them
    lost_events: Counter[tuple[str, ...]] = field(default_factory=Counter)  # AUDIT events, certificate requests
    doubled_events: Counter[tuple[str, ...]] = field(default_factory=Counter)
    strange_events: Counter[tuple[str, ...]] = field(default_factory=Counter)  # that nothing gave reason for
    dead_letters: int = 0
    recovery: float | None = None  # seconds from the fault to the first outcome of an event sent after it
    longest_wait: float = 0.0  # seconds from an event to its outcome

    def __str__(self) -> str:
        doubled = Counter(kind for *_, kind in self.doubled_events.elements())
        parts = [
            f"{self.events} events",
            *([] if self.recovery is None else [f"recovered after {self.recovery:.1f} s"]),
            f"longest wait {self.longest_wait:.1f} s",
            f"counts lost {self.lost_counts}, doubled {self.doubled_counts}",
            f"wrong rows {len(self.wrong_rows)}",
            f"events lost {self.lost_events.total()}, strange {self.strange_events.total()}",
            f"repeated {self.doubled_events.total()} {dict(doubled) or ''}".rstrip(),
            f"dead letters {self.dead_letters}",
        ]
        return "; ".join(parts)

    @property
    def faults(self) -> list[str]:
        """What is not as in an undisturbed run. An AUDIT event or a certificate request may come again."""
        found = [f"{self.doubled_counts} counts doubled", f"{self.lost_counts} counts lost"]
        found = [line for line in found if not line.startswith("0 ")] + self.wrong_rows[:LINES_SHOWN]
        found += [f"never came: {event}" for event in list(self.lost_events)[:LINES_SHOWN]]
        found += [f"came for no reason: {event}" for event in list(self.strange_events)[:LINES_SHOWN]]
        return found + ([f"{self.dead_letters} dead letters"] if self.dead_letters else [])


def judge(traffic: Traffic, fault_at: float | None = None, dead_letters: Collection[str] = ()) -> Judgement:
    """Wait until the job has handled the traffic, and judge. ``fault_at`` in epoch seconds.

    ``dead_letters``: the ids of courses that are to be on the failed topic.
    """
    site = traffic._site
    site.handled(PROGRESS, CAUGHT_UP_SECONDS)
    eventually(site.cassandra_answers, SECONDS)
    found = Judgement(len(traffic.messages))
    _judge_tables(traffic, found)
    _judge_events(traffic, found, fault_at, dead_letters)
    return found


def _judge_tables(traffic: Traffic, found: Judgement) -> None:
    wanted = traffic.load.end_states
    stored = Reader(traffic._site.session).read([traffic.course], list(wanted))
    for enrolment, state in wanted.items():
        found.wrong_rows += differences(enrolment, state, stored[enrolment])
        for content in state.counted:
            counts = stored[enrolment].counted.get(content, (0, 0))
            found.lost_counts += min(counts) < 1
            found.doubled_counts += max(counts) > 1


def _judge_events(traffic: Traffic, found: Judgement, fault_at: float | None, dead_letters: Collection[str]) -> None:
    topics = traffic._site.topics
    wanted = traffic.load.audits()
    wanted.update((user, "certificate") for user in traffic.load.certificates())  # type: ignore[arg-type]
    came: Counter[tuple[str, ...]] = Counter()
    recovered = []
    for record in traffic._site.written():
        event = record.event
        if record.topic == topics.failed:
            found.dead_letters += event.get("courseId") not in dead_letters
            continue
        if record.topic == topics.certificates:
            came.update((user, "certificate") for user in event["edata"]["userIds"])
            continue
        user, content, kind = event["actor"]["id"], event["object"]["id"], event["edata"]["type"]
        came[user, content, kind] += 1
        place = traffic.load.first_reports.get((user, content))
        if place is not None and came[user, content, kind] == 1:
            sent_at = traffic.sent_at[place]
            found.longest_wait = max(found.longest_wait, record.timestamp / 1000 - sent_at)
            if fault_at is not None and sent_at > fault_at:
                recovered.append(record.timestamp / 1000 - fault_at)
    found.recovery = min(recovered, default=None)
    found.lost_events = wanted - came  # type: ignore[operator]
    found.strange_events = Counter({event: times for event, times in came.items() if event not in wanted})
    found.doubled_events = came - wanted - found.strange_events  # type: ignore[operator]
