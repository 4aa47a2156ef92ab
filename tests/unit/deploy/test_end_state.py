"""What is not as a scenario implies is found and named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from deploy.local.end_state import Stored, StoredCertificate, certificate_differences, differences, score_differences
from deploy.local.scenario import EndState, Enrolment
from tests.unit.deploy.outcome import COMPLETED_ON, made_up

LEARNER = Enrolment("learner-1", "do_1", "batch-1")
WANTED = EndState(
    progress=1, status=2, certificate=True, aggregates={"do_1": 1, "do_1_1": 1}, counted=frozenset({"do_1_1_1"})
)
RIGHT = Stored(
    status=2,
    progress=1,
    completed_on=datetime(2024, 6, 1, tzinfo=UTC),
    content_status={"do_1_1_1": 2, "do_1_2_1": 1},
    aggregates={"do_1": 1, "do_1_1": 1, "do_1_2": 0},
    counted={"do_1_1_1": (1, 1)},
)


def test_nothing_is_said_about_what_is_right() -> None:
    assert differences(LEARNER, WANTED, RIGHT) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"status": 1}, "the enrolment's status is 1, not 2"),
        ({"status": None}, "the enrolment's status is None, not 2"),
        ({"progress": 2}, "the progress is 2, not 1"),
        ({"completed_on": None}, "completedon is set is False, not True"),
        ({"aggregates": {"do_1": 1}}, "the aggregate of do_1_1 is 0, not 1"),
        ({"aggregates": {"do_1": 1, "do_1_1": 1, "do_1_2": 3}}, "the aggregate of do_1_2 is 3, not 0"),
        ({"counted": {"do_1_1_1": (2, 2)}}, "(views, completions) of do_1_1_1 is (2, 2), not (1, 1)"),
        ({"counted": {}}, "(views, completions) of do_1_1_1 is (0, 0), not (1, 1)"),
        ({"content_status": {}}, "contentstatus has the completed contents []"),
        ({"content_status": {"do_9": 2}}, "contentstatus has the completed contents ['do_9']"),
    ],
)
def test_each_difference_is_named(changed: dict[str, Any], named: str) -> None:
    assert differences(LEARNER, WANTED, replace(RIGHT, **changed)) == [f"learner-1: {named}"]


def test_scores_and_attempts_are_looked_at() -> None:
    enrolment = next(iter(OUTCOME.stored))
    certified = OUTCOME.certification
    right = Stored(scores=certified.scores(certified.learners[enrolment]), attempts=certified.attempts_of(enrolment))
    assert right.attempts
    assert score_differences(certified, enrolment, right) == []
    (name, *_) = right.scores
    (found,) = score_differences(certified, enrolment, replace(right, scores={**right.scores, name: 99.0}))
    assert f"{name} is 99.0, not" in found
    (found,) = score_differences(certified, enrolment, replace(right, attempts=[]))
    assert "the attempts are []" in found


# --- certificates

OUTCOME = made_up()
FIRST = next(iter(OUTCOME.stored))
OFFERS = OUTCOME.wanted.issued[FIRST]


def certificates() -> list[StoredCertificate]:
    return list(OUTCOME.certificates.issued[FIRST])


def wrong(stored: list[StoredCertificate]) -> list[str]:
    found = certificate_differences(OUTCOME.certification, FIRST, OFFERS, stored, COMPLETED_ON)
    return [line.removeprefix(f"{FIRST.user_id}: ") for line in found]


def test_nothing_is_said_about_right_certificates() -> None:
    for enrolment, offers in OUTCOME.wanted.issued.items():
        stored = OUTCOME.certificates.issued[enrolment]
        assert certificate_differences(OUTCOME.certification, enrolment, offers, stored, COMPLETED_ON) == []


def test_too_few_and_too_many_are_named() -> None:
    completion, merit, staff = certificates()

    assert wrong([completion, staff]) == ["1 less of 'Certificate of Merit' than there should be"]
    assert wrong([completion, merit, staff, merit]) == ["1 more of 'Certificate of Merit' than there should be"]


def test_one_that_was_there_before_has_to_stay_as_it_was() -> None:
    enrolment = list(OUTCOME.stored)[7]
    held, merit = OUTCOME.certificates.issued[enrolment]
    changed = StoredCertificate({**held.entry, "token": "Z9Z9Z9"})
    offers = OUTCOME.wanted.issued[enrolment]

    assert certificate_differences(OUTCOME.certification, enrolment, offers, [changed, merit], COMPLETED_ON)


@pytest.mark.parametrize(
    ("part", "changed", "named"),
    [
        ("entry", {"token": "123456"}, "an access code"),
        ("document", {"id": "http://127.0.0.1/certs/1"}, "an id with tag and id"),
        ("document", {"recipient": {"identity": "learner-9", "name": "Meera Nair"}}, "the recipient"),
        ("document", {"recipient": {"identity": FIRST.user_id, "name": "Nobody"}}, "the recipient's name"),
        ("document", {"badge": {"name": "", "criteria": {"narrative": "Certificate of Merit"}}}, "the course"),
        ("document", {"badge": {"name": "First aid", "criteria": {"narrative": "x"}}}, "its name"),
        ("document", {"issuedOn": "2024-06-13T00:00:00Z"}, "the date of completion"),
        ("document", {"printUri": "data:image/svg+xml,%3Csvg%3E"}, "a picture with the learner's name"),
        ("document", {"printUri": "https://example.org"}, "a picture with the learner's name"),
        ("registered", {"accessCode": "A1A1A1"}, "the same access code in the registry"),
        ("registered", {"recipientId": "learner-9"}, "the same recipient in the registry"),
        ("registered", {"jsonUrl": "http://127.0.0.1/certs/1.json"}, "the same address in the registry"),
        ("registered", {"jsonData": {}}, "the same document in the registry"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_named(part: str, changed: dict[str, Any], named: str) -> None:
    completion, merit, staff = certificates()
    other = replace(merit, **{part: {**getattr(merit, part), **changed}})

    assert f"'Certificate of Merit': it does not have {named}" in wrong([completion, other, staff])


@pytest.mark.parametrize(("part", "where"), [("document", "the object store"), ("registered", "the registry")])
def test_a_certificate_that_is_not_kept_is_named(part: str, where: str) -> None:
    completion, merit, staff = certificates()

    found = wrong([completion, replace(merit, **{part: None}), staff])
    assert found == [f"'Certificate of Merit': {where} has none of the id {merit.identifier!r}"]
