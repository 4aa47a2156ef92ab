"""The acceptance cases of cokreat-user-delete §9, its loop guard of §8.2 and its failures of §6, on DirectRunner."""

from __future__ import annotations

import logging
import random
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from io_connectors.cokreat_services import ContributionService
from io_connectors.http import NoAnswer, NotReached
from pipelines import cokreat_user_delete as job
from schemas.event_schemas import validator
from tests.pipelines.cokreat_site import SERVICES, CokreatSite
from transforms.delete_contributors import ContributorStores, DeleteContributors

USER = "9a3e6d1c-7b0f-4c55-8f0e-2f2b7f3c0aaa"
NAME = "learner-name-1"
PATH = "/program/v1/user/"


def event(user: Any = USER, actor: str = "Sunbird LMS Flink Job", **edata: Any) -> dict[str, Any]:
    return {
        "eid": "BE_JOB_REQUEST",
        "ets": 1718100000456,
        "mid": "LP.1718100000456.f3d7c0de-1111-4222-8333-944455566677",
        "actor": {"id": actor, "type": "System"},
        "context": {"pdata": {"id": "org.sunbird.platform", "ver": "1.0"}},
        "object": {"id": user, "type": "User"},
        "edata": {
            "action": "delete-user",
            "iteration": 1,
            "organisationId": "0126796199493140480",
            "userId": user,
            "userName": NAME,
            "suggested_users": [{"role": "CONTENT_CREATOR", "users": ["learner-7"]}],
            "managed_users": [],
            **edata,
        },
    }


class Site(CokreatSite):
    """With one contributor."""

    def __init__(self, **changed: Any) -> None:
        super().__init__(job, **changed)
        self.services.contributors[USER] = {"name": NAME}

    def stores(self) -> ContributorStores:
        return ContributorStores(ContributionService(self.settings.base_url, self.http), self.calls_at_once)

    def delete(self, *values: Any, **options: Any) -> Site:
        self.run(self.stores(), *values, **options)
        return self


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_deletion(site: Site):
    """§9 case 1"""
    validator("delete-user").validate(event())
    assert site.delete(event()).counted(success=1)
    [call] = site.calls
    assert (call.method, call.path, call.body) == ("DELETE", f"{PATH}{USER}", b"")
    assert call.headers["Content-Type"] == "application/json"
    assert site.services.contributors == {}
    assert site.letters == []


def test_the_path_of_the_ingress_stays():
    site = Site(**{"program-service-baseUrl": f"{SERVICES}/program/"})
    site.delete(event())
    assert site.called == [("DELETE", f"/program{PATH}{USER}")]


def test_what_is_not_for_the_job(site: Site):
    """§9 case 2"""
    without = {name: value for name, value in event().items() if name != "edata"}
    site.delete(event(action="user-ownership-transfer"), event(user=" "), without, b'{"eid":')
    assert site.counted(skipped=3, failed=1)
    assert site.called == []
    assert [letter["rawEvent"] for letter in site.letters] == ['{"eid":']
    assert site.letters[0]["jobName"] == job.NAME


@pytest.mark.parametrize(
    "value",
    [
        event(user=5),
        event(user=None),
        event(user=[USER]),
        event(action="Delete-User"),
        event(action=None),
        {"edata": "delete-user"},
        {"edata": {"action": "delete-user"}},
        {},
    ],
)
def test_invalid_events(site: Site, value: Any):
    """spec §2"""
    assert not validator("delete-user").is_valid(value)
    assert site.delete(value).counted(skipped=1)
    assert site.called == []


@pytest.mark.parametrize("value", [None, b"", b" ", b"[1,2]", b"null", b"\xff", b'"delete-user"'])
def test_records_that_are_no_object(site: Site, value: bytes | None):
    """spec: core §2.1, §15 case 2"""
    assert site.delete(value, event()).counted(failed=1, success=1)
    assert len(site.letters) == 1


def test_a_person_who_never_used_the_portal(site: Site):
    """§9 case 3: the usual case"""
    assert site.delete(event(user="learner-2")).counted(skipped=1)
    assert len(site.calls) == 1
    assert site.letters == []


@pytest.mark.parametrize("body", ["error", "html", "empty", "wrong"])
def test_a_404_that_does_not_say_so(site: Site, body: str):
    """§9 case 4"""
    site.fault(status=404, body=body)
    assert site.delete(event()).counted(failed=1)
    assert len(site.calls) == 1
    [letter] = site.letters
    assert letter == {
        **event(),
        "jobName": job.NAME,
        "failInfo": {"error": "the contribution service answers 404"},
    }


