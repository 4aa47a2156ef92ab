"""The acceptance cases of user-cache-updater §9, and what it does with bad data, absent services and absent stores."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.stub_behaviour import StubServices
from io_connectors.memory import Crashed, MemoryKeyValues, MemoryRedis
from io_connectors.memory_http import MemoryHttp
from io_connectors.read_apis import FrameworkReadApi, UserReadApi
from io_connectors.redis import Redis
from io_connectors.threads import Threads
from pipelines import user_cache_updater as job
from pipelines.in_memory import InMemory
from schemas.counters import COUNTERS
from schemas.event_schemas import validator
from transforms.counters import counted_in_this_process, forget_counts
from transforms.decode import Record
from transforms.stores import HashChange, KeyValues, Opens
from transforms.update_user_cache import SelectUserChanges, UpdateUserCache, UserCacheStores
from transforms.user_cache import SignIn

UNUSED_DATABASE = 7
USER = "7c2f3f4e-aaaa-4b5b-8c8c-000000000001"
FRAMEWORK = "tara_k-12"
READ = "/private/user/v1/read/"
READ_FRAMEWORK = "/api/framework/v1/read/"
SERVICE = "learner-service"

# §2, §3.3
EVENT: dict[str, Any] = {
    "eid": "AUDIT",
    "ets": 1717400500000,
    "ver": "3.0",
    "mid": "1717400500000.b1a0c6de-2f3b-4a60-93e5-5c0d00000001",
    "actor": {"id": "internal", "type": "Consumer"},
    "context": {
        "channel": "0140111111111111110",
        "pdata": {"id": "dev.sunbird.learning.service", "pid": SERVICE, "ver": "5.0.0"},
        "env": "User",
        "cdata": [
            {"type": "User", "id": USER},
            {"type": "SignupType", "id": "google"},
            {"type": "Request", "id": "3f0d1f52-0000-4000-8000-000000000001"},
        ],
        "rollup": {"l1": "0140111111111111110"},
    },
    "object": {"id": USER, "type": "User"},
    "edata": {"state": "Updated", "props": ["firstName", "profileLocation"]},
    "syncts": 1717400500100,
    "@timestamp": "2024-06-03T07:41:40.100Z",
    "type": "events",
}
PROFILE: dict[str, Any] = {
    "firstName": "Learner",
    "lastName": "One",
    "status": 1,
    "encEmail": "ZW1haWw=",
    "encPhone": "",
    "language": ["English"],
    "rootOrgId": "0140111111111111110",
    "rootOrg": {"orgName": "State of Tara"},
    "framework": {
        "id": [FRAMEWORK],
        "board": ["State (Tara)"],
        "medium": ["English"],
        "gradeLevel": ["Class 5", "Class 6"],
        "subject": [],
    },
    "profileUserTypes": [{"type": "teacher", "subType": None}, {"type": "administrator", "subType": "hm"}],
    "userLocations": [
        {"type": "state", "name": "Tara", "code": "35", "id": "1"},
        {"type": "district", "name": "Mira", "code": "3501", "id": "2"},
        {"type": "school", "name": "Govt. School [No. 4]", "code": "350100401", "id": "3"},
    ],
}
HASH = {
    "userid": USER,
    "firstname": "Learner",
    "lastname": "One",
    "email": "ZW1haWw=",
    "phone": "",
    "status": "1.0",
    "rootorgid": "0140111111111111110",
    "orgname": "State of Tara",
    "language": '["English"]',
    "state": "Tara",
    "district": "Mira",
    "schoolname": r"Govt. School \[No. 4\]",
    "schooludisecode": "350100401",
    "usertype": "teacher,administrator",
    "usersubtype": "hm",
    "profileusertypes": r'\[{"type":"teacher"},{"subType":"hm","type":"administrator"}\]',
    "framework_id": FRAMEWORK,
    "framework_board": '["State (Tara)"]',
    "framework_medium": '["English"]',
    "framework_gradeLevel": '["Class 5","Class 6"]',
    "usersignintype": "Self-Signed-In",
}

numbers = itertools.count()


def event(
    user: Any = USER, *, pid: Any = SERVICE, state: Any = "Updated", cdata: Any = (), kind: Any = "User"
) -> bytes:
    context = {"pdata": {"pid": pid}, "cdata": list(cdata) if isinstance(cdata, tuple) else cdata}
    return orjson.dumps(
        {
            "eid": "AUDIT",
            "mid": "m-1",
            "context": context,
            "object": {"id": user, "type": kind},
            "edata": {"state": state},
        }
    )


def signup(kind: str) -> dict[str, str]:
    return {"type": "SignupType", "id": kind}


class Site:
    """Redis, and the services behind HTTP in memory, with the job upon them."""

    def __init__(self, redis: Opens[KeyValues] | None = None) -> None:
        self.name = f"user-cache-{next(numbers)}"
        self.redis = redis or MemoryRedis(self.name, 12)
        self.cache = self.redis.open()
        self.stubs = StubServices()
        self.http = MemoryHttp(self.name)
        self.web = self.http.serve(self.stubs.in_memory)
        self.users, self.frameworks = self.stubs.services.users, self.stubs.services.frameworks
        self.users[USER] = deepcopy(PROFILE)
        codes = ("board", "medium", "gradeLevel", "subject")
        self.frameworks[FRAMEWORK] = {"categories": [{"code": code} for code in codes]}
        self.counts: dict[str, int] = {}

    @property
    def stores(self) -> UserCacheStores:
        no_pauses = {"http": self.http, "retry_pauses": (0.0, 0.0)}
        return UserCacheStores(
            profiles=self.redis,
            users=UserReadApi("http://users/", **no_pauses),
            frameworks=FrameworkReadApi("http://taxonomy", **no_pauses),
            calls=Threads(self.name, 8),
        )

    def run(self, *values: bytes | None, batch_size: int = 500, **more: Any) -> Site:
        given = {"service.userorg.basePath": "http://users", "service.taxonomy.basePath": "http://taxonomy", **more}
        self.web.clear()
        ran = InMemory(job, job.Settings(**given), self.stores)
        try:
            ran.run(*values, batch_size=batch_size)
        finally:
            self.counts = ran.counted
        assert ran.written == {}
        assert self.counts.keys() <= set(COUNTERS[job.NAME])
        return self

    def hash(self, user: str = USER) -> dict[str, str]:
        """All fields; what is written shows by its text."""
        if isinstance(self.cache, MemoryKeyValues):
            return dict(self.cache._values.get(f"user:{user}", {}))  # type: ignore[arg-type]
        return dict(self.cache._client.hgetall(f"user:{user}"))  # type: ignore[attr-defined]

    def put(self, **fields: str) -> None:
        self.cache.set_hash(f"user:{USER}", fields)

    def expected(self, total: int, success: int = 0, skipped: int = 0, reads: int = 0, misses: int = 0) -> bool:
        assert total == success + skipped, "every record ends in one of these"
        counts = dict.fromkeys(COUNTERS[job.NAME], 0) | self.counts
        assert list(counts.values()) == [total, skipped, success, success, reads, misses]
        return True


@pytest.fixture(params=["twin", pytest.param("server", marks=pytest.mark.stack)])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Every test on the twin and on the real Redis, there in a database that no job uses."""
    if request.param == "twin":
        yield Site()
        return
    at = request.getfixturevalue("stack_of")("redis").environment()
    site = Site(Redis(at["redis.host"], at["redis.port"], UNUSED_DATABASE))
    site.cache.delete(site.cache.scan(""))
    yield site
    site.cache.delete(site.cache.scan(""))


