"""The main acceptance cases of user-cache-updater and program-user-info §9 on the real servers: from files with the
command, and through Kafka and Flink, both jobs side by side."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from deploy.local.stack import Stack
from tests.e2e.installation import Installation, RunningJob, eventually, from_file
from tests.pipelines.test_program_user_info import EVENT as DOCUMENT
from tests.pipelines.test_program_user_info import ROW, TABLE
from tests.pipelines.test_user_cache_updater import EVENT, FRAMEWORK, HASH, PROFILE, SERVICE

PROFILES, PROGRAMS = "user-cache-updater-2.0", "program-user-info"
DATABASE = 12


@pytest.fixture(scope="module")
def site(flink_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation.on(flink_stack, tmp_path_factory.mktemp("site"), [PROFILES, PROGRAMS]) as site:
        site.stub(
            f"frameworks/{FRAMEWORK}", {"categories": [{"code": code} for code in ("board", "medium", "gradeLevel")]}
        )
        yield site
        site.stub("faults", method="DELETE")


@pytest.fixture(scope="module")
def jobs(site: Installation) -> Iterator[dict[str, RunningJob]]:
    """Both jobs, running."""
    with site.running(PROFILES, PROGRAMS) as jobs:
        yield jobs


@pytest.fixture
def cache(site: Installation) -> Iterator[redis.Redis]:
    """The user store."""
    host, port = site.settings["redis-meta.host"], site.settings["redis-meta.port"]
    with redis.Redis(host, port, DATABASE, decode_responses=True) as client:
        yield client


def know(site: Installation, name: str, **members: Any) -> str:
    """Let the user service know a user; its id."""
    user = site.name(name)
    site.stub(f"users/{user}", {**PROFILE, **members})
    return user


def changed(user: str, *cdata: dict[str, str], pid: str = SERVICE, **edata: Any) -> bytes:
    context = {"pdata": {"pid": pid}, "cdata": list(cdata)}
    about = {"id": user, "type": "User"}
    return orjson.dumps({**EVENT, "context": context, "object": about, "edata": {"state": "Updated", **edata}})


def joined(program: str, user: str, **members: Any) -> bytes:
    return orjson.dumps({**DOCUMENT, "programId": program, "userId": user, **members})


def rows_of(site: Installation, program: str) -> dict[str, dict[str, Any]]:
    rows = site.rows(TABLE, program_id=program)
    return {
        row["user_id"]: {name: _plain(value) for name, value in row.items() if name != "program_id"} for row in rows
    }


def _plain(value: Any) -> Any:
    """The driver's maps and dates as Python's."""
    if hasattr(value, "items"):
        return dict(value)
    return value.date() if hasattr(value, "days_from_epoch") else value


def run_file(site: Installation, job: str, directory: Path, *values: bytes) -> dict[str, int]:
    """Run a job over the values as the command does; its counters."""
    configuration = site.configuration(job, **{"kafka__broker-servers": "127.0.0.1:1"})
    return from_file(job, configuration, directory, *values)[0]


# --- from files


def test_profiles_from_a_file(site: Installation, cache: redis.Redis, tmp_path: Path) -> None:
    """§9 cases 1, 2, 3, 6, 7, 8, 10"""
    user = know(site, "from-file")
    blocked = site.name("blocked")
    site.stub(f"users/{blocked}", "blocked")
    cache.hset(f"user:{user}", mapping={"block": "B", "custom": "x", "framework_old": "[]"})
    counted = run_file(
        site,
        PROFILES,
        tmp_path,
        changed(user, {"type": "SignupType", "id": "google"}),
        changed(user, {"id": "x"}, {"type": "userrole", "id": "parent"}, pid="sunbird.app"),
        changed(blocked),
        changed(blocked, {"type": "SignupType", "id": "sso"}),
        changed(site.name("nobody"), {"type": "SignupType", "id": "sso"}),
        changed(user, state="Blocked"),
        b"not json",
        b"",
    )
    assert cache.hgetall(f"user:{user}") == {**HASH, "userid": user, "custom": "x", "userlogintype": "parent"}
    assert cache.ttl(f"user:{user}") == -1
    assert cache.hgetall(f"user:{blocked}") == {"usersignintype": "Validated"}
    assert not cache.exists(f"user:{site.name('nobody')}")
    assert counted == {
        "total-audit-events-count": 8,
        "skipped-message-count": 5,
        "success-message-count": 3,
        "user-cache-hit": 3,
        "api-read-success-count": 1,
        "api-read-miss-count": 3,
    }


def test_programs_from_a_file(site: Installation, tmp_path: Path) -> None:
    """§9 cases 1, 2, 7, 8, 9"""
    program = site.name("from-file")
    counted = run_file(
        site,
        PROGRAMS,
        tmp_path,
        joined(program, "learner-1"),
        b"{",
        joined(program, ""),
        joined(program, "learner-1", userProfile=None, createdAt=None, programName="It's"),
        joined(program, "learner-2", createdAt="x"),
    )
    assert rows_of(site, program) == {
        "learner-1": {**ROW, "program_name": "It's"},
        "learner-2": {**ROW, "user_id": "learner-2", "created_at": None},
    }
    expected = {"total-events-count": 5, "success-events-count": 3, "skipped-events-count": 1, "failed-events-count": 1}
    assert counted == expected


# --- on Flink


def test_profiles(site: Installation, jobs: dict[str, RunningJob], cache: redis.Redis) -> None:
    """§9 cases 1, 2, 3, 7, 8, 9: many users, of each several events in order, and what is not for the job"""
    users = [know(site, f"learner-{number}") for number in range(60)]
    failures = jobs[PROFILES].failures
    topic = site.topics.read_by(PROFILES)
    site.stub("calls", method="DELETE")
    roles = [({"type": "UserRole", "id": f"role-{number}"}) for number in range(5)]
    for role in roles:
        for user in users:
            site.send(topic, changed(user, role, pid="app"), key=user.encode())
    for user in users:
        site.send(topic, changed(user, {"type": "SignupType", "id": "google"}), key=user.encode())
    site.send(topic, b"nonsense", None, b"", changed(site.name("unknown")), orjson.dumps({**EVENT, "object": None}))
    site.handled(PROFILES)
    for user in users:
        assert cache.hgetall(f"user:{user}") == {**HASH, "userid": user, "userlogintype": "role-4"}
    assert not cache.exists(f"user:{site.name('unknown')}")
    calls = [call["path"] for call in site.stub("calls", method="GET")]
    assert len([path for path in calls if "/framework/" in path]) <= 2, "once for each worker process"
    assert len([path for path in calls if "/user/" in path]) == 61
    assert jobs[PROFILES].failures == failures


def test_a_user_service_that_is_away_for_a_while(
    site: Installation, jobs: dict[str, RunningJob], cache: redis.Redis
) -> None:
    """§6: the bundle fails, nothing is committed, and all is there in the end"""
    users = [know(site, f"away-{number}") for number in range(5)]
    site.stub("faults", [{"path": f"/private/user/v1/read/{users[2]}", "status": 503, "times": 4}])
    topic = site.topics.read_by(PROFILES)
    restarted = len(jobs[PROFILES].failures)
    site.send(topic, *map(changed, users), key=b"one")
    site.handled(PROFILES)
    for user in users:
        assert cache.hget(f"user:{user}", "firstname") == PROFILE["firstName"]
    assert len(jobs[PROFILES].failures) == restarted + 1
    eventually(lambda: jobs[PROFILES].all_tasks_run)


def test_programs(site: Installation, jobs: dict[str, RunningJob]) -> None:
    """§9 cases 1, 2, 4, 9"""
    program = site.name("program")
    failures = jobs[PROGRAMS].failures
    topic = site.topics.read_by(PROGRAMS)
    users = [f"learner-{number}" for number in range(50)]
    for user in users:
        later = joined(program, user, userProfile={"profileUserTypes": []}, updatedAt="2024-05-01T00:00:00+05:30")
        site.send(topic, joined(program, user), later, key=user.encode())
    site.send(topic, b"{{", None, joined(program, ""))
    site.handled(PROGRAMS)
    later = {"user_type": None, "user_sub_type": None, "updated_at": date(2024, 5, 1)}
    assert rows_of(site, program) == {user: {**ROW, "user_id": user, **later} for user in users}
    assert jobs[PROGRAMS].failures == failures
