"""Who gets which certificate of the demo, or why not, follows from its scenario, and the rules of the job agree."""

from __future__ import annotations

from random import Random

import pytest

from deploy.local.demo_certificates import (
    ASSESSMENT,
    GENERATOR,
    LEARNERS,
    MERGE,
    PRE_PROCESSOR,
    RECONCILIATION,
    Certification,
    certification,
    expected_certificates,
    why_not,
)
from deploy.local.scenario import EndState, Enrolment, expected, journeys
from transforms.assessment import assessment_of, last_answers, question_of
from transforms.assessment_totals import attempt_of, grand_total, in_table_order, totals
from transforms.certificate_criteria import (
    check_enrolment,
    check_score,
    check_user,
    score_percentages,
    valid_criteria,
)
from transforms.certificate_templates import svg_templates
from transforms.decode import parse_object
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
        (17, "", "no score", "other organisation"),
        (19, "account merged", "account merged", "account merged"),
        (20, "", "", "other organisation"),
    ],
)
def test_why_a_learner_has_or_has_no_certificate(number: int, completion: str, merit: str, staff: str) -> None:
    assert reasons(number) == {"completion": completion, "merit": merit, "staff": staff}


def test_what_follows_for_the_jobs() -> None:
    wanted = expected_certificates(SCENARIO, CERTIFICATION, expected(SCENARIO))

    # 14 learners completed the course; two of them are blocked or not active any more
    assert wanted.number == 20
    assert wanted.told == {"e-mails": 11, "SMS": 2, "feed entries": 20}
    assert wanted.dead_letters == {PRE_PROCESSOR: 1, GENERATOR: 1, ASSESSMENT: 2, RECONCILIATION: 1, MERGE: 1}
    # each attempt asks for the three certificates too early, nine of them twice
    attempts, again = 24, 9
    refused = 3 * (attempts + again)
    assert wanted.counters[PRE_PROCESSOR] == {
        "total-events-count": 14 + attempts + again + 3,
        "success-events-count": 20,
        "skipped-event-count": 42 - 20 + refused + 2,
        "failed-events-count": 1,
        "db-read-count": 42 + refused + 13,
        "db-update-count": 0,
    }
    assert wanted.counters[GENERATOR]["total-events-count"] == 20 + 1
    assert wanted.counters[ASSESSMENT]["batch-success-event-count"] == attempts
    assert wanted.counters[ASSESSMENT]["skipped-event-count"] == again
    assert wanted.counters[RECONCILIATION]["enrolment-complete-count"] == 2
    assert wanted.counters[MERGE]["db-update-user-course-batch"] == 1


def test_attempts_have_the_scores_that_they_are_meant_to_have() -> None:
    """By the rules of the job: the best of each assessment."""
    for enrolment, learner in CERTIFICATION.learners.items():
        made = [one for one in CERTIFICATION.attempts if one.enrolment == enrolment]
        read = [assessment_of(parse_object(one.event(1_718_000_000_000))) for one in made]
        attempts = [
            attempt_of(one.content_id, one.attempt_id, 1, 1, map(question_of, last_answers(one.answers)))
            for one in read
        ]
        if enrolment not in CERTIFICATION.merged.values():
            assert totals(in_table_order(attempts)) == CERTIFICATION.scores(learner)
        found = sorted((one.content_id, grand_total(one.score, one.max_score)) for one in attempts)
        assert found == CERTIFICATION.attempts_of(enrolment)


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
    wanted = expected_certificates(SCENARIO, CERTIFICATION, expected(SCENARIO)).issued
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
