"""A hundred learners with mixed criteria, through both certificate jobs: who ends with which certificates is what one
plain function says of each of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from tests.pipelines.certificate_site import ENROLMENTS, SERVICES, dumps
from tests.pipelines.test_collection_cert_pre_processor import GENERATE, event, template
from tests.pipelines.test_collection_cert_pre_processor import Site as CheckingSite
from tests.pipelines.test_collection_certificate_generator import Site as GeneratingSite

TEMPLATES = {
    "done": ("Completion", {"enrollment": {"status": 2}}),
    "any": ("Participation", {"enrollment": {}}),
    "merit": ("Merit", {"enrollment": {"status": "2"}, "assessment": {"score": {">=": 60}}}),
    "band": ("Band", {"assessment": {"score": {">": 20, "<=": "50"}}}),
    "home": ("Home", {"user": {"rootOrgId": "A"}, "users": {"grade": 5}}),
}


@dataclass(frozen=True)
class Learner:
    """All that decides about a learner's certificates."""

    identifier: str
    enrolled: bool
    active: bool
    status: int | None
    points: float | None  # of 10, in an assessment
    other_points: float | None  # of 10, in something that is none
    org: str
    grade: int
    known: bool
    blocked: bool
    has: frozenset[str]  # names of certificates already there
    asked_again: bool


def any_learner(chance: random.Random, number: int) -> Learner:
    return Learner(
        identifier=f"learner-{number}",
        enrolled=chance.random() < 0.95,
        active=chance.random() < 0.9,
        status=chance.choice([2, 2, 2, 2, 1, 0, None]),
        points=chance.choice([None, 0.0, 2.0, 2.1, 5.0, 5.1, 5.9, 6.0, 10.0]),
        other_points=chance.choice([None, 10.0, 4.0]),
        org=chance.choice("AAB"),
        grade=chance.choice([5, 5, 6]),
        known=chance.random() < 0.95,
        blocked=chance.random() < 0.05,
        has=frozenset(name for name, _ in TEMPLATES.values() if chance.random() < 0.15),
        asked_again=chance.random() < 0.3,
    )


def expected(learner: Learner) -> dict[str, bool]:
    """Name of each certificate that the learner has at the end -> whether it is a new one."""
    ends_with = dict.fromkeys(learner.has, False) if learner.enrolled else {}
    if not (learner.enrolled and learner.active and learner.known) or learner.blocked:
        return ends_with
    best = learner.points * 10 if learner.points is not None else 0.0
    earned = {
        "Completion": learner.status == 2,
        "Participation": True,
        "Merit": learner.status == 2 and best >= 60,
        "Band": 20 < best <= 50,
        "Home": learner.org == "A" and learner.grade == 5,
    }
    for name, is_earned in earned.items():
        if is_earned and (name not in learner.has or learner.asked_again):
            ends_with[name] = True
    return ends_with


@pytest.mark.parametrize("with_rc", [True, False])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_hundred_learners(seed: int, with_rc: bool):
    chance = random.Random(seed)
    learners = [any_learner(chance, number) for number in range(100)]
    site, second = CheckingSite(), GeneratingSite(with_rc)
    second.cassandra, second.tables = site.cassandra, site.tables
    picture = f"{SERVICES}/templates/blue.svg"
    site.offer(
        **{
            key: template(criteria, identifier=key, name=name, url=picture)
            for key, (name, criteria) in TEMPLATES.items()
        }
    )
    site.contents.set({"A": dumps({"contentType": "SelfAssess"}), "B": dumps({"contentType": "Resource"})})
    for learner in learners:
        prepare(site, second, learner)

    site.check(*(event(learner.identifier, reIssue=learner.asked_again) for learner in learners))
    requests = [value for _, value in site.written[GENERATE]]
    chance.shuffle(requests)
    second.issue(*requests)

    for learner in learners:
        issued = {entry["name"]: entry["identifier"] for entry in site.issued(learner.identifier)}
        wanted = expected(learner)
        assert {name: not identifier.startswith("old-") for name, identifier in issued.items()} == wanted, learner
        if learner.enrolled:
            row = next(row for row in site.tables.rows(ENROLMENTS) if row["userid"] == learner.identifier)
            assert row["status"] == learner.status, "nothing else of an enrolment is touched"
    kept = second.services.credentials if with_rc else second.services.registry
    in_enrolments = {entry["identifier"] for learner in learners for entry in site.issued(learner.identifier)}
    assert set(kept) == {identifier for identifier in in_enrolments if not identifier.startswith("old-")}
    assert second.reasons == []


def prepare(site: CheckingSite, second: GeneratingSite, learner: Learner) -> None:
    user: dict[str, Any] = {"firstName": "Learner", "lastName": "One", "rootOrgId": learner.org, "grade": learner.grade}
    for services in (site.services, second.services):
        if learner.blocked:
            services.users[learner.identifier] = "blocked"
        elif learner.known:
            services.users[learner.identifier] = user
    if learner.enrolled:
        issued = [{"name": name, "identifier": f"old-{name}"} for name in sorted(learner.has)]
        site.enrol(learner.identifier, active=learner.active, status=learner.status, issued_certificates=issued)
    scores = {}
    for content, points in (("A", learner.points), ("B", learner.other_points)):
        if points is not None:
            scores |= {f"score:{content}": points, f"max_score:{content}": 10.0}
    if scores:
        site.score(learner.identifier, aggregates=scores)