def test_case_01_a_registered_update(site: Site) -> None:
    """§9 case 1"""
    validator("user-audit").validate(EVENT)
    site.run(orjson.dumps(EVENT))
    assert site.hash() == HASH
    assert site.expected(1, success=1, reads=1)
    assert [call.path for call in site.web.calls] == [
        f"{READ}{USER}?fields=locations,organisations",
        f"{READ_FRAMEWORK}{FRAMEWORK}",
    ]
    if isinstance(site.cache, MemoryKeyValues):
        assert site.cache.time_to_live(f"user:{USER}") is None
    else:
        assert site.cache._client.ttl(f"user:{USER}") == -1  # type: ignore[attr-defined]


def test_case_02_what_the_profile_has_no_more_goes_and_the_rest_stays(site: Site) -> None:
    """§9 case 2, §8.6"""
    site.put(block="B", framework_agriculturecategory="[]", userlogintype="parent", custom="[x", usersignintype="old")
    site.put(schoolname="", village="V")
    del site.users[USER]["userLocations"][2]
    site.run(event())
    school = ("schoolname", "schooludisecode")
    expected = {name: value for name, value in HASH.items() if name not in school}
    stays = {"userlogintype": "parent", "custom": "[x", "usersignintype": "old", "village": "V"}
    assert site.hash() == {**expected, **stays}


