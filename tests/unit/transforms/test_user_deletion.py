"""The rules of user-deletion-cleanup, one by one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from transforms.user_deletion import Deletion, InvalidDeletion, deletion_of, is_user_of, left_at, lookups_of


def event(**edata: Any) -> dict[str, Any]:
    return {"mid": "LP.1", "edata": {"userId": "learner-1", "organisationId": "org-1", **edata}}


@pytest.mark.parametrize(
    ("given", "managed"),
    [
        (None, ()),
        ([], ()),
        ("learner-2", ()),
        ({"a": 1}, ()),
        ([orjson.loads("[" * 600 + "]" * 600), "learner-2"], ("learner-2",)),  # can be read, and not written
        (["learner-2", None, "", " ", "learner-2", 7, 1.5, True, "learner-1"], ("learner-2", "7", "1.5", "true")),
    ],
)
def test_managed_users(given: Any, managed: tuple[str, ...]):
    """spec §2"""
    assert deletion_of(event(managed_users=given)) == Deletion("learner-1", "org-1", managed, "LP.1")


@pytest.mark.parametrize("wrong", [{"userId": " "}, {"userId": None}, {"userId": 7}, {"organisationId": ""}])
def test_what_is_no_deletion(wrong: dict[str, Any]):
    """spec §2"""
    with pytest.raises(InvalidDeletion) as invalid:
        deletion_of(event(**wrong))
    assert "learner" not in str(invalid.value)


def test_an_event_without_edata():
    for nothing in ({}, {"edata": None}, {"edata": []}):
        with pytest.raises(InvalidDeletion):
            deletion_of(nothing)


def test_lookups_of_row_answer_and_external_ids():
    """spec §3.6: the row's values, the answer's encrypted ones, the answer's own; blank ones out, equal ones once"""
    row = {"email": "e-row", "phone": "p", "username": "", "status": 1}
    answer = {"encEmail": "e-enc", "email": "e***@x", "encPhone": "p", "phone": None, "username": "u", "externalId": 7}
    external = [
        {"idtype": "school", "provider": "school", "externalid": "roll"},
        {"idtype": "state", "provider": "school", "externalid": "other type"},
        {"idtype": "org", "provider": "org", "externalid": None},
    ]
    assert lookups_of(row, answer, external) == [
        ("email", "e-row"),
        ("email", "e-enc"),
        ("email", "e***@x"),
        ("phone", "p"),
        ("username", "u"),
        ("externalid", "roll@school"),
    ]
    assert lookups_of({}, {}, []) == []


@pytest.mark.parametrize(
    ("user", "organisation", "same"),
    [("learner-1", "org-1", True), ("LEARNER-1", "Org-1", True), ("learner-1", "org-2", False), (None, "org-1", False)],
)
def test_the_user_and_the_organisation(user: Any, organisation: Any, same: bool):
    """spec §3.2, §3.3"""
    assert is_user_of(user, organisation, "Learner-1", "org-1") is same


@pytest.mark.parametrize(
    ("now", "text"),
    [(1_717_401_000_042, "2024-06-03 07:50:00:042+0000"), (0, "1970-01-01 00:00:00:000+0000")],
)
def test_the_date_of_leaving(now: int, text: str):
    """spec §3.4"""
    assert left_at(now) == text
