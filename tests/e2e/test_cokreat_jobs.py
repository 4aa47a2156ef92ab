"""The main acceptance cases of cokreat-user-delete and metrics-data-transformer §9 on the real servers: both jobs side
by side through Kafka and Flink, then from files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from deploy.local.stack import Stack
from tests.e2e.installation import Installation, RunningJob, eventually, from_file

DELETE, METRICS = "cokreat-user-delete", "metrics-data-transformer"
FAILED = "cokreat.failed"
QUICK = {"user_delete__retry_delay_ms": 20, "metrics_transformer__retry_delay_ms": 20}


@pytest.fixture(scope="module")
def site(flink_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("site")
    with Installation.on(flink_stack, directory, (DELETE, METRICS), more_topics=[FAILED]) as site:
        yield site


@pytest.fixture(scope="module")
def jobs(site: Installation) -> Iterator[dict[str, RunningJob]]:
    """Both jobs, running: the deletions with a failed topic, the metrics without."""
    failed = {"kafka__failed__topic": f"{site.environment}.{FAILED}"}
    with site.running(DELETE, METRICS, settings={DELETE: {**failed, **QUICK}, METRICS: QUICK}) as jobs:
        yield jobs


def deletion(user: str, actor: str = "Sunbird LMS Flink Job", **edata: Any) -> bytes:
    body = {"action": "delete-user", "userId": user, "userName": "learner-name", "iteration": 1, **edata}
    return orjson.dumps({"eid": "BE_JOB_REQUEST", "actor": {"id": actor, "type": "System"}, "edata": body})


def change(content: str, **properties: Any) -> bytes:
    changed = {name: {"ov": None, "nv": value} for name, value in properties.items()}
    event = {"nodeUniqueId": content, "channel": "channel-1", "transactionData": {"properties": changed}}
    return orjson.dumps(event)


def handle(site: Installation, job: str, *events: bytes | None) -> None:
    """Send events, in order, and wait until they are handled."""
    site.send(site.topics.read_by(job), *events, key=b"one")
    site.handled(job)


def deletions(site: Installation) -> Counter[str]:
    """How often the deletion of each user of this installation was asked for."""
    calls = site.stub("calls?path=/program/v1/user/", method="GET")
    users = (call["path"].removeprefix("/program/v1/user/") for call in calls)
    return Counter(user.removesuffix(f"-{site.environment}") for user in users if user.endswith(site.environment))


def imported(site: Installation, name: str) -> tuple[str, str]:
    """A content and its original."""
    content, origin = site.name(name), site.name(f"origin-of-{name}")
    site.stub(f"contents/{content}", {"origin": origin, "originData": '{"identifier": "x"}'})
    site.stub(f"sourcing_contents/{origin}", {"name": "Plants"})
    return content, origin


def metrics_of(site: Installation, origin: str) -> dict[str, Any]:
    found: dict[str, Any] = site.stub("sourcing_contents", method="GET")[origin]
    return found


def test_deletions_and_what_comes_back_of_them(site: Installation, jobs: dict[str, RunningJob]) -> None:
    """cokreat-user-delete §9 cases 1, 2, 3, 6, 7, and §8.2: the job does not answer what it caused itself"""
    contributor, admin, stranger = (site.name(name) for name in ("contributor", "admin", "stranger"))
    site.stub("contributors", {contributor: {}, admin: "admin"})
    failures = jobs[DELETE].failures
    site.written()
    handle(
        site,
        DELETE,
        deletion(contributor),
        deletion(admin),
        deletion(stranger),
        deletion(stranger, action="user-ownership-transfer"),
        b"no JSON",
        None,
    )
    assert deletions(site) == {"contributor": 1, "admin": 4, "stranger": 1}
    letters = [record for record in site.written() if record.topic.endswith(FAILED)]
    assert {letter.key for letter in letters} == {None}
    assert sorted(letter.event["failInfo"]["error"] for letter in letters)[-1].endswith("answers 500")
    assert len(letters) == 3
    # the service announces the deletion on the job's topic, and somebody copies the failed events there
    announced = deletion(contributor, actor="coKreat Flink Job")
    handle(site, DELETE, announced, announced, *(letter.value for letter in letters))
    assert deletions(site) == {"contributor": 1, "admin": 4, "stranger": 1}
    assert [record for record in site.written() if record.topic.endswith(FAILED)] == []
    known = site.stub("contributors", method="GET")
    assert (contributor in known, admin in known) == (False, True)
    assert jobs[DELETE].failures == failures


def test_metrics_go_to_the_original(site: Installation, jobs: dict[str, RunningJob]) -> None:
    """metrics-data-transformer §9 cases 1, 2, 3, 6, 8, 9; events of one content in order"""
    (content, origin), (other, other_origin) = imported(site, "one"), imported(site, "two")
    site.stub(f"contents/{site.name('own')}", {"name": "made here"})
    failures = jobs[METRICS].failures
    handle(
        site,
        METRICS,
        change(content, me_totalRatingsCount=15, name="Plants and more"),
        b'{"nodeUniqueId":',
        change(site.name("own"), me_averageRating=4.5),
        change(site.name("nobody"), me_averageRating=4.5),
        change(content, lastUpdatedOn="2024-09-06"),
        change(content, me_averageRating=None),
        *(change(other, me_averageRating=number / 4) for number in range(40)),
    )
    assert metrics_of(site, origin) == {"name": "Plants", "me_totalRatingsCount": 15}
    updates = site.stub("content_updates", method="GET")
    assert [u for u in updates if u["identifier"] == origin] == [
        {"identifier": origin, "channel": "channel-1", "content": {"me_totalRatingsCount": 15}}
    ]
    ratings = [u["content"]["me_averageRating"] for u in updates if u["identifier"] == other_origin]
    assert ratings == [number / 4 for number in range(40)]
    assert jobs[METRICS].failures == failures


def test_a_service_that_is_away_delays_and_loses_nothing(site: Installation, jobs: dict[str, RunningJob]) -> None:
    """metrics-data-transformer §6 without a failed topic: the bundle fails, Flink begins again"""
    before = len(jobs[METRICS].failures)
    pairs = [imported(site, f"late-{number}") for number in range(5)]
    site.stub("faults", [{"path": "/sourcing/content/v4", "status": 503, "times": 30}])
    handle(site, METRICS, *(change(content, me_totalPlaySessionCount=7) for content, _ in pairs))
    assert site.stub("faults", method="GET") == [], "the service was away"
    assert [metrics_of(site, origin)["me_totalPlaySessionCount"] for _, origin in pairs] == [7] * 5
    assert len(jobs[METRICS].failures) > before
    eventually(lambda: jobs[METRICS].all_tasks_run)


# --- from files, without Kafka and Flink


def run(site: Installation, job: str, events: list[bytes], directory: Path, **settings: Any) -> dict[str, int]:
    """Run a job from a file; its counters."""
    counted, said = from_file(job, site.configuration(job, **settings, **QUICK), directory, *events)
    assert "learner-name" not in said
    return counted


def test_deletions_from_a_file(site: Installation, tmp_path: Path) -> None:
    """cokreat-user-delete §9 cases 5, 6"""
    filed, boss = site.name("filed"), site.name("boss")
    site.stub("contributors", {filed: {}, boss: "admin"})
    site.stub("faults", [{"path": f"/program/v1/user/{filed}", "status": 500, "times": 2}])
    events = [deletion(filed), deletion(boss), deletion(site.name("unknown")), b"no JSON"]
    counted = run(site, DELETE, events, tmp_path, kafka__failed__topic="failed", user_delete__max_attempts=3)
    assert counted == {
        "total-events-count": 4,
        "success-events-count": 1,
        "skipped-events-count": 1,
        "failed-events-count": 2,
    }
    assert deletions(site) >= Counter({"filed": 3, "boss": 3, "unknown": 1})
    letters = [orjson.loads(line) for line in (tmp_path / "out" / "failed.jsonl").read_bytes().splitlines()]
    assert {letter["jobName"] for letter in letters} == {DELETE}
    assert sorted(letter["failInfo"]["error"] for letter in letters)[-1] == "the contribution service answers 500"


def test_metrics_from_a_file(site: Installation, tmp_path: Path) -> None:
    """metrics-data-transformer §9 cases 4, 5, 7"""
    content, origin = imported(site, "filed")
    site.stub("faults", [{"path": f"/content/v3/read/{content}", "status": 503, "times": 2}])
    events = [change(content, name='He said "hi"', me_averageRating=4.25), change(content, mime="x"), b"[]"]
    counted = run(site, METRICS, events, tmp_path, data__metrics=["name", "me_averageRating"])
    assert counted == {
        "total-events-count": 3,
        "success-events-count": 1,
        "skipped-events-count": 1,
        "failed-events-count": 1,
    }
    assert metrics_of(site, origin) == {"name": 'He said "hi"', "me_averageRating": 4.25}