def test_case_03_an_event_of_the_app(site: Site) -> None:
    """§9 case 3"""
    site.run(orjson.dumps(EVENT))
    site.run(event(pid="sunbird.app", cdata=({"id": "parent", "type": "UserRole"},)))
    assert site.hash() == {**HASH, "userlogintype": "parent"}
    assert site.web.calls == []
    assert site.expected(1, success=1)


def test_case_04_a_framework_without_id(site: Site) -> None:
    """§9 case 4"""
    site.users[USER]["framework"] = {"board": ["X"], "medium": ["Y"]}
    site.run(event())
    assert [name for name in site.hash() if "framework" in name] == []
    assert site.web.count(READ_FRAMEWORK) == 0


def test_case_05_an_answer_with_gaps(site: Site) -> None:
    """§9 case 5"""
    for member in ("language", "lastName", "rootOrg"):
        del site.users[USER][member]
    site.run(event())
    assert {site.hash()[name] for name in ("language", "lastname", "orgname")} == {""}
    assert site.expected(1, success=1, reads=1)


def test_case_06_a_blocked_user(site: Site) -> None:
    """§9 case 6, §8.7"""
    site.users[USER] = "blocked"
    site.put(state="Tara", framework_id="f")
    site.run(event(state="Deleted"))
    assert site.hash() == {"state": "Tara", "framework_id": "f"}
    assert site.expected(1, skipped=1, misses=1)
    site.run(event(cdata=(signup("sso"),)))
    assert site.hash() == {"usersignintype": "Validated"}
    assert site.expected(1, success=1, misses=1)
    site.put(state="Tara", framework_id="f", firstname="Learner")
    site.run(event(cdata=(signup("self"),)))
    assert site.hash() == {"usersignintype": "Self-Signed-In", "firstname": "Learner"}


