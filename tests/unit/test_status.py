"""`status` and `cancel`: what they say of jobs on Flink, and with which exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner, Result

from io_connectors.flink import Flink, FlinkJob, JobDetails
from pipelines import jobs, status_command
from pipelines.command_line import app
from pipelines.status_command import OnFlink
from transforms.stores import StoreUnavailable

RELATIONS, PROFILES = "relation-cache-updater", "user-cache-updater-2.0"
SITE = Path(__file__).parents[2] / "deploy" / "config" / "site.yaml"
NOW = 1_000_000.0


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def on_flink(name: str, *tasks: tuple[str, str], state: str = "RUNNING", restarts: int = 0) -> OnFlink:
    return OnFlink(FlinkJob("id-1", name, state), JobDetails(state, NOW - 130, restarts, tasks))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> list[OnFlink]:
    """What is on Flink; Kafka has three records for everybody."""
    there: list[OnFlink] = []
    monkeypatch.setattr(status_command, "found_on_flink", lambda flink: there)
    monkeypatch.setattr(status_command, "waiting", lambda brokers, group, topic: 3)
    monkeypatch.setattr(status_command.time, "time", lambda: NOW)
    monkeypatch.setattr(status_command, "GATHERING_SECONDS", 0)
    monkeypatch.setattr(Flink, "root_cause", lambda flink, job_id: "StoreUnavailable: [cassandra:9042] is away")
    monkeypatch.setattr(
        status_command, "counters_of", lambda flink, job_id, jobs: {jobs[0]: {"failed-events-count": 7}}
    )
    return there


def test_a_job_that_runs(cluster: list[OnFlink]) -> None:
    cluster.append(on_flink(RELATIONS, ("Source: Read", "RUNNING")))
    result = call("status", RELATIONS, "--config", str(SITE))
    assert result.exit_code == 0, result.output
    line = next(line for line in result.stdout.splitlines() if line.startswith(RELATIONS))
    assert line.split() == [
        RELATIONS,
        "RUNNING,",
        "2",
        "min,",
        "0",
        "restarts",
        "3",
        "dev-relation-cache-updater-group",
    ]
    assert f"{RELATIONS} failed-events-count 7" in result.stdout


def test_a_job_of_a_group_is_found_by_its_steps(cluster: list[OnFlink]) -> None:
    cluster.append(on_flink("caches", (f"Source: {PROFILES}/Read", "RUNNING"), restarts=4))
    assert "RUNNING in caches, 2 min, 4 restarts" in call("status", PROFILES, "--config", str(SITE)).stdout
    missed = call("status", RELATIONS, "--config", str(SITE))
    assert (missed.exit_code, "not there" in missed.stdout) == (1, True)


def test_a_task_that_does_not_run_is_told(cluster: list[OnFlink]) -> None:
    cluster.append(on_flink(RELATIONS, ("a", "RUNNING"), ("b", "CREATED"), state="RESTARTING", restarts=2))
    result = call("status", RELATIONS, "--config", str(SITE))
    assert result.exit_code == 1
    assert "RESTARTING, 1 of 2 tasks run, 2 restarts" in result.stdout
    assert f"{RELATIONS} failed last with: StoreUnavailable: [cassandra:9042] is away" in result.stdout


def test_without_names_all_jobs_are_shown_those_without_settings_too(cluster: list[OnFlink], tmp_path: Path) -> None:
    (tmp_path / "little.yaml").write_text("job.env: dev\n")
    result = call("status", "--config", str(tmp_path / "little.yaml"))
    assert result.exit_code == 1
    assert [job for job in jobs.JOBS if f"\n{job} " not in result.stdout] == []
    assert "not configured: service.userorg.basePath" in result.stdout
    named = call("status", PROFILES, "--config", str(tmp_path / "little.yaml"))
    assert named.exit_code == 2
    assert "service.userorg.basePath" in named.output


def test_servers_that_do_not_answer_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_flink(flink: Flink) -> list[OnFlink]:
        raise requests.ConnectionError

    def no_kafka(brokers: str, group: str, topic: str) -> int:
        raise StoreUnavailable(f"Kafka at {brokers}: no broker answers")

    monkeypatch.setattr(status_command, "found_on_flink", no_flink)
    monkeypatch.setattr(status_command, "waiting", no_kafka)
    result = call("status", RELATIONS, "--config", str(SITE))
    assert result.exit_code == 1
    assert "Flink at flink-jobmanager:8081 does not answer" in result.output
    assert "Kafka at kafka:9092: no broker answers" in result.output


def test_cancel_ends_what_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    living = [FlinkJob("1", "caches", "RUNNING"), FlinkJob("2", "ml", "RUNNING"), FlinkJob("3", "caches", "CANCELED")]
    ended: list[tuple[str, str]] = []
    monkeypatch.setattr(Flink, "jobs", lambda flink, name=None: living)
    monkeypatch.setattr(Flink, "cancel", lambda flink, job_id: ended.append((flink.address, job_id)))
    result = call("cancel", "caches", "--config", str(SITE))
    assert (result.exit_code, ended) == (0, [("flink-jobmanager:8081", "1")]), result.output
    unknown = call("cancel", RELATIONS, "--set", "flink.master=here:8081")
    assert unknown.exit_code == 2
    assert f"{RELATIONS} is not on Flink at here:8081; there is caches, ml" in unknown.output


def test_a_kafka_that_does_not_answer_is_no_success(cluster: list[OnFlink], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_kafka(brokers: str, group: str, topic: str) -> int:
        raise StoreUnavailable(f"Kafka at {brokers}: no broker answers")

    monkeypatch.setattr(status_command, "waiting", no_kafka)
    cluster.append(on_flink(RELATIONS, ("Source: Read", "RUNNING")))
    result = call("status", RELATIONS, "--config", str(SITE))
    assert "RUNNING" in result.stdout
    assert result.exit_code == 1, "as its help says"
