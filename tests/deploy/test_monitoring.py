"""The metrics, by Flink's own registry and reporter: on loopback, under documented names, as rules and panels ask."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from deploy.local import flink
from deploy.local.maven import java
from deploy.local.monitoring import RULES, metric_name, prometheus_programs, scrape_configuration
from deploy.local.processes import LOOPBACK, Processes, accepts_connections, free_port
from deploy.local.progress import silent
from schemas.counters import COUNTERS
from tests.e2e.installation import eventually

DASHBOARD = json.loads(RULES.with_name("dashboard.json").read_text())
# what Flink 1.19 says of a job at a JobManager, as its REST interface lists it (/jobs/ID/metrics)
OF_A_JOB = (
    *("lastCheckpointDuration", "numRestarts", "numberOfCompletedCheckpoints", "numberOfFailedCheckpoints", "uptime"),
)
Ask = Callable[[str], list[dict[str, Any]]]


def rule_expressions() -> dict[str, str]:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    return {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules}


def panel_expressions() -> dict[str, str]:
    targets = {panel["title"]: panel["targets"][0]["expr"] for panel in DASHBOARD["panels"]}
    return {title: expression.replace("$job", ".*") for title, expression in targets.items()}


EXPRESSIONS = {**rule_expressions(), **panel_expressions()}

pytestmark = pytest.mark.xdist_group("monitoring")  # one process starts the servers, once


@pytest.fixture(scope="module")
def flinks_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where Flink's reporter answers for every job with every counter."""
    port, processes = free_port(), Processes(tmp_path_factory.mktemp("flink"))
    class_path = f"{flink.flink_class_path(silent)}:{flink.loopback_http_servers()}"
    command = [
        java(),
        "-Xmx128m",
        "-XX:TieredStopAtLevel=1",
        *(f"--add-opens={package}=ALL-UNNAMED" for package in flink.OPENS),
        *flink.LOOPBACK_HTTP_SERVERS,
        *("-cp", class_path),
        str(Path(__file__).with_name("ReporterProbe.java")),
        str(port),
        f"*={','.join(OF_A_JOB)}",
        *(f"{job}={','.join(counters)}" for job, counters in COUNTERS.items()),
    ]
    processes.start("flink", command, {}, tmp_path_factory.mktemp("data"))
    processes.wait_until("flink", lambda: accepts_connections(port), 120)
    yield port
    processes.stop("flink")


@pytest.fixture(scope="module")
def query(flinks_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Ask a Prometheus that has read that for two moments at least."""
    port, folder = free_port(), tmp_path_factory.mktemp("prometheus")
    address = f"{LOOPBACK}:{flinks_port}"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(scrape_configuration({"all": address}, RULES, "1s")))
    processes = Processes(folder)
    command = [str(prometheus_programs(silent) / "prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={LOOPBACK}:{port}"]
    processes.start("prometheus", command, {}, folder)

    def ask(expression: str) -> list[dict[str, Any]]:
        answer = requests.get(f"http://{LOOPBACK}:{port}/api/v1/query", params={"query": expression}, timeout=20)
        assert answer.ok, f"{expression}: {answer.text}"
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    processes.wait_until("prometheus", lambda: _is_ready(port), 60)

    def health() -> list[str]:
        told = requests.get(f"http://{LOOPBACK}:{port}/api/v1/rules", timeout=20).json()["data"]["groups"]
        targets = requests.get(f"http://{LOOPBACK}:{port}/api/v1/targets", timeout=20).json()["data"]["activeTargets"]
        wrong = [f"{rule['name']}: {rule.get('lastError')}" for group in told for rule in group["rules"]]
        return [*wrong, *(f"{target['scrapeUrl']}: {target['lastError']}" for target in targets)]

    recorded = [name for name in rule_expressions() if name.startswith("sunbird:")]
    eventually(lambda: all(ask(name) for name in recorded), otherwise=health)
    yield ask
    processes.stop("prometheus")


def _is_ready(port: int) -> bool:
    try:
        return requests.get(f"http://{LOOPBACK}:{port}/-/ready", timeout=5).ok
    except requests.RequestException:
        return False


def test_the_reporter_listens_on_loopback_alone(flinks_port: int) -> None:
    listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    addresses = {c.laddr.ip.removeprefix("::ffff:") for c in listening if c.laddr.port == flinks_port}
    assert addresses == {LOOPBACK}


@pytest.mark.parametrize("job", COUNTERS)
def test_every_counter_is_there_under_its_documented_name(query: Ask, job: str) -> None:
    everything = query('{__name__=~"flink_taskmanager_job_task_operator_[a-z0-9]+_.+"}')
    found = {series["metric"]["__name__"]: series for series in everything}
    for counter in COUNTERS[job]:
        assert found[metric_name(job, counter)]["value"][1] == "7"
        assert found[metric_name(job, counter)]["metric"]["job_name"] == re.sub(r"\W", "_", job)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_what_is_asked_for_is_there(query: Ask, name: str) -> None:
    expression = EXPRESSIONS[name]
    query(expression)  # Prometheus takes it
    # every series that it selects, whatever is compared afterwards
    selectors = re.findall(r"\b(?:flink_\w+|sunbird:[\w:]+|up)(?:\{[^}]*\})?|\{__name__[^}]*\}", expression)
    assert selectors
    for selector in selectors:
        assert query(selector), f"{selector}: nothing has this name"


def test_the_page_lists_the_counters_of_jobs_and_nothing_else(query: Ask) -> None:
    shown = {series["metric"]["__name__"] for series in query(EXPRESSIONS["Every counter of the jobs"])}
    assert shown == {metric_name(job, counter) for job, counters in COUNTERS.items() for counter in counters}


def test_a_job_has_one_counter_of_dead_letters_at_most() -> None:
    for job, counters in COUNTERS.items():
        assert len([name for name in counters if re.fullmatch(r"failed-(events?|message)-count", name)]) <= 1, job


def test_promtool_takes_the_rules() -> None:
    promtool = prometheus_programs(silent) / "promtool"
    done = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_are_raised_when_they_should_and_only_then() -> None:
    promtool = prometheus_programs(silent) / "promtool"
    cases = Path(__file__).with_name("rules_test.yml")
    done = subprocess.run([promtool, "test", "rules", cases], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [name for name in rule_expressions() if "sunbird:" not in name and name not in cases.read_text()] == []


def test_alerts_say_what_to_do() -> None:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                assert {"summary", "what_to_do"} <= rule["annotations"].keys()
                assert rule["labels"]["severity"] in ("warning", "critical")