def test_case_07_a_user_that_is_not_known(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """§9 case 7, §8.1"""
    site.put(firstname="before")
    with caplog.at_level(logging.INFO):
        site.run(event("learner-2", cdata=(signup("sso"),)), event())
    assert site.hash("learner-2") == {}
    assert site.hash()["firstname"] == "Learner"
    assert site.expected(2, success=1, skipped=1, reads=1, misses=1)
    [error] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "m-1" in error
    assert "learner-2" in error


def test_case_08_what_is_not_for_the_job(site: Site) -> None:
    """§9 case 8, §8.9, core §15 case 2"""
    others = [event(kind="content"), event(state="Blocked"), b'{"object":{"id":"learner-1","type":"User"}}', b'{"eid":']
    site.run(*others)
    assert site.expected(4, skipped=4)
    assert site.web.calls == []
    site.run(*others, b"", None, b"[1,2]", event(""), event(None), event(state=None), event(cdata="x"))
    assert site.expected(11, skipped=10, success=1, reads=1)
    for other in others[:3]:
        assert not validator("user-audit").is_valid(orjson.loads(other))


def test_case_09_a_framework_is_read_once(site: Site) -> None:
    """§9 case 9"""
    users = [f"learner-{number}" for number in range(4)]
    site.users.update({user: deepcopy(PROFILE) for user in users})
    site.run(*map(event, users), batch_size=2)
    assert site.web.count(READ_FRAMEWORK) == 1
    site.run(*map(event, users))
    assert site.web.count(READ_FRAMEWORK) == 0
    assert {site.hash(user)["framework_medium"] for user in users} == {'["English"]'}


def test_case_10_cdata_with_gaps(site: Site) -> None:
    """§9 case 10"""
    site.run(event(pid="app", cdata=({"id": "x"}, {"type": "signuptype", "id": "self"})))
    assert site.hash() == {"usersignintype": "Self-Signed-In"}


def test_a_framework_that_is_not_known_is_asked_for_again(site: Site) -> None:
    """§3.3: only its id is written"""
    framework = site.frameworks.pop(FRAMEWORK)
    site.run(event())
    assert [name for name in site.hash() if "framework" in name] == ["framework_id"]
    site.frameworks[FRAMEWORK] = {**framework, "categories": None}
    site.run(event())
    assert [name for name in site.hash() if "framework" in name] == ["framework_id"]
    site.frameworks[FRAMEWORK] = framework
    site.run(event())
    assert site.hash()["framework_board"] == '["State (Tara)"]'


def test_the_keys_of_the_configuration(site: Site) -> None:
    """§5"""
    site.put(state="S", village="V")
    site.users[USER]["userLocations"] = []
    more: dict[str, Any] = {
        "user.redis.removeable-fields": ["village"],
        "regd.user.producer.pid": "userorg-service",
        "user.self.signin.types": ["otp"],
        "user.self.signin.key": "self!",
    }
    site.run(event(pid="userorg-service", cdata=(signup("otp"),)), **more)
    assert site.hash()["usersignintype"] == "self!"
    assert site.hash()["state"] == "S"
    assert "village" not in site.hash()
    given = {"service.userorg.basePath": "http://u/", "service.taxonomy.basePath": "http://t"}
    alias = job.Settings(**given, **{"user-read.api.url": "/userorg/private/user/v1/read"})
    assert alias.user_read_path == "/userorg/private/user/v1/read"
    both = {"user_read_api": "/api/user/v1/read/", "user-read.api.url": "/x"}
    assert job.Settings(**given, **both).user_read_path == "/api/user/v1/read/"
    assert job.stores(job.Settings(**given)).profiles.database == 12  # type: ignore[attr-defined]


def test_events_of_one_user_share_a_read_and_are_in_order(site: Site) -> None:
    """§3.5"""
    app = [event(pid="app", cdata=({"type": "UserRole", "id": role},)) for role in ("student", "teacher", "parent")]
    site.put(block="B")
    site.run(app[0], event(cdata=(signup("google"),)), app[1], event(), app[2], event(cdata=(signup("sso"),)))
    assert site.hash() == {**HASH, "userlogintype": "parent", "usersignintype": "Validated"}
    assert site.web.count(READ) == 1
    assert site.expected(6, success=6, reads=3)


def test_a_batch_is_few_round_trips_and_a_bounded_number_of_calls() -> None:
    site = Site()
    users = [f"learner-{number}" for number in range(100)]
    site.users.update({user: deepcopy(PROFILE) for user in users})
    site.stubs.delay_ms = 5
    site.run(*map(event, users))
    assert [operation.name for operation in site.cache.operations] == ["hash_fields"] + ["change_hashes"] * 100  # type: ignore[attr-defined]
    assert len(site.cache.operations[0].subject) == 100  # type: ignore[attr-defined]
    assert 2 <= site.web.most_in_flight <= 8
    assert site.web.count(READ) == 100
    assert site.expected(100, success=100, reads=100)


# --- what goes wrong


TROUBLE = [
    *({"status": status} for status in (401, 403, 408, 429, 500, 501, 502, 503, 504)),
    *({"status": 200, "body": body} for body in ("html", "empty", "error", "wrong")),
    {"status": 404, "body": "html"},
    {"no_answer": "broken"},
]


@pytest.mark.parametrize("fault", TROUBLE, ids=str)
@pytest.mark.parametrize("path", [READ, READ_FRAMEWORK])
def test_a_service_in_trouble_fails_the_run_and_nothing_is_written(path: str, fault: dict[str, Any]) -> None:
    """§6"""
    site = Site()
    site.stubs.faults = [{"path": path, **fault}]
    app = event("learner-3", pid="app", cdata=(signup("sso"),))
    with pytest.raises(Exception, match="answer"):
        site.run(app, event())
    assert site.web.count(path) % 3 == 0, "three tries, however often the runner tries again"
    assert site.hash("learner-3") == site.hash() == {}
    assert site.counts.get("success-message-count", 0) == 0
    assert ("api-read-miss-count" in site.counts) == (path == READ)
    site.stubs.faults = [{"path": path, "times": 2, **fault}]
    site.run(app, event())
    assert site.hash()["firstname"] == "Learner"
    assert site.hash("learner-3") == {"usersignintype": "Validated"}
    assert site.web.count(path) == 3


@pytest.mark.parametrize("status", [400, 404, 405, 409, 422])
def test_a_refusal_is_final(site: Site, status: int) -> None:
    """§6: another 4xx with a JSON body"""
    site.web = site.http.serve(lambda *_: (status, '{"responseCode":"CLIENT_ERROR","params":{"err":"X"}}'))
    site.run(event(cdata=(signup("sso"),)))
    assert site.expected(1, skipped=1, misses=1)
    assert len(site.web.calls) == 1
    assert site.hash() == {}


def test_an_answer_counts_by_what_it_says(site: Site) -> None:
    """§3.3: not by its status"""
    good = orjson.dumps({"responseCode": "ok", "result": {"response": {"firstName": "Learner"}}})
    site.web = site.http.serve(lambda *_: (500, good))
    site.run(event())
    assert site.hash()["firstname"] == "Learner"
    blocked = orjson.dumps({"responseCode": "client_error", "params": {"err": "uos_usrred0006"}, "result": None})
    site.web = site.http.serve(lambda *_: (403, blocked))
    site.run(event())
    assert site.expected(1, skipped=1, misses=1)
    site.web = site.http.serve(lambda *_: (200, blocked.replace(b"client_error", b"RESOURCE_NOT_FOUND")))
    site.run(event(cdata=(signup("sso"),)))
    assert site.expected(1, skipped=1, misses=1)
    assert "usersignintype" not in site.hash()


@pytest.mark.parametrize("result", [None, {}, [], {"response": None}, {"response": []}, {"response": {}}])
def test_an_answer_without_a_user_is_final(site: Site, result: Any) -> None:
    site.web = site.http.serve(lambda *_: (200, orjson.dumps({"responseCode": "OK", "result": result})))
    site.run(event())
    assert site.expected(1, skipped=1, misses=1)


@pytest.mark.parametrize("user", ["o'hara", "a/b", "a?b#c", "🦜", "a\x00b", "a b", "[x]", "*", "{}", "."])
def test_odd_ids_are_ids(site: Site, user: str) -> None:
    site.users[user] = {"firstName": "Odd"}
    site.run(event(user))
    assert site.hash(user).get("firstname") == (None if user == "." else "Odd")
    assert site.hash(user).get("userid") == (None if user == "." else user.replace("[", "\\[").replace("]", "\\]"))


def test_a_key_of_another_type_stops_nothing(site: Site) -> None:
    site.cache.set({f"user:{USER}": "x", "user:learner-3": "x"})
    site.users["learner-2"] = deepcopy(PROFILE)
    site.run(event(), event(), event("learner-3", pid="app", cdata=(signup("sso"),)), event("learner-2"))
    assert site.expected(4, success=1, skipped=3, reads=3)
    assert site.hash("learner-2")["firstname"] == "Learner"
    assert site.cache.get([f"user:{USER}"]) == ["x"]


def test_an_answer_that_nothing_can_be_made_of_stops_nothing(site: Site) -> None:
    """Lists inside of lists, deeper than a program goes"""
    site.users["learner-2"] = deepcopy(PROFILE)
    deep = "[" * 900 + "]" * 900
    answered = site.stubs.in_memory

    def answer(method: str, path: str, headers: Any, body: bytes) -> tuple[int, str]:
        if USER in path:
            return 200, f'{{"responseCode":"OK","result":{{"response":{{"language":{deep}}}}}}}'
        return answered(method, path, headers, body)

    site.web = site.http.serve(answer)
    site.run(event(), event("learner-2"))
    assert site.hash("learner-2")["firstname"] == "Learner"
    assert site.counts["success-message-count"] + site.counts.get("skipped-message-count", 0) == 2


def test_redis_that_stays_away_fails_the_run() -> None:
    """§6"""
    site = Site()
    site.cache.unavailable = True  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="stays away"):
        site.run(event())
    site.cache.unavailable = False  # type: ignore[attr-defined]
    site.run(event())
    assert site.hash()["firstname"] == "Learner"


