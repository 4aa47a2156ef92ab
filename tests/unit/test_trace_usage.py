"""`sunbird-pipelines trace`: its usage, and whose settings are whose."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines.command_line import app
from pipelines.settings import UsageError
from pipelines.trace import stores
from pipelines.trace_settings import trace_settings

WHO = ("--user", "learner-1", "--course", "do_1", "--batch", "B")


def call(*arguments: Any):
    return CliRunner().invoke(app, ["trace", *(str(argument) for argument in arguments)])


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--user"),
        (["--user", "u", "--course", "c"], "--batch"),
        (["--user", " ", "--course", "c", "--batch", "b"], "--user: is blank"),
        (["--user", "u\udce4", "--course", "c", "--batch", "b"], "--user: has characters that no id has"),
        ([*WHO, "--config", "nothing.yaml"], "nothing.yaml: no such file"),
        ([*WHO, "--config", "relation-cache-updater=x.conf"], "no such job. The jobs: activity-aggregate-updater"),
        ([*WHO, "--set", "kafka.groupId=x"], "--config JOB=FILE"),
        ([*WHO, "--set", "redis.port=abc"], "redis.port (--set): must be a whole number"),
        ([*WHO, "--kafka-records", "-1"], "--kafka-records"),
        ([*WHO, "--kafka-seconds", "0"], "--kafka-seconds"),
    ],
)
def test_wrong_usage_asks_nobody(monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str) -> None:
    walked: list[Any] = []
    command = importlib.import_module("pipelines.trace_command")
    monkeypatch.setattr(command, "trace", lambda *given: walked.append(given))
    result = call(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert walked == []


def test_help_shows_by_example() -> None:
    result = call("--help")
    assert result.exit_code == 0
    assert "sunbird-pipelines trace --user" in result.stdout


def test_the_command_line_loads_nothing_of_it_before_it_is_asked_for() -> None:
    code = (
        "import sys, pipelines.command_line; sys.exit('apache_beam' in sys.modules or 'pipelines.trace' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# settings


def test_defaults_need_no_file() -> None:
    settings, warnings = trace_settings([], [], {})
    assert warnings == []
    assert settings.check.kafka_input_topic == "local.issue.certificate.request"
    assert settings.issue.rc_base_path is None
    assert stores(settings).credentials is not None


def test_one_file_for_all_jobs(tmp_path: Path) -> None:
    file = write(tmp_path / "site.yaml", "job.env: dev\nlms-cassandra.host: cas\nredis.host: r1\nsurely.unknown: 1\n")
    settings, warnings = trace_settings([str(file)], ["redis.port=7"], {})
    assert [s.lms_cassandra_host for s in (settings.progress, settings.check, settings.issue)] == ["cas"] * 3
    assert (settings.check.redis_meta_host, settings.progress.redis_port) == ("r1", 7)
    assert settings.progress.failed_topic == "dev.activity.agg.failed"
    assert settings.issue.kafka_group_id == "dev-certificate-generator-group"
    assert warnings == ["surely.unknown: unknown key, ignored"]


def test_topics_and_groups_count_where_it_is_known_whose_they_are(tmp_path: Path) -> None:
    """Upstream's files have the same keys for them in each job."""
    site = write(tmp_path / "site.yaml", "job.env: dev\nkafka.groupId: whose\n")
    by_name = write(tmp_path / "activity-aggregate-updater.conf", 'kafka { groupId = "old-group", output.x = 1 }\n')
    given = write(tmp_path / "gen.yaml", "kafka.input.topic: mine\nredis.host: r2\nlms-cassandra.host: c2\n")
    files = [str(site), str(by_name), f"collection-certificate-generator={given}"]
    settings, warnings = trace_settings(files, [], {})
    assert settings.progress.kafka_group_id == "old-group"
    assert settings.check.kafka_group_id == "dev-collection-cert-pre-processor-group"
    assert settings.issue.kafka_input_topic == "mine"
    assert settings.check.kafka_input_topic == "dev.issue.certificate.request"
    assert (settings.progress.redis_host, settings.check.redis_host) == ("r2", "r2")
    assert [warning for warning in warnings if "whose it is" in warning] == [
        f"kafka.groupId (file {site}): not used, as it is not said whose it is; write --config JOB=FILE"
    ]


def test_a_job_s_own_file_wins(tmp_path: Path) -> None:
    one = write(tmp_path / "one.yaml", "lms-cassandra.host: one\n")
    other = write(tmp_path / "other.yaml", "lms-cassandra.host: other\n")
    settings, _ = trace_settings([f"collection-cert-pre-processor={one}", str(other)], [], {})
    assert settings.check.lms_cassandra_host == "one"
    assert settings.progress.lms_cassandra_host == "other"


def test_what_is_wrong_in_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"redis\.port"):
        trace_settings([str(write(tmp_path / "site.yaml", "redis.port: abc\n"))], [], {})


def test_no_client_waits_for_long() -> None:
    opened = stores(trace_settings([], [], {})[0])
    assert opened.tables.connect_timeout <= 5
    assert opened.relation_cache.connect_timeout <= 5
    assert opened.contents.http.read_timeout <= 10
    assert opened.users.http.connect_timeout <= 5
    assert opened.collections.http.read_timeout <= 10
    assert opened.credentials.http.read_timeout <= 10
