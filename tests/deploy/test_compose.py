"""The compose file: valid, with every server of the local stack, and filled by the code that fills that."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka.admin import AdminClient
from jsonschema import Draft7Validator

from deploy.local import contents
from deploy.local.kafka import TOPICS
from deploy.local.service import Service
from deploy.local.stack import SERVICES
from pipelines.groups import load_group
from pipelines.jobs import JOBS
from tests.conftest import StackOf
from tests.deploy.tools import tool
from tests.e2e.installation import eventually

DOCKER = Path(__file__).parents[2] / "deploy/docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
CONTAINERS: dict[str, Any] = COMPOSE["services"]
FLINK = {"jobmanager", "taskmanager", "workers"}


def test_it_is_valid() -> None:
    schema = json.loads(Path(tool("compose")).read_text())
    assert [error.message for error in Draft7Validator(schema).iter_errors(COMPOSE)] == []


def test_the_schema_finds_what_is_wrong() -> None:
    schema = json.loads(Path(tool("compose")).read_text())
    wrong = {**COMPOSE, "services": {**CONTAINERS, "jobs": {**CONTAINERS["jobs"], "comand": "run"}}}
    assert list(Draft7Validator(schema).iter_errors(wrong))


def test_every_server_of_the_local_stack_is_there() -> None:
    for name in SERVICES:
        assert (FLINK if name == "flink" else {name}) <= CONTAINERS.keys()


def test_what_fills_the_local_stack_fills_these() -> None:
    filled = {name for name, service in SERVICES.items() if type(service).populate is not Service.populate} - {"flink"}
    assert {f"{name}-contents" for name in filled} == {name for name in CONTAINERS if name.endswith("-contents")}
    for name in filled:
        container = CONTAINERS[f"{name}-contents"]
        assert container["command"] == ["deploy.local.contents", "fill", name]
        assert container["network_mode"] == f"service:{name}"
        assert CONTAINERS["jobs"]["depends_on"][f"{name}-contents"] == {"condition": "service_completed_successfully"}


def test_what_is_named_exists() -> None:
    targets = set(re.findall(r" AS ([\w-]+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE))
    for name, container in CONTAINERS.items():
        assert re.search(r":v?\d+\.\d+\.\d+", container["image"]), f"{name} has no version"
        if "build" in container:
            assert container["build"]["target"] in targets
            assert (DOCKER / container["build"]["context"] / container["build"]["dockerfile"]).is_file()
        assert set(container.get("depends_on", ())) <= CONTAINERS.keys()
        for volume in container.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DOCKER / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"]


def test_only_loopback_is_published() -> None:
    published = [port for container in CONTAINERS.values() for port in container.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_job_takes_the_settings(tmp_path: Path) -> None:
    contents.write_settings(tmp_path, sorted(JOBS))
    group = load_group(tmp_path / "group.yaml", [], {})
    assert {member.job.NAME for member in group.members} == set(JOBS)
    for member in group.members:
        assert member.loaded.unknown == []
    found = contents.settings()
    assert found["kafka.broker-servers"] == "kafka:9092"
    servers = {str(value).split("//")[-1].split(":")[0] for value in found.values() if re.search(r":\d+$", str(value))}
    assert servers <= {*CONTAINERS, "localhost", "127.0.0.1"}


def test_the_group_is_of_the_jobs_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBS", "relation-cache-updater merge-user-courses")
    contents.main(["settings", str(tmp_path)])
    group = load_group(tmp_path / "group.yaml", [], {})
    assert [member.job.NAME for member in group.members] == ["relation-cache-updater", "merge-user-courses"]


def test_a_server_is_filled_in_its_own_network(stack_of: StackOf) -> None:
    stack = stack_of("kafka")
    ports = next(status.ports for status in stack.status() if status.service == "kafka")
    environment = f"compose-{uuid.uuid4().hex[:8]}"
    contents.fill("kafka", environment, {"kafka": ports["kafka"]}, patience_seconds=30)
    admin = AdminClient({"bootstrap.servers": stack.environment()["kafka.broker-servers"]})
    wanted = {f"{environment}.{name}" for name in TOPICS}

    def made() -> set[str]:
        return {topic for topic in admin.list_topics(timeout=10).topics if topic.startswith(f"{environment}.")}

    eventually(lambda: made() == wanted, otherwise=made)
    for deleted in admin.delete_topics(list(wanted), operation_timeout=30).values():
        deleted.result(30)