@pytest.mark.parametrize("status", [500, 503, 599])
def test_what_passes(site: Site, status: int):
    """§9 case 5"""
    site.fault(status=status, times=2)
    assert site.delete(event()).counted(success=1)
    assert len(site.calls) == 3


def test_no_connection_and_time_out_pass(site: Site):
    site.web.refuse(2)
    site.web.hang(1)
    # the deletion was made, but nobody heard of it: the repetition finds nobody
    assert site.delete(event()).counted(skipped=1)
    assert len(site.calls) == 4


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_who_may_not_be_deleted(attempts: int):
    """§9 case 6, §8.1: the next event is handled"""
    site = Site(**{"user_delete.max_attempts": attempts})
    site.services.contributors["admin-1"] = "admin"
    site.delete(event(user="admin-1"), event())
    assert site.counted(failed=1, success=1)
    assert site.called.count(("DELETE", f"{PATH}admin-1")) == attempts
    assert site.reasons == ["the contribution service answers 500"]
    assert site.letters[0]["edata"]["userId"] == "admin-1"


def test_nobody_answers_and_there_is_a_failed_topic(site: Site):
    site.web.refuse(4)
    assert site.delete(event()).counted(failed=1)
    assert "does not answer" in site.reasons[0]


def test_an_echo_is_not_answered(site: Site):
    """§9 case 7"""
    assert site.delete(event(actor="coKreat Flink Job")).counted(skipped=1)
    assert site.called == []


def test_what_the_job_causes_does_nothing_when_it_comes_back():
    """spec §8.2: the service's announcements and the job's own dead letters, on the topic that the job reads"""
    site = Site()
    site.services.contributors["admin-1"] = "admin"
    site.delete(event(), event(user="admin-1"), b"nonsense")
    letters = [orjson.dumps(letter) for letter in site.letters]
    assert len(letters) == 2
    site.web.clear()
    site.delete(event(actor="coKreat Flink Job"), *letters)
    assert site.counted(skipped=3)
    assert site.called == []
    assert site.letters == []


def test_a_letter_that_was_put_back_is_handled(site: Site):
    """`replay` takes jobName and failInfo off."""
    site.fault(status=400, times=1)
    [letter] = site.delete(event()).letters
    original = {name: value for name, value in letter.items() if name not in ("jobName", "failInfo")}
    assert site.delete(original).counted(success=1)


def test_a_letter_of_another_job_is_an_event(site: Site):
    assert site.delete({**event(), "jobName": "another", "failInfo": {"error": "x"}}).counted(success=1)


def test_dead_letters_do_not_go_to_the_topic_that_is_read():
    with pytest.raises(ValidationError, match=r"kafka\.failed\.topic"):
        Site(**{"kafka.failed.topic": "dev.delete.user"})


@pytest.mark.parametrize("user", ["a/b", "a?b=c#d", "ü %2F", "../x", "a+b"])
def test_an_id_is_one_part_of_the_path(site: Site, user: str):
    """§9 case 8"""
    site.services.contributors[user] = {}
    assert site.delete(event(user=user)).counted(success=1)
    [(_, path)] = site.called
    assert path.count("/") == 4
    assert user != "a/b" or path.endswith("/user/a%2Fb")


def test_an_id_that_can_not_be_sent_is_a_failed_event(site: Site):
    assert site.delete(event(user="..")).counted(failed=1)
    assert site.called == []


@pytest.mark.parametrize("body", ["error", "html", "empty", "wrong"])
def test_a_200_that_is_not_ok(site: Site, body: str):
    """§9 case 9, §8.4"""
    site.fault(status=200, body=body)
    assert site.delete(event()).counted(failed=1)
    assert len(site.calls) == 1
    assert site.reasons == ["the contribution service answers 200 without responseCode OK"]


@pytest.mark.parametrize("status", [201, 302, 400, 408, 429])
def test_other_answers(site: Site, status: int):
    """spec §3: no retry"""
    site.fault(status=status)
    assert site.delete(event()).counted(failed=1)
    assert len(site.calls) == 1
    assert site.reasons == [f"the contribution service answers {status}"]


# --- without a failed topic, as upstream


@pytest.fixture
def bare() -> Site:
    return Site(**{"kafka.failed.topic": None})


