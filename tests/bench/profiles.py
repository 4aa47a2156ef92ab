"""`python -m tests.bench.profiles`: users that user-cache-updater-2.0 stores in a second, with slow services.

The job's own steps in this process, on the local stack's Redis and stand-ins of the services, without Kafka and Flink.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import psutil
import redis
import requests
import typer

from deploy.local.errors import StackError
from deploy.local.stack import Stack
from pipelines import user_cache_updater as job
from tests.bench.stores import Compared
from transforms.decode import Record
from transforms.update_user_cache import SelectUserChanges, UpdateUserCache
from transforms.user_cache import SignIn

__all__ = ["ProfilesMeasured", "ProfilesPlan", "measure_profiles"]

SERVICES = ("redis", "stubs")
DATABASE = 15
SECONDS = 60
FRAMEWORKS = 20
CATEGORIES = ("board", "medium", "gradeLevel", "subject")


@dataclass(frozen=True)
class ProfilesPlan:
    """So many users, each changed once, after ``warm_up`` of them; ``foreign`` other events for each of them.

    The services answer after ``answer_ms``.
    """

    users: int = 5_000
    warm_up: int = 500
    foreign: int = 1
    answer_ms: int = 20


@dataclass(frozen=True)
class ProfilesMeasured:
    """What was found: seconds, and CPU seconds of the process and of the foreign events' share of it."""

    plan: ProfilesPlan
    seconds: float
    cpu: float
    cpu_foreign: float
    memory: float
    most_calls_at_once: int
    correct: Compared

    @property
    def per_second(self) -> float:
        return self.plan.users / self.seconds

    @property
    def cpu_per_1000(self) -> float:
        return 1000 * self.cpu / self.plan.users

    @property
    def cpu_per_1000_foreign(self) -> float:
        return 1000 * self.cpu_foreign / (self.plan.users * self.plan.foreign or 1)

    @property
    def is_right(self) -> bool:
        return self.correct.wrong == 0


def measure_profiles(plan: ProfilesPlan, stack: Stack) -> ProfilesMeasured:
    """Run the job's steps, in batches as large as they are on Flink. Raises StackError."""
    stack.up(SERVICES)
    found = stack.environment()
    settings = job.Settings(
        **{name: found[name] for name in job_keys(found)}, **{"redis-meta.database.userstore.id": DATABASE}
    )
    users = range(plan.warm_up + plan.users)
    with _services(found, plan, users) as services, _cache(found) as cache:
        select = SelectUserChanges(job.NAME, job.SHARDS, producer=settings.producer, sign_in=SignIn((), "", (), ""))
        update = UpdateUserCache(job.NAME, job.stores(settings), size=500, removable=settings.removable)
        update.setup()
        _work_off(select, update, [_record(number) for number in users[: plan.warm_up]])
        records = [_record(number) for number in users[plan.warm_up :]]
        foreign = [_record(number, "content") for number in range(plan.users * plan.foreign)]
        began, cpu = time.perf_counter(), time.process_time()
        _work_off(select, update, foreign)
        cpu_foreign = time.process_time() - cpu
        _work_off(select, update, records)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu - cpu_foreign
        judged = Compared()
        for number in users:
            wanted = (f"First {number}", f"framework-{number % FRAMEWORKS}", '["Class 5","Class 6"]')
            stored = cache.hmget(f"user:learner-{number}", "firstname", "framework_id", "framework_gradeLevel")
            judged.note(f"learner-{number}", wanted, tuple(stored))
        most = requests.get(f"{services}/stub/load", timeout=SECONDS).json()["most_in_flight"]
        memory = psutil.Process().memory_info().rss / 1_000_000
    return ProfilesMeasured(plan, seconds, cpu, cpu_foreign, memory, most, judged)


def job_keys(found: Mapping[str, Any]) -> list[str]:
    """The keys of the stack's environment that the job takes."""
    return [
        name
        for name in found
        if name.startswith("redis") or name in ("service.userorg.basePath", "service.taxonomy.basePath")
    ]


def _record(number: int, about: str = "User") -> Record:
    user = f"learner-{number}"
    event = {
        "eid": "AUDIT",
        "ets": 1_717_400_500_000 + number,
        "ver": "3.0",
        "mid": f"{number}.b1a0c6de-2f3b-4a60-93e5-5c0d00000001",
        "actor": {"id": "internal", "type": "Consumer"},
        "context": {
            "channel": "0140111111111111110",
            "pdata": {"id": "dev.sunbird.learning.service", "pid": "learner-service", "ver": "5.0.0"},
            "env": "User",
            "cdata": [{"type": "User", "id": user}, {"type": "SignupType", "id": "google"}],
        },
        "object": {"id": user, "type": about},
        "edata": {"state": "Updated", "props": ["firstName", "profileLocation"]},
    }
    return Record(orjson.dumps(event), "audit", 0, number, 0)


