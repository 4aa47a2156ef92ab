"""What a notification event asks for, and whether it can be sent: plain rules (spec: notification-job §2, §3)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from transforms.decode import value_at

__all__ = [
    "MODES",
    "InvalidNotification",
    "Mail",
    "Message",
    "NotSendable",
    "Notification",
    "Push",
    "TextMessage",
    "message_of",
    "notification_of",
    "retry_event",
]

ACTION = "broadcast-topic-notification-all"
MODES = MAIL, TEXT_MESSAGE, PUSH = "email", "phone", "device"
TRIES = 2
SHORTEST_NUMBER = 10


class InvalidNotification(ValueError):
    """An event that can never be sent, whatever is tried. The message holds no part of the event."""


class NotSendable(ValueError):
    """A notification of the right shape that nothing can be sent of. The message holds no part of the event."""


@dataclass(frozen=True)
class Notification:
    """What an event asks for. ``mode`` is in lower case; ``request`` is ``edata.request.notification``."""

    mode: str
    iteration: float
    mid: str | None
    request: dict[str, Any]

    @property
    def may_come_again(self) -> bool:
        """Whether it is put back when it could not be sent. spec: notification-job §3 step 6"""
        return self.iteration < TRIES

    @property
    def recipients(self) -> int:
        """How many the event names; for the log."""
        ids = self.request.get("ids")
        return len(ids) if isinstance(ids, list) else 0


@dataclass(frozen=True)
class Mail:
    """An e-mail: without ``subject`` there is no such header; ``identifier`` is the same when the event comes again."""

    recipients: tuple[str, ...]
    subject: str | None
    html: str
    identifier: str | None


@dataclass(frozen=True)
class TextMessage:
    """An SMS to all of the numbers."""

    numbers: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Push:
    """A push to devices, or, where there are no ``tokens``, to a topic."""

    tokens: tuple[str, ...]
    topic: str
    data: dict[str, Any]


Message = Mail | TextMessage | Push


def notification_of(event: dict[str, Any]) -> Notification | None:
    """The notification that an event asks for; None for an action that is not this job's.

    Raises InvalidNotification for a shape that can never be sent. spec: notification-job §2, §3 steps 2 and 3
    """
    action = value_at(event, "edata.action")
    if not isinstance(action, str) or action.lower() != ACTION:
        return None
    request = value_at(event, "edata.request.notification")
    if not isinstance(request, dict):
        raise InvalidNotification("no edata.request.notification")
    mode = request.get("mode")
    if not isinstance(mode, str):
        raise InvalidNotification("no mode")
    mode = mode.lower()
    ids = request.get("ids")
    if mode in (MAIL, TEXT_MESSAGE):
        if not isinstance(ids, list):
            raise InvalidNotification("ids is no list")
        if not isinstance(request.get("template"), dict):
            raise InvalidNotification("no template")
    if mode == PUSH and not isinstance(ids, list | None):
        raise InvalidNotification("ids is no list")
    mid = event.get("mid")
    return Notification(mode, _iteration(event), mid if isinstance(mid, str) else None, request)


def message_of(notification: Notification) -> Message:
    """The message to send. Raises NotSendable. spec: notification-job §3 step 7, §3.1-§3.3"""
    if notification.mode == MAIL:
        return _mail(notification)
    if notification.mode == TEXT_MESSAGE:
        return _text_message(notification.request)
    if notification.mode == PUSH:
        return _push(notification.request)
    raise NotSendable("an unknown mode")


def retry_event(event: dict[str, Any]) -> bytes:
    """The event that puts a notification back, once. Raises TypeError for what can not be written as JSON.

    spec: notification-job §3.4
    """
    edata = event["edata"]
    return orjson.dumps(
        {
            "actor": _or(event.get("actor"), {}),
            "eid": _or(event.get("eid"), ""),
            "mid": event.get("mid"),
            "trace": _or(event.get("trace"), {}),
            "edata": {"action": edata["action"], "iteration": TRIES, "request": edata["request"]},
            "context": _or(event.get("context"), {}),
            "object": _or(event.get("object"), {}),
        }
    )


def _iteration(event: dict[str, Any]) -> float:
    iteration = value_at(event, "edata.iteration")
    is_number = isinstance(iteration, int | float) and not isinstance(iteration, bool)
    return iteration if is_number else 1


def _mail(notification: Notification) -> Mail:
    request = notification.request
    recipients = request["ids"]
    if not recipients:
        raise NotSendable("no recipients")
    if not all(isinstance(recipient, str) for recipient in recipients):
        raise NotSendable("a recipient that is no text")
    subject = value_at(request, "config.subject")
    return Mail(
        tuple(recipients),
        subject if isinstance(subject, str) else None,
        _text(request),
        _identifier(notification.mid, recipients),
    )


def _text_message(request: dict[str, Any]) -> TextMessage:
    text = _text(request)
    if not text.strip():
        raise NotSendable("no text")
    numbers = [n for n in request["ids"] if isinstance(n, str) and n.strip() and len(n) >= SHORTEST_NUMBER]
    if not numbers:
        raise NotSendable("no phone number that is one")
    return TextMessage(tuple(numbers), text)


def _push(request: dict[str, Any]) -> Push:
    data = request.get("rawData")
    if not isinstance(data, dict):
        raise NotSendable("no rawData")
    if request.get("ids"):
        tokens = tuple(token for token in request["ids"] if isinstance(token, str) and token.strip())
        if not tokens:
            raise NotSendable("no registration token that is one")
        return Push(tokens, "", data)
    topic = value_at(request, "config.topic")
    if not isinstance(topic, str) or not topic.strip():
        raise NotSendable("neither registration tokens nor a topic")
    return Push((), topic, data)


def _text(request: dict[str, Any]) -> str:
    text = request["template"].get("data")
    if not isinstance(text, str):
        raise NotSendable("no text")
    return text


def _identifier(mid: str | None, recipients: Sequence[str]) -> str | None:
    """Where the event has an id of its own: one of the mail that the event gives again whenever it comes."""
    if not mid or not mid.strip():
        return None
    return hashlib.sha256("\n".join([mid, *recipients]).encode()).hexdigest()[:40]


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