@pytest.mark.parametrize("fault", [{"status": 503}, {"no_answer": "broken"}])
def test_without_a_failed_topic_what_may_pass_ends_the_run(bare: Site, fault: dict[str, Any]):
    """spec §6"""
    bare.fault(**fault)
    with pytest.raises(Exception, match=r"contribution service|does not answer"):
        bare.delete(event())
    assert bare.counted(total=1)
    bare.stubs.faults = []
    assert bare.delete(event()).counted(success=1), "the event is still to be had"


def test_without_a_failed_topic_the_rest_is_counted(bare: Site, caplog: pytest.LogCaptureFixture):
    """spec §6"""
    bare.fault(status=400, times=1)
    assert bare.delete(event(), b"nonsense").counted(failed=2)
    assert "answers 400" in caplog.text


# --- what is logged


@pytest.mark.parametrize("answered", [500, 400, 200])
def test_the_log_says_what_the_service_says_and_names_nobody(
    site: Site, caplog: pytest.LogCaptureFixture, answered: int
):
    """spec §6"""
    caplog.set_level(logging.INFO)
    body = {
        "params": {"status": "failed", "errmsg": f"{NAME} is an admin", "userName": NAME},
        "result": {"response": "no way", "user": {"email": "someone@example.org"}, "email": "someone@example.org"},
    }
    site.http.serve(lambda *_: (answered, orjson.dumps(body)))
    assert site.delete(event()).counted(failed=1)
    assert f"answers {answered}" in caplog.text
    assert "no way" in caplog.text
    assert "… is an admin" in caplog.text
    assert NAME not in caplog.text
    assert "someone" not in caplog.text


# --- repetition


@pytest.mark.parametrize("kind", [NotReached, NoAnswer])
@pytest.mark.parametrize("died", ["before", "after"])
def test_killed_at_the_call_and_delivered_again(bare: Site, kind: type[Exception], died: str):
    """Whenever the worker dies, the same event leads to the same end."""
    serve = bare.stubs.in_memory

    def dies(*call: Any) -> tuple[int, str]:
        if died == "after":
            serve(*call)
        raise kind("killed")

    bare.http.serve(dies)
    step = DeleteContributors(job.NAME, bare.stores(), size=1, gives_up=False)
    step.setup()
    with pytest.raises(kind):
        step.handle([orjson.dumps(event())])
    bare.http.serve(serve)
    bare.delete(event())
    assert bare.counted(**{"success" if died == "before" else "skipped": 1})
    assert bare.services.contributors == {}


def test_any_order_and_any_batches_like_one_by_one():
    """The end is that of handling the events alone, whatever their order and the size of the batches."""
    chance = random.Random(7)
    users = [f"learner-{number}" for number in range(12)]
    events: list[Any] = [event(user=chance.choice(users)) for _ in range(60)]
    events += [event(user=users[0], actor="coKreat Flink Job"), event(action="x"), b"{", event(user="admin-1")] * 3
    for size in (1, 3, 16, 500):
        chance.shuffle(events)
        site = Site()
        site.services.contributors.update({user: {} for user in users[:6]}, **{"admin-1": "admin"})
        site.delete(*events, batch_size=size)
        asked = {value["edata"]["userId"] for value in events if isinstance(value, dict)} & set(users)
        deleted = len(asked & set(users[:6]))
        assert site.counted(success=deleted, skipped=60 - deleted + 6, failed=6)
        assert site.services.contributors.keys() == {USER, "admin-1", *(set(users[:6]) - asked)}
        assert len(site.letters) == 6


def test_events_are_waited_for_side_by_side(site: Site):
    site.stubs.delay_ms = 20
    site.delete(*(event(user=f"learner-{number}") for number in range(40)), batch_size=40)
    assert 1 < site.web.most_in_flight <= 8


# --- settings


def test_settings():
    """spec §5"""
    settings = job.Settings(**{"job.env": "dev", "program-service-baseUrl": "http://ingress/program"})
    assert settings.kafka_input_topic == "dev.delete.user"
    assert settings.kafka_group_id == "dev_cokreat_user_delete_group"
    assert (settings.max_attempts, settings.retry_delay_ms, settings.failed_topic) == (4, 30_000, None)
    recipe = job.stores(settings).contributors
    assert recipe.http.retry_pauses == (30.0, 30.0, 30.0)
    assert recipe.base_path == "http://ingress/program"


@pytest.mark.parametrize(
    "wrong",
    [
        {"program-service-baseUrl": "ingress/program"},
        {"user_delete.max_attempts": 0},
        {"user_delete.retry_delay_ms": -1},
    ],
)
def test_settings_that_can_not_work(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        Site(**wrong)