def test_no_personal_data_in_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        site.run(event(), b"[", event("learner-2"), event(state="x"))
        site.stubs.faults = [{"path": READ, "status": 500}]
        with pytest.raises(Exception, match="user service"):
            site.run(event())
    told = "".join(f"{record.getMessage()}{record.exc_text or ''}" for record in caplog.records)
    assert not [secret for secret in ("ZW1haWw=", "Learner", "Tara") if secret in told]


# --- any cut of batches, repetition, death


def steps(site: Site, size: int = 500) -> tuple[SelectUserChanges, UpdateUserCache]:
    sign_in = SignIn(("google", "self"), "Self-Signed-In", ("sso",), "Validated")
    removable = job.Settings.model_fields["removable"].default
    update = UpdateUserCache(job.NAME, site.stores, size=size, removable=removable)
    update.setup()
    return SelectUserChanges(job.NAME, 10, producer=SERVICE, sign_in=sign_in), update


def payloads(select: SelectUserChanges, events: list[bytes]) -> list[bytes]:
    records = (Record(value, "topic", 0, offset, 1) for offset, value in enumerate(events))
    return [payload for record in records for _, payload in select.process(record)]


USERS = ["learner-1", "learner-2", "learner-3", "blocked", "unknown"]
NAMES = ["state", "block", "schoolname", "framework_old", "framework_board", "custom", "userlogintype"]
a_user = st.fixed_dictionaries(
    {"firstName": st.sampled_from(["A", "[B]"])},
    optional={
        "userLocations": st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["state", "block", "school", "village"]), "name": st.just("x")}
            ),
            max_size=3,
        ),
        "framework": st.fixed_dictionaries(
            {"id": st.sampled_from([[FRAMEWORK], ["other"], []]), "board": st.sampled_from([["X"], []])}
        ),
        "profileUserTypes": st.lists(st.just({"type": "teacher"}), max_size=2),
    },
)
an_event = st.builds(
    event,
    st.sampled_from(USERS),
    pid=st.sampled_from([SERVICE, SERVICE, "app"]),
    state=st.sampled_from(["Updated", "Deleted", "Blocked"]),
    cdata=st.lists(
        st.sampled_from([signup("google"), signup("sso"), signup("x"), {"type": "UserRole", "id": "parent"}]),
        max_size=2,
    ),
)


