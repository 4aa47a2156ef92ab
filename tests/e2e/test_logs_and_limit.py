"""What an operator sees of a job on Flink: its log as JSON, and that it stops when everything becomes a dead letter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from deploy.local.stack import Stack
from tests.e2e.installation import Installation, RunningJob, eventually

JOB, FAILED = "cokreat-user-delete", "cokreat.failed"
IN_A_ROW = 20
MANY = 400


@pytest.fixture(scope="module")
def site(flink_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation.on(flink_stack, tmp_path_factory.mktemp("site"), (JOB,), more_topics=[FAILED]) as site:
        yield site


@pytest.fixture(scope="module")
def job(site: Installation) -> Iterator[RunningJob]:
    settings = {
        "kafka__failed__topic": f"{site.environment}.{FAILED}",
        "user_delete__max_attempts": 1,
        "logs__format": "json",
        "dead-letters__max-in-a-row": IN_A_ROW,
    }
    with site.submitted(JOB, **settings) as job:
        yield job()


def deletion(user: str) -> bytes:
    edata = {"action": "delete-user", "userId": user, "userName": "learner-name"}
    return orjson.dumps({"mid": f"LP.1.{user}", "edata": edata})


def lines(site: Installation) -> list[dict[str, Any]]:
    """What the job's workers have written: their lines are those of the worker pool that are JSON."""
    text = site.stack.log("worker-pool").read_bytes()
    found = [orjson.loads(line) for line in text.splitlines(keepends=True) if line[:1] == b"{" and line[-1:] == b"\n"]
    return [line for line in found if site.environment in str(line) or line["job"] == JOB]


def test_the_log(site: Installation, job: RunningJob) -> None:
    refused = site.name("refused")
    site.stub("faults", [{"path": f"/program/v1/user/{refused}", "status": 400}])
    site.send(site.topics.read_by(JOB), b'{"broken', deletion(refused), key=b"one")
    site.handled(JOB)
    eventually(lambda: any(line["message"].startswith("Dead letter") for line in lines(site)))
    found = lines(site)
    for line in found:
        assert {"time", "level", "logger", "message", "job"} <= line.keys()
        assert line["job"] == JOB
        assert "learner-name" not in line["message"]
    (broken,) = [line for line in found if line.get("topic") == site.topics.read_by(JOB)]
    assert "can not be read" in broken["message"]
    assert (broken["level"], broken["logger"]) == ("WARNING", "transforms.delete_contributors")
    assert (broken["topic"], broken["offset"]) == (site.topics.read_by(JOB), 0)
    assert broken["partition"] in (0, 1)
    (letter,) = [line for line in found if line.get("messageId") == f"LP.1.{refused}"]
    assert letter["message"] == "Dead letter: the contribution service answers 400"


def test_the_limit_of_dead_letters(site: Installation, job: RunningJob) -> None:
    """The service is away: the job stops, its topic stays as it is, and when the service is back it goes on."""
    users = [site.name(f"user-{number}") for number in range(MANY)]
    site.stub("contributors", {user: {} for user in users})
    site.stub("faults", [{"path": "/program", "status": 503}])
    site.written()
    site.send(site.topics.read_by(JOB), *map(deletion, users), key=b"one")
    eventually(lambda: "TooManyDeadLetters" in orjson.dumps(job._get("/exceptions")).decode())
    assert site.waiting(JOB) > MANY / 2
    told = orjson.dumps(job._get("/exceptions")).decode()
    assert f"{IN_A_ROW}" in told
    assert "dead-letters.max-in-a-row" in told
    assert "the contribution service answers 503" in told
    site.stub("faults", [])
    site.handled(JOB)
    letters = [record for record in site.written() if record.topic.endswith(FAILED)]
    failed = {letter.event["edata"]["userId"] for letter in letters}
    left = site.stub("contributors", method="GET").keys() & set(users)
    assert left <= failed, "no deletion was lost"
    assert len(failed) < MANY / 2
    eventually(lambda: job.all_tasks_run)
    raised = [line for line in lines(site) if "TooManyDeadLetters" in line.get("exception", "")]
    assert raised, "the trace is part of the object"
