"""Counters are read from what Flink says of a job that runs, and of one that ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from io_connectors.flink import Flink
from io_connectors.flink_counters import counters_of

JOB = "relation-cache-updater"
COUNTER = "beam:metric:user:sum_int64:v1"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Flink answers to each path, with its parameters."""
    found: dict[str, Any] = {}

    def get(flink: Flink, path: str, **parameters: str) -> Any:
        path = path.removeprefix("jobs/1")
        return found[f"{path}?{parameters['get']}" if parameters else path]

    monkeypatch.setattr(Flink, "get", get)
    return found


def test_all_tasks_of_a_running_job_are_added_up(answers: dict[str, Any]) -> None:
    first, second = f"0.[2]A step.{JOB}_total-events-count", f"1.[2]A step.{JOB}_total-events-count"
    answers[""] = {"state": "RUNNING", "vertices": [{"id": "v1"}, {"id": "v2"}]}
    answers["/vertices/v1/metrics"] = [{"id": first}, {"id": second}, {"id": "0.numRecordsIn"}]
    answers[f"/vertices/v1/metrics?{first},{second}"] = [{"id": first, "value": "3"}, {"id": second, "value": "4"}]
    answers["/vertices/v2/metrics"] = []

    counted = counters_of(Flink("flink:8081"), "1", [JOB])[JOB]

    assert counted["total-events-count"] == 7
    assert counted["success-events-count"] == 0


def test_the_jobs_of_a_group_are_told_apart(answers: dict[str, Any]) -> None:
    other = "user-cache-updater-2.0"
    ids = {f"0.[2]{JOB}/A step.{JOB}_total-events-count": "3", "0.[3]A.user-cache-updater-2_0_user-cache-hit": "4"}
    answers[""] = {"state": "RUNNING", "vertices": [{"id": "v1"}]}
    answers["/vertices/v1/metrics"] = [{"id": name} for name in (*ids, "0.[2]A.somebody_total-events-count")]
    answers[f"/vertices/v1/metrics?{','.join(ids)}"] = [{"id": name, "value": n} for name, n in ids.items()]

    counted = counters_of(Flink("flink:8081"), "1", [JOB, other])

    assert list(counted) == [JOB, other]
    assert {name: n for name, n in counted[JOB].items() if n} == {"total-events-count": 3}
    assert {name: n for name, n in counted[other].items() if n} == {"user-cache-hit": 4}


def test_a_job_that_ended_has_an_accumulator(answers: dict[str, Any]) -> None:
    def info(name: str, payload: str, namespace: str = JOB) -> dict[str, Any]:
        return {"urn": COUNTER, "payload": payload, "labels": {"NAMESPACE": namespace, "NAME": name}}

    infos = [info("total-events-count", "DA=="), info("cache-write-count", "rAI="), info("elements", "DA==", "sink")]
    metrics = json.dumps({"metrics": {"attempted": [*infos, {"urn": "beam:metric:element_count:v1"}]}})
    answers[""] = {"state": "CANCELED", "vertices": []}
    answers["/accumulators"] = {"user-task-accumulators": [{"name": "__metricscontainers", "value": metrics}]}

    counted = counters_of(Flink("flink:8081"), "1", [JOB])[JOB]

    assert counted["total-events-count"] == 12
    assert counted["cache-write-count"] == 300
    assert "elements" not in counted
