"""Who gets which certificate of the demo, or why not, follows from its scenario, and the rules of the job agree."""

from __future__ import annotations

from random import Random

import pytest

from deploy.local.demo_certificates import (
    GENERATOR,
    LEARNERS,
    PRE_PROCESSOR,
    Certification,
    certification,
    expected_certificates,
    why_not,
)
from deploy.local.scenario import EndState, Enrolment, expected, journeys
from transforms.certificate_criteria import (
    check_enrolment,
    check_score,
    check_user,
    score_percentages,
    valid_criteria,
)
from transforms.certificate_templates import svg_templates
from transforms.generate_certificate import recipient_name

SCENARIO = journeys(Random(1), "run1", 1_718_000_000_000)
CERTIFICATION = certification(SCENARIO, "run1")
STATES = expected(SCENARIO).end_states
BY_NUMBER = dict(enumerate(SCENARIO.enrolments, start=1))


def reasons(number: int) -> dict[str, str]:
    """The short reasons of a learner by offer, "" for what is issued."""
    enrolment = BY_NUMBER[number]
    found = ((offer, why_not(CERTIFICATION, enrolment, STATES[enrolment], offer)) for offer in CERTIFICATION.offers)
    return {offer.short: reason.short if reason else "" for offer, reason in found}


@pytest.mark.parametrize(
    ("number", "completion", "merit", "staff"),
    [
        (1, "", "", ""),
        (2, "", "no score", "other organisation"),
        (3, "", "score 45 %", "other organisation"),
        (4, "not finished", "not finished", "not finished"),
        (5, "", "", "other organisation"),
        (6, "account blocked", "account blocked", "account blocked"),
        (7, "not finished", "not finished", "not finished"),
        (8, "has it already", "", "other organisation"),
        (9, "", "no score", ""),
        (10, "", "no score", "other organisation"),
        (13, "not begun", "not begun", "not begun"),
        (14, "enrolment inactive", "enrolment inactive", "enrolment inactive"),
        (16, "", "", "other organisation"),
        (19, "", "score 55 %", "other organisation"),
    ],
)
def test_why_a_learner_has_or_has_no_certificate(number: int, completion: str, merit: str, staff: str) -> None:
    assert reasons(number) == {"completion": completion, "merit": merit, "staff": staff}


def test_what_follows_for_the_jobs() -> None:
    wanted = expected_certificates(CERTIFICATION, expected(SCENARIO))

    # 13 learners completed the course; two of them are blocked or not active any more
    assert wanted.number == 18
    assert wanted.told == {"e-mails": 10, "SMS": 2, "feed entries": 18}
    assert wanted.dead_letters == {PRE_PROCESSOR: 1, GENERATOR: 1}
    assert wanted.counters[PRE_PROCESSOR] == {
        "total-events-count": 13 + 3,
        "success-events-count": 18,
        "skipped-event-count": 39 - 18 + 2,
        "failed-events-count": 1,
        "db-read-count": 39 + 12,
        "db-update-count": 0,
    }
    assert wanted.counters[GENERATOR]["total-events-count"] == 18 + 1


def user(enrolment: Enrolment) -> dict[str, object]:
    learner = CERTIFICATION.learners[enrolment]
    return {"firstName": learner.first_name, "lastName": learner.last_name, "rootOrgId": learner.organisation}


def of_the_rules(certified: Certification, enrolment: Enrolment, state: EndState) -> set[str]:
    """The names of the certificates that the job's own rules give a learner, from what the stores hold."""
    learner = certified.learners[enrolment]
    row = {"active": learner.active, "status": state.status, "issued_certificates": certified.held(enrolment)}
    scores = certified.scores(learner)
    counting = {content for content, found in certified.assessments.items() if found.content_type == "SelfAssess"}
    best = max((p for content, p in score_percentages(None, scores).items() if content in counting), default=0.0)
    names = set()
    for template in svg_templates(certified.templates()):
        criteria = valid_criteria(template.json_object("criteria"))
        against = check_enrolment(criteria, row, template.name, False)
        if criteria.get("assessment"):
            against = against or check_score(criteria, best)
        if not (against or learner.blocked or check_user(criteria, user(enrolment))):
            names.add(template.name)
    return names


def test_the_rules_of_the_job_give_the_same_certificates() -> None:
    wanted = expected_certificates(CERTIFICATION, expected(SCENARIO)).issued
    for enrolment, offers in wanted.items():
        if STATES[enrolment].certificate:
            assert of_the_rules(CERTIFICATION, enrolment, STATES[enrolment]) == {offer.name for offer in offers}
        else:
            assert not offers


def test_a_template_as_the_lms_keeps_it_is_all_text() -> None:
    for template in CERTIFICATION.templates().values():
        assert all(isinstance(value, str) for value in template.values())
        assert "data:image/svg+xml;base64," in template["signatoryList"]
        assert "http" not in template["signatoryList"]


def test_names_are_those_that_the_job_reads() -> None:
    for enrolment, learner in CERTIFICATION.learners.items():
        assert recipient_name(user(enrolment)) == learner.name


def test_there_are_names_of_all_kinds() -> None:
    names = [learner.name for learner in LEARNERS]

    assert any("<" in name and "&" in name and '"' in name for name in names)
    assert any(not name.isascii() for name in names)
    assert max(map(len, names)) > 30


def test_the_batch_can_be_a_tag() -> None:
    assert CERTIFICATION.batch_id.replace("_", "").isalnum()
