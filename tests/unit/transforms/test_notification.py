"""What a notification event asks for, and the event that puts it back (spec: notification-job §2, §3)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.event_schemas import validator
from transforms.notification import (
    ACTION,
    InvalidNotification,
    Mail,
    NotSendable,
    Push,
    TextMessage,
    message_of,
    notification_of,
    retry_event,
)


def event(mode: Any = "email", iteration: Any = 1, **request: Any) -> dict[str, Any]:
    body = {"mode": mode, "ids": ["learner-1@school.example"], "template": {"data": "text"}, **request}
    body = {name: value for name, value in body.items() if value is not ...}
    return {"mid": "NS.1", "edata": {"action": ACTION, "iteration": iteration, "request": {"notification": body}}}


def message(*arguments: Any, **request: Any) -> Mail | TextMessage | Push:
    notification = notification_of(event(*arguments, **request))
    assert notification is not None
    return message_of(notification)


@pytest.mark.parametrize("found", [{}, {"edata": 5}, {"edata": {}}, event() | {"edata": {"action": "other-action"}}])
def test_an_action_that_is_not_ours(found: dict[str, Any]) -> None:
    assert notification_of(found) is None


def test_the_action_in_any_case() -> None:
    found = event()
    found["edata"]["action"] = ACTION.upper()
    assert notification_of(found) is not None


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"edata": {"action": ACTION}}, "no edata.request.notification"),
        ({"edata": {"action": ACTION, "request": {"notification": []}}}, "no edata.request.notification"),
        (event(...), "no mode"),
        (event(None), "no mode"),
        (event(5), "no mode"),
        (event(ids=None), "ids is no list"),
        (event("phone", ids=...), "ids is no list"),
        (event("PHONE", ids="0000000001"), "ids is no list"),
        (event(template=...), "no template"),
        (event("phone", template="text"), "no template"),
        (event("device", ids="token"), "ids is no list"),
        (event("Device", ids={}), "ids is no list"),
    ],
)
def test_a_shape_that_can_never_be_sent(found: dict[str, Any], reason: str) -> None:
    assert not validator("notification").is_valid(found)
    with pytest.raises(InvalidNotification, match=f"^{reason}$"):
        notification_of(found)


@pytest.mark.parametrize(
    ("iteration", "again"),
    [(1, True), (1.0, True), (0, True), (2, False), (2.0, False), (3, False), (None, True), ("2", True), (True, True)],
)
def test_which_try_it_is(iteration: Any, again: bool) -> None:
    notification = notification_of(event(iteration=iteration))
    assert notification is not None
    assert notification.may_come_again is again


def test_a_mail() -> None:
    found = message("EMAIL", ids=["a@b.c", "d@e.f"], config={"subject": "Ready", "sender": "x@y.z"})
    assert isinstance(found, Mail)
    assert (found.recipients, found.subject, found.html) == (("a@b.c", "d@e.f"), "Ready", "text")
    assert message(config={"subject": None}).subject is None  # type: ignore[union-attr]
    assert message(config={"subject": 5}).subject is None  # type: ignore[union-attr]
    assert message(template={"data": ""}).html == ""  # type: ignore[union-attr]


def test_the_same_event_gives_the_same_identifier() -> None:
    first, again, other = (message(iteration=i, ids=ids) for i, ids in ((1, ["a@b.c"]), (2, ["a@b.c"]), (1, ["d@e.f"])))
    assert first.identifier == again.identifier  # type: ignore[union-attr]
    assert first.identifier != other.identifier  # type: ignore[union-attr]
    without = notification_of({**event(), "mid": " "})
    assert without is not None
    assert message_of(without).identifier is None  # type: ignore[union-attr]


def test_an_sms() -> None:
    """§9 case 5"""
    numbers = ["+910000000001", "12345", "", "0000000002", None, " " * 12, "0000000002", 123456789012]
    assert message("phone", ids=numbers) == TextMessage(("+910000000001", "0000000002", "0000000002"), "text")


def test_a_push() -> None:
    """§9 cases 6 and 7"""
    data = {"title": "New", "badge": 3}
    assert message("device", ids=["t1", "t2"], rawData=data, template=...) == Push(("t1", "t2"), "", data)
    for ids in (None, [], ...):
        assert message("device", ids=ids, rawData=data, config={"topic": "all"}) == Push((), "all", data)


@pytest.mark.parametrize(
    ("mode", "request_"),
    [
        ("email", {"ids": []}),
        ("email", {"ids": ["a@b.c", 5]}),
        ("email", {"template": {}}),
        ("email", {"template": {"data": None}}),
        ("email", {"template": {"data": 5}}),
        ("phone", {"ids": ["12345", "", None]}),
        ("phone", {"ids": ["0000000001"], "template": {"data": " \n"}}),
        ("phone", {"ids": ["0000000001"], "template": {"data": None}}),
        ("device", {"rawData": {"a": 1}, "ids": None}),
        ("device", {"rawData": {"a": 1}, "ids": [], "config": {"topic": " "}}),
        ("device", {"rawData": {"a": 1}, "ids": [None, ""], "config": {"topic": "all"}}),
        ("device", {"rawData": None}),
        ("device", {"rawData": [1]}),
        ("device", {}),
        ("pigeon", {}),
        ("", {}),
    ],
)
def test_what_nothing_can_be_sent_of(mode: str, request_: dict[str, Any]) -> None:
    """It is of the right shape, so it is put back once (§3 step 7, §9 case 9)."""
    validator("notification").validate(event(mode, **request_))
    with pytest.raises(NotSendable):
        message(mode, **request_)


def test_the_event_that_puts_it_back() -> None:
    """§3.4"""
    found = {
        **event(iteration=1, rawData=None),
        "actor": {"id": "a", "type": None},
        "eid": "BE_JOB_REQUEST",
        "trace": {"X-Request-ID": None},
        "ets": 1,
        "ver": "3.0",
        "context": {"pdata": {"ver": "1.0"}},
        "object": {"id": "8a", "type": "TopicNotifyAll"},
    }
    found["edata"]["extra"] = 1
    again = orjson.loads(retry_event(found))
    validator("notification-retry").validate(again)
    kept = ("actor", "eid", "mid", "trace", "context", "object")
    assert {name: again[name] for name in kept} == {name: found[name] for name in kept}
    assert again["edata"] == {"action": ACTION, "iteration": 2, "request": found["edata"]["request"]}
    assert b"\n" not in retry_event(found)


def test_what_is_absent_in_the_event_that_puts_it_back() -> None:
    found = event()
    del found["mid"], found["edata"]["iteration"]
    again = orjson.loads(retry_event(found | {"trace": None}))
    validator("notification-retry").validate(again)
    assert again == {
        **{name: {} for name in ("actor", "trace", "context", "object")},
        "eid": "",
        "mid": None,
        "edata": {"action": ACTION, "iteration": 2, "request": found["edata"]["request"]},
    }