@settings(max_examples=100, deadline=None)
@given(
    st.fixed_dictionaries({user: a_user for user in USERS[:3]}),
    st.dictionaries(st.sampled_from(USERS), st.dictionaries(st.sampled_from(NAMES), st.just("old"), min_size=1)),
    st.lists(an_event, max_size=15),
    st.lists(st.integers(1, 5), min_size=1),
)
def test_any_cut_of_batches_is_like_one_by_one(users, before, events, sizes) -> None:
    hashes = []
    counted = []
    for cuts in (itertools.repeat(1), itertools.cycle(sizes)):
        site = Site()
        site.users.update({**users, "blocked": "blocked"})
        for user, fields in before.items():
            site.cache.set_hash(f"user:{user}", fields)
        forget_counts(job.NAME)
        select, update = steps(site)
        changes = payloads(select, events)
        while changes:
            size = next(cuts)
            assert update.handle(changes[:size]) == []
            del changes[:size]
        hashes.append({user: site.hash(user) for user in USERS})
        counted.append(counted_in_this_process(job.NAME))
    assert hashes[0] == hashes[1]
    assert counted[0] == counted[1]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_worker_that_dies_at_any_step_and_the_events_again(at: int) -> None:
    site = Site()
    site.users["learner-2"] = deepcopy(PROFILE)
    site.put(framework_old="x")
    select, update = steps(site)
    changes = payloads(
        select, [orjson.dumps(EVENT), event("learner-2"), event(cdata=({"type": "UserRole", "id": "p"},))]
    )
    site.cache.crash_at(at)  # type: ignore[attr-defined]
    with pytest.raises(Crashed):
        update.handle(changes)
    assert site.hash() in ({"framework_old": "x"}, {**HASH, "userlogintype": "p"}), "never half done"
    for _ in range(2):
        update.handle(changes)
        assert site.hash() == {**HASH, "userlogintype": "p"}
        assert site.hash("learner-2")["firstname"] == "Learner"


def test_someone_else_changes_the_hash_in_between(site: Site) -> None:
    """user-deletion-cleanup removes the key between the look and the change: what the event brings is there."""
    fields = site.cache.hash_fields

    class Removing:
        def __getattr__(self, name: str) -> Any:
            return getattr(site.cache, name)

        def hash_fields(self, keys: list[str]) -> Any:
            found = fields(keys)
            site.cache.delete(keys)
            return found

    site.put(block="B", custom="x")
    select, update = steps(site)
    update._profiles = Removing()  # type: ignore[assignment]
    update.handle(payloads(select, [orjson.dumps(EVENT)]))
    assert site.hash() == HASH
    assert site.cache.change_hashes({f"user:{USER}": HashChange()}) == [None]
