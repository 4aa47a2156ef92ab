"""The steps that send notifications: which records are some, and what becomes of each.

A send that may have sent something is never made again, neither at once nor by a retry event: what failed for sure is.
Nothing that goes wrong with one notification touches another, and no error leaves the step, for a bundle that is
repeated would send again what it had sent.

spec: notification-job §3, §6, §8.4
"""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.counters import count
from transforms.dead_letter import dead_letter
from transforms.decode import NotAnObject, Record, id_at, parse_object
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.notification import (
    MODES,
    InvalidNotification,
    Mail,
    Message,
    Notification,
    NotSendable,
    TextMessage,
    message_of,
    notification_of,
    retry_event,
)
from transforms.overlapped import Done, side_by_side
from transforms.services import Mails, OutcomeUnknown, Pushes, ServiceRefused, TextMessages
from transforms.stores import Opens, StoreUnavailable

__all__ = ["GIVEN_UP", "RETRY", "SelectNotifications", "SendNotifications", "Senders"]

_log = logging.getLogger(__name__)

RETRY = "retry"
# Not FAILED, which the limit of dead letters watches: a job that stops sends again, at each restart, what it
# had sent since the last checkpoint.
GIVEN_UP = "given-up"

SUCCESS, PUT_BACK, SKIPPED = "success-events-count", "failed-events-count", "skipped-event-count"


class Work(NamedTuple):
    """A notification on its way to the worker that sends it: where its record stood, and the record."""

    place: str
    value: bytes

    def to_bytes(self) -> bytes:
        return self.place.encode() + b"\n" + self.value

    @classmethod
    def from_bytes(cls, payload: bytes) -> Work:
        place, _, value = payload.partition(b"\n")
        return cls(place.decode(), value)


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectNotifications(beam.DoFn):
    """Takes records, gives ``(shard, Work as bytes)`` for each notification; GIVEN_UP gets dead letters.

    The rest is skipped; with ``keep_failed`` what can not be read, or never sent, is a dead letter. Events of other
    actions are none. spec: notification-job §3 steps 1-3
    """

    def __init__(self, job: str, shards: int, *, keep_failed: bool) -> None:
        self._job = job
        self._shards = shards
        self._keep_failed = keep_failed

    def process(self, record: Record) -> Iterator[tuple[bytes, bytes] | TaggedOutput]:
        count(self._job, "total-events-count")
        event: dict[str, Any] | None = None
        try:
            event = parse_object(record.value)
            if notification_of(event) is not None:
                yield shard_of(record.name, self._shards), Work(record.name, record.value or b"").to_bytes()
                return
            reason, is_failed = "another action", False
        except (NotAnObject, InvalidNotification) as error:
            reason, is_failed = str(error), True
        count(self._job, SKIPPED)
        _log.warning("%s (mid %s) is skipped: %s", record.name, _mid(event), reason)
        if is_failed and self._keep_failed:
            yield TaggedOutput(GIVEN_UP, dead_letter(self._job, reason, record.value, event))


@dataclass(frozen=True)
class Senders:
    """The recipes; ``calls`` is where the providers are waited for."""

    mails: Opens[Mails]
    text_messages: Opens[TextMessages]
    pushes: Opens[Pushes]
    calls: Opens[Executor]


