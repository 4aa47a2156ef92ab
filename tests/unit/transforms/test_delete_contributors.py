"""The rules of cokreat-user-delete. spec: cokreat-user-delete §2, §3, §6, §8"""

from __future__ import annotations

from typing import Any

import pytest

from transforms.delete_contributors import LONGEST_SAID, Verdict, said_by, user_to_delete, verdict_on
from transforms.services import ServiceAnswer

JOB = "cokreat-user-delete"
EVENT = {"actor": {"id": "System"}, "edata": {"action": "delete-user", "userId": "learner-1"}}


@pytest.mark.parametrize(
    ("changed", "user"),
    [
        ({}, "learner-1"),
        ({"actor": None}, "learner-1"),
        ({"actor": {"id": "cokreat flink job"}}, "learner-1"),
        ({"actor": {"id": "coKreat Flink Job"}}, None),
        ({"jobName": JOB, "failInfo": {"error": "x"}}, None),
        ({"jobName": JOB}, "learner-1"),
        ({"failInfo": {}}, "learner-1"),
        ({"edata": {"action": "delete-user", "userId": "\t"}}, None),
        ({"edata": {"action": "delete-user ", "userId": "learner-1"}}, None),
        ({"edata": {"userId": "learner-1"}}, None),
        ({"edata": []}, None),
    ],
)
def test_whom_an_event_wants_deleted(changed: dict[str, Any], user: str | None) -> None:
    assert user_to_delete({**EVENT, **changed}, JOB) == user


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, {"responseCode": "OK"}, Verdict.DELETED),
        (200, {"responseCode": "ok"}, Verdict.REFUSED),
        (200, {"responseCode": "CLIENT_ERROR"}, Verdict.REFUSED),
        (200, {}, Verdict.REFUSED),
        (201, {"responseCode": "OK"}, Verdict.REFUSED),
        (404, {"result": {"response": "User not found in Sunbird"}}, Verdict.NEVER_THERE),
        (404, {"result": {"response": "NOT FOUND"}}, Verdict.NEVER_THERE),
        (404, {"result": {"response": "gone"}}, Verdict.REFUSED),
        (404, {"result": {"response": ["not found"]}}, Verdict.REFUSED),
        (404, {"result": "not found"}, Verdict.REFUSED),
        (404, {}, Verdict.REFUSED),
        (400, {"result": {"response": "not found"}}, Verdict.REFUSED),
        (429, {}, Verdict.REFUSED),
        (500, {"responseCode": "OK"}, Verdict.LATER),
        (500, {"result": {"response": "not found"}}, Verdict.LATER),
        (503, {}, Verdict.LATER),
    ],
)
def test_what_an_answer_says(status: int, body: dict[str, Any], verdict: Verdict) -> None:
    assert verdict_on(ServiceAnswer(status, body)) is verdict


def test_what_is_logged_of_an_answer() -> None:
    body = {
        "params": {"err": "E1", "errmsg": 'learner "one" is an admin', "userName": 'learner "one"', "phone": "1"},
        "result": {"response": {"name": "x"}, "email": "learner@example.org"},
        "more": 'learner "one"',
    }
    said = said_by(ServiceAnswer(500, body), 'learner "one"')
    assert said == '{"params.err":"E1","params.errmsg":"… is an admin"}'
    assert said_by(ServiceAnswer(500, {"params": 7, "result": None}), None) == "{}"
    assert len(said_by(ServiceAnswer(500, {"result": {"response": "x" * 10_000}}), 7)) == LONGEST_SAID