def _profile(number: int) -> dict[str, Any]:
    return {
        "firstName": f"First {number}",
        "lastName": "Last",
        "status": 1,
        "encEmail": "ZW1haWw=" * 8,
        "encPhone": "cGhvbmU=" * 8,
        "language": ["English"],
        "rootOrgId": "0140111111111111110",
        "rootOrg": {"orgName": "State of Tara", "description": "x" * 500},
        "framework": {
            "id": [f"framework-{number % FRAMEWORKS}"],
            "board": ["State (Tara)"],
            "medium": ["English"],
            "gradeLevel": ["Class 5", "Class 6"],
        },
        "profileUserTypes": [{"type": "teacher"}, {"type": "administrator", "subType": "hm"}],
        "userLocations": [
            {"type": kind, "name": f"{kind} [1]", "code": "1", "id": "bc75cc99-9205-463e-a722-5326857838f8"}
            for kind in ("state", "district", "block", "cluster", "school")
        ],
        "organisations": [{"organisationId": "0140", "roles": ["PUBLIC"], "userId": "x" * 36}] * 2,
    }


def _work_off(select: SelectUserChanges, update: UpdateUserCache, records: list[Record]) -> None:
    update.start_bundle()
    for record in records:
        for change in select.process(record):
            update.process(change)
    update.finish_bundle()


@contextmanager
def _services(found: Mapping[str, Any], plan: ProfilesPlan, users: range) -> Iterator[str]:
    """The address of the stand-ins, which know the users, and take their time."""
    address = str(found["service.userorg.basePath"])

    def put(what: str, value: Any) -> None:
        requests.put(f"{address}/stub/{what}", data=orjson.dumps(value), timeout=SECONDS).raise_for_status()

    try:
        put("users", {f"learner-{number}": _profile(number) for number in users})
        categories = [{"code": code, "name": code, "terms": [{"name": "x" * 20}] * 20} for code in CATEGORIES]
        put("frameworks", {f"framework-{number}": {"categories": categories} for number in range(FRAMEWORKS)})
        put("settings", {"delay_ms": plan.answer_ms})
        requests.delete(f"{address}/stub/calls", timeout=SECONDS).raise_for_status()
        yield address
    finally:
        requests.delete(f"{address}/stub", timeout=SECONDS).raise_for_status()


@contextmanager
def _cache(found: Mapping[str, Any]) -> Iterator[redis.Redis]:
    with redis.Redis(found["redis-meta.host"], found["redis-meta.port"], DATABASE, decode_responses=True) as cache:
        cache.flushdb()
        try:
            yield cache
        finally:
            cache.flushdb()


def main(
    users: Annotated[int, typer.Option(min=1, help="Users that are stored.")] = 5_000,
    answer_ms: Annotated[int, typer.Option(min=0, help="How long the services take to answer.")] = 20,
    directory: Annotated[Path, typer.Option("--dir", help="Directory of the stack; one that is up is used.")] = Path(
        ".stack/bench"
    ),
) -> None:
    """Events a second, CPU and memory of this process. Exit code 0 when every profile is right."""
    stack = Stack(directory, ports="free")
    was_up = any(status.up for status in stack.status())
    try:
        measured = measure_profiles(ProfilesPlan(users, answer_ms=answer_ms), stack)
    except (StackError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    finally:
        if not was_up:
            stack.down(SERVICES)
    typer.echo(f"{users} users, one event each, services that answer in {answer_ms} ms, in this process")
    typer.echo(f"{'events/s':<40}{measured.per_second:8.0f}")
    typer.echo(f"{'CPU seconds per 1,000 events':<40}{measured.cpu_per_1000:8.2f}")
    typer.echo(f"{'CPU seconds per 1,000 events of others':<40}{measured.cpu_per_1000_foreign:8.3f}")
    typer.echo(f"{'calls at once, at most':<40}{measured.most_calls_at_once:8}")
    typer.echo(f"{'MB of this process':<40}{measured.memory:8.0f}")
    typer.echo(f"{'profiles':<40}{measured.correct.right:8} right, {measured.correct.wrong} wrong")
    for example in measured.correct.examples:
        typer.echo(f"  {example}")
    raise typer.Exit(0 if measured.is_right else 1)


if __name__ == "__main__":
    typer.run(main)