class SendNotifications(KeyedBatch):
    """Takes ``(shard, Work)``, all bytes; gives RETRY events and GIVEN_UP values (with ``keep_failed``).

    With ``retry_unknown`` a notification is put back also when nobody can say whether it was sent.
    spec: notification-job §3 steps 4-7
    """

    def __init__(self, job: str, senders: Senders, *, size: int, keep_failed: bool, retry_unknown: bool) -> None:
        super().__init__(size)
        self._job = job
        self._senders = senders
        self._keep_failed = keep_failed
        self._retry_unknown = retry_unknown

    def setup(self) -> None:
        self._mails = self._senders.mails.open()
        self._text_messages = self._senders.text_messages.open()
        self._pushes = self._senders.pushes.open()
        self._calls = self._senders.calls.open()
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        works = [Work.from_bytes(payload) for payload in payloads]
        outputs = []
        for work, answer in zip(
            works, side_by_side(self._calls, [partial(self._send, work) for work in works]), strict=True
        ):
            done = self._broken(work, answer) if isinstance(answer, Exception) else answer
            outputs += done.outputs
            for name, times in done.counts.items():
                count(self._job, name, times)
        return outputs

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        done = self._broken(Work.from_bytes(payload), error)
        count(self._job, SKIPPED)
        return done.outputs

    # --- one notification, on a thread of its own

    def _send(self, work: Work) -> Done:
        """Send it, and say what is to be emitted. Nothing is done after the send that could fail."""
        event = parse_object(work.value)
        notification = notification_of(event)
        assert notification is not None  # noqa: S101 - it was selected
        # what may be needed afterwards is made before
        put_back, why_not = _put_back(event, notification)
        try:
            said = self._hand_over(message_of(notification))
        except OutcomeUnknown as error:
            if not self._retry_unknown:
                put_back, why_not = None, "it may have been sent, so it is not sent again"
            return self._not_sent(work, notification, event, str(error), put_back, why_not)
        except (NotSendable, ServiceRefused, StoreUnavailable) as error:
            return self._not_sent(work, notification, event, str(error), put_back, why_not)
        if said:
            told = ", ".join(f"{name} {number}" for name, number in said.items())
            _log.info("%s (mid %s) is sent: %s", work.place, _mid(event), told)
        return Done(counts=Counter({SUCCESS: 1}))

    def _hand_over(self, message: Message) -> dict[str, int]:
        """Raises NotSendable, ServiceRefused, StoreUnavailable, OutcomeUnknown."""
        if isinstance(message, Mail):
            self._mails.send(message.recipients, message.subject, message.html, message.identifier)
        elif isinstance(message, TextMessage):
            self._text_messages.send(message.numbers, message.text)
        elif message.tokens:
            return self._pushes.to_devices(message.tokens, message.data)
        else:
            return self._pushes.to_topic(message.topic, message.data)
        return {}

    def _not_sent(
        self,
        work: Work,
        notification: Notification,
        event: dict[str, Any],
        reason: str,
        put_back: bytes | None,
        why_not: str,
    ) -> Done:
        mode = notification.mode if notification.mode in MODES else "unknown"
        told = (work.place, _mid(event), mode, notification.recipients, reason)
        if put_back is not None:
            _log.warning("%s (mid %s, mode %s, %d recipients) is put back, for it was not sent: %s", *told)
            return Done([TaggedOutput(RETRY, put_back)], Counter({PUT_BACK: 1}))
        _log.error("%s (mid %s, mode %s, %d recipients) is given up: %s; %s", *told, why_not)
        return Done(self._letter(work, f"{reason}; {why_not}"), Counter({SKIPPED: 1}))

    def _broken(self, work: Work, error: Exception) -> Done:
        """A fault of the program. Its message may hold anything, and nobody can say how far the send had come."""
        at = traceback.extract_tb(error.__traceback__)[-1:]
        _log.error("%s is given up: %s at %s", work.place, type(error).__name__, at)
        return Done(self._letter(work, f"could not be handled: {type(error).__name__}"), Counter({SKIPPED: 1}))

    def _letter(self, work: Work, reason: str) -> list[TaggedOutput]:
        if not self._keep_failed:
            return []
        return [TaggedOutput(GIVEN_UP, dead_letter(self._job, reason, work.value, parse_object(work.value)))]


def _put_back(event: dict[str, Any], notification: Notification) -> tuple[bytes | None, str]:
    """The event that puts it back, or why there is none."""
    if not notification.may_come_again:
        return None, "this was the second try"
    try:
        return retry_event(event), ""
    except TypeError:
        return None, "an event that can not be written again"


def _mid(event: dict[str, Any] | None) -> str:
    """The event's id for the log, of no more than 100 characters on one line."""
    return repr((id_at(event, "mid") or "-")[:100])
