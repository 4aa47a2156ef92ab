"""The command line: what it accepts, refuses, prints and hands to the runtime."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from pipelines import jobs
from pipelines.command_line import app
from pipelines.settings import DedupRedisSettings, KafkaSettings, UsageError, key

JOB = "relation-cache-updater"


class Settings(KafkaSettings, DedupRedisSettings):
    kafka_input_topic: str = key("kafka.input.topic", "{env}.content.postpublish.request", "events of publishing")
    kafka_group_id: str = key("kafka.groupId", "{env}-relation-cache-updater-group", "group")
    audit_topic: str = key("kafka.output.audit.topic", "", "audit [bold]", seed_names=["kafka.audit.topic"])


@dataclass
class Runtime:
    """Stands in for pipelines.runtime and keeps what it was asked for."""

    RunRequest = SimpleNamespace
    code: int = 0
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def run(self, *arguments: Any) -> int:
        self.asked.append(arguments)
        return self.code

    package = run


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    job = ModuleType("a_job")
    job.__doc__ = "Keeps in Redis what lies where.\n\nReads [things], whatever their name is.\n"
    job.NAME, job.Settings = JOB, Settings
    runtime = Runtime()
    monkeypatch.setitem(sys.modules, "a_job", job)
    monkeypatch.setitem(sys.modules, "pipelines.runtime", runtime)
    monkeypatch.setitem(jobs.JOBS, JOB, "a_job")
    return runtime


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text("{}\n")
    return path


def call(*arguments: Any):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# list, help


def test_list_has_the_name_first_on_each_line() -> None:
    result = call("list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(jobs.JOBS)
    assert jobs.SUMMARIES.keys() == jobs.JOBS.keys()


def test_list_does_not_load_beam() -> None:
    code = "import sys, pipelines.command_line as c, typer.testing as t; r = t.CliRunner().invoke(c.app, ['list'])"
    code += "; sys.exit(r.exit_code or 'apache_beam' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("command", [[], ["run"], ["config"], ["package"], ["status"], ["cancel"], ["stack"]])
def test_help_shows_by_example(command: list[str]) -> None:
    result = call(*command, "--help")
    assert result.exit_code == 0
    assert "sunbird-pipelines " in result.stdout.split("Usage:")[1].split("\n", 1)[1]


def test_without_a_command_the_help_is_shown() -> None:
    result = call()
    assert result.exit_code == 2
    assert "Commands:" in result.output


# run


def test_run_hands_everything_to_the_runtime(runtime: Runtime, events: Path, tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("redis.host: redis-1\nredis.port: 1\n")
    out, metrics = tmp_path / "made" / "out", tmp_path / "also" / "m.json"
    result = call(
        *("run", JOB, "--config", file, "--set", "redis.port=7", "--input", events, "--input-format", "base64"),
        *("--output", out, "--with-keys", "--metrics", metrics, "--", "--parallelism=2", "--streaming"),
    )
    assert result.exit_code == 0, result.output
    [(job, loaded, request)] = runtime.asked
    assert job.NAME == JOB
    assert (loaded.settings.redis_host, loaded.settings.redis_port) == ("redis-1", 7)
    assert vars(request) == {
        "input": events,
        "input_format": "base64",
        "output": out,
        "with_keys": True,
        "until_end": False,
        "metrics": metrics,
        "shadow": False,
        "detach": False,
        "beam_options": ("--parallelism=2", "--streaming"),
    }
    assert out.is_dir()
    assert metrics.parent.is_dir()


def test_run_on_kafka_asks_for_nothing(runtime: Runtime) -> None:
    assert call("run", JOB).exit_code == 0
    [(_, loaded, request)] = runtime.asked
    assert loaded.settings.kafka_broker_servers == "localhost:9092"
    assert (request.input, request.input_format, request.until_end, request.beam_options) == (None, "raw", False, ())
    assert call("run", JOB, "--until-end").exit_code == 0
    assert runtime.asked[1][2].until_end is True


def test_the_exit_code_of_a_run_is_that_of_the_runtime(runtime: Runtime) -> None:
    runtime.code = 1
    assert call("run", JOB).exit_code == 1


def test_a_usage_error_of_the_runtime_is_one_line_and_exit_code_2(runtime: Runtime) -> None:
    def refuse(*_: Any) -> int:
        raise UsageError("--finish_bundle_before_checkpointing must be on")

    runtime.run = refuse
    result = call("run", JOB)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "error: --finish_bundle_before_checkpointing must be on"
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "JOB"),
        (["run", "relation-cache-updtaer"], "Did you mean relation-cache-updater?"),
        (["config", "nothing-of-the-kind"], ", ".join(jobs.JOBS)),
        (["run", JOB, "--runner=FlinkRunner"], "behind a lone --"),
        (["run", JOB, "another-job"], "another-job"),
        (["run", JOB, "--input", "nothing.jsonl"], "nothing.jsonl: no such file"),
        (["run", JOB, "--input", "/"], "/: is a directory"),
        (["run", JOB, "--input", "EVENTS", "--metrics", "/"], "/: is a directory"),
        (["run", JOB, "--input", "EVENTS", "--until-end"], "not both"),
        (["run", JOB, "--input", "EVENTS", "--with-keys"], "--output"),
        (["run", JOB, "--input", "EVENTS", "--input-format", "xml"], "base64"),
        (["run", JOB, "--until-end", "--input-format", "base64"], "--input"),
        (["run", JOB, "--output", "out"], "--until-end"),
        (["run", JOB, "--metrics", "m.json"], "--until-end"),
        (["run", JOB, "--input", "EVENTS", "--output", "EVENTS"], "events.jsonl"),
        (["run", JOB, "--config", "nothing.yaml"], "nothing.yaml: no such file"),
        (["run", JOB, "--set", "redis.host"], "KEY=VALUE"),
        (["run", JOB, "--set", "redis.port=abc"], "redis.port (--set): must be a whole number"),
        (["package", JOB], "--out"),
        (["package", JOB, "--out", "EVENTS/j.jar"], "events.jsonl"),
        (["config", JOB, "--set", "redis.port=1"], "--resolved"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_usage_starts_nothing(runtime: Runtime, events: Path, arguments: list[str], words: str) -> None:
    result = call(*(argument.replace("EVENTS", str(events)) for argument in arguments))
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert runtime.asked == []


def test_a_crash_of_the_runtime_is_exit_code_1(runtime: Runtime) -> None:
    def crash(*_: Any) -> int:
        raise RuntimeError("boom")

    runtime.run = crash
    assert call("run", JOB).exit_code == 1


def test_unknown_and_unused_keys_are_told_once(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert call("run", JOB, "--set", "redis.hots=x", "--set", "kafka.zookeeper=x:1").exit_code == 0
    messages = [record.getMessage() for record in caplog.records]
    assert len([m for m in messages if "redis.hots" in m and "did you mean redis.host?" in m]) == 1
    assert len([m for m in messages if "kafka.zookeeper" in m]) == 1


# config


def test_config_prints_the_page_and_every_key_unfolded(runtime: Runtime) -> None:
    result = call("config", JOB)
    assert result.exit_code == 0
    assert "Reads [things], whatever their name is." in result.stdout
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert "{env}.content.postpublish.request" in lines["kafka.input.topic"]
    assert "whole number" in lines["redis.port"]
    assert "6379" in lines["redis.port"]
    assert "secret text" in lines["redis.password"]
    assert "(not set)" in lines["redis.password"]
    assert lines["kafka.output.audit.topic"].rstrip().endswith("audit [bold]; also written kafka.audit.topic")
    assert "--checkpointing_interval" in lines["task.checkpointing.interval"]
    assert "…" not in lines["dedup-redis.host"]
    assert runtime.asked == []


def test_config_resolved_is_yaml_that_gives_the_same_run_again(runtime: Runtime, tmp_path: Path) -> None:
    file = tmp_path / "site.conf"
    file.write_text(
        'job.env = dev\nredis.password = "s3cret"\ntask.parallelism = 3\nkafka.zookeeper = "z:1"\nodd = 1\n'
    )
    result = call(
        "config", JOB, "--resolved", "--config", file, "--set", "kafka.audit.topic=a", "--set", "kafka.groupId=a: #b"
    )
    assert result.exit_code == 0
    assert "s3cret" not in result.output
    values = yaml.safe_load(result.stdout)
    assert values["kafka.input.topic"] == "dev.content.postpublish.request"
    assert values["kafka.output.audit.topic"] == "a"
    assert values["kafka.groupId"] == "a: #b"
    assert values["redis.password"] == "********"
    assert values["dedup-redis.password"] == "********"
    assert values["task.parallelism"] == 3
    lines = result.stdout.splitlines()
    assert f"job.env: dev  # file {file}" in lines
    assert "redis.port: 6379  # default" in lines
    assert "#   --parallelism=3" in lines
    assert [line for line in lines if line.startswith("#   kafka.zookeeper: z:1  (")]
    assert "#   odd" in lines
    assert "odd" in result.stderr

    again = tmp_path / "again.yaml"
    again.write_text(result.stdout)
    repeated = yaml.safe_load(call("config", JOB, "--resolved", "--config", again).stdout)
    assert repeated == values


def test_config_resolved_keeps_each_value_on_its_line(runtime: Runtime) -> None:
    result = call("config", JOB, "--resolved", "--set", f"kafka.groupId={'long group ' * 40}x\ny")
    assert yaml.safe_load(result.stdout)["kafka.groupId"].startswith("long group long group")


# package, stack, demo


def test_package_hands_over_the_jar_and_the_options(runtime: Runtime, tmp_path: Path) -> None:
    jar = tmp_path / "made" / "job.jar"
    assert call("package", JOB, "--out", jar, "--set", "redis.port=7", "--", "--parallelism=2").exit_code == 0
    [(group, out, options)] = runtime.asked
    [member] = group.members
    assert (member.job.NAME, group.name, group.names_steps) == (JOB, JOB, False)
    assert (member.loaded.settings.redis_port, out, options) == (7, jar, ["--parallelism=2"])
    assert jar.parent.is_dir()


def test_stack_gets_its_arguments_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = typer.Typer()
    seen: list[Any] = []

    @stack.command()
    def up(services: list[str], env: str = "dev") -> None:
        seen.append((services, env))

    @stack.command()
    def fail() -> None:
        raise typer.Exit(1)

    monkeypatch.setitem(sys.modules, "deploy.local.command_line", SimpleNamespace(app=stack))
    assert call("stack", "up", "kafka", "redis", "--env", "test").exit_code == 0
    assert seen == [(["kafka", "redis"], "test")]
    assert call("stack", "fail").exit_code == 1
    assert call("stack", "--help").exit_code == 0
    assert "up" in call("stack", "--help").output
    assert call("stack", "sideways").exit_code == 2


def test_demo_gets_its_arguments_and_gives_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    demo = SimpleNamespace(main=lambda arguments: seen.append(arguments) or 1)
    monkeypatch.setitem(sys.modules, "deploy.local.demo", demo)
    assert call("demo", "--keep").exit_code == 1
    assert seen == [["--keep"]]


@pytest.mark.parametrize("command", ["stack", "demo"])
def test_without_the_local_stack_the_rest_works(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("pipelines.command_line.importlib.import_module", missing)
    result = call(command)
    assert result.exit_code == 2
    assert "checkout of the project" in result.stderr
