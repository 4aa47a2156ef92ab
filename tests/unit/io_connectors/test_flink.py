"""What is made of Flink's answers about its jobs."""

from __future__ import annotations

from typing import Any

import pytest

from io_connectors.flink import Flink, FlinkError, FlinkJob

FLINK = Flink("flink:8081")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Flink answers to each path: a job that runs, and another that failed."""
    found: dict[str, Any] = {
        "jobs/overview": {
            "jobs": [{"jid": "1", "name": "caches", "state": "RUNNING"}, {"jid": "2", "name": "ml", "state": "FAILED"}]
        },
        "jobs/1": job("RUNNING", "RUNNING"),
        "jobs/1/metrics": [],
        "jobs/1/exceptions": {"root-exception": None},
        "overview": {"slots-available": 1, "slots-total": 4},
    }
    monkeypatch.setattr(Flink, "get", lambda flink, path, **parameters: found[path])
    return found


def job(state: str, *tasks: str) -> dict[str, Any]:
    vertices = [{"name": f"step {number}", "status": task} for number, task in enumerate(tasks)]
    return {"state": state, "timestamps": {"RUNNING": 5_500}, "vertices": vertices}


def test_jobs_that_ended_are_told_from_the_living(answers: dict[str, Any]) -> None:
    caches, ml = FlinkJob("1", "caches", "RUNNING"), FlinkJob("2", "ml", "FAILED")
    assert FLINK.jobs() == [caches, ml]
    assert (FLINK.jobs("ml"), FLINK.living("ml"), FLINK.living()) == ([ml], [], [caches])


@pytest.mark.parametrize(
    ("found", "runs"),
    [
        (job("RUNNING", "RUNNING", "RUNNING"), True),
        (job("RUNNING", "RUNNING", "SCHEDULED"), False),
        (job("RESTARTING", "RUNNING"), False),
        (job("RUNNING"), False),
    ],
)
def test_a_job_runs_when_all_its_tasks_do(answers: dict[str, Any], found: dict[str, Any], runs: bool) -> None:
    answers["jobs/1"] = found
    assert FLINK.details("1").runs == runs


def test_restarts_are_counted_once_flink_does(answers: dict[str, Any]) -> None:
    assert FLINK.details("1").restarts == 0
    answers["jobs/1/metrics"] = [{"id": "numRestarts", "value": "3"}]
    assert (FLINK.details("1").restarts, FLINK.details("1").since) == (3, 5.5)


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        (None, ""),
        ("java.lang.Exception: away\n\tat a.b(C.java:1)", "java.lang.Exception: away"),
        ("java.lang.Exception: a\nCaused by: b.C: middle\n\tat d\nCaused by: e.F: deepest\n\tat g", "e.F: deepest"),
    ],
)
def test_the_deepest_cause_is_told(answers: dict[str, Any], told: str | None, cause: str) -> None:
    answers["jobs/1/exceptions"] = {"root-exception": told}
    assert FLINK.root_cause("1") == cause


def test_why_a_job_does_not_run(answers: dict[str, Any]) -> None:
    answers["jobs/1"] = job("FAILED", "FAILED")
    answers["jobs/1/exceptions"] = {"root-exception": "a.B: no worker pool"}
    with pytest.raises(FlinkError, match=r"^job 1 is FAILED: a.B: no worker pool$"):
        FLINK.wait_until_running("1")
    answers["jobs/1"] = job("RUNNING", "SCHEDULED")
    answers["overview"] = {"slots-available": 0, "slots-total": 4}
    with pytest.raises(FlinkError, match=r"^job 1 does not run after 0 s: all 4 slots of the cluster are taken$"):
        FLINK.wait_until_running("1", 0)
