"""Settings: keys, defaults, aliases, files, overrides, and what is said when something is wrong."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from pipelines import jobs
from pipelines.configuration import Loaded, load
from pipelines.settings import (
    CassandraSettings,
    DedupRedisSettings,
    DpRedisSettings,
    JobSettings,
    KafkaSettings,
    MlCassandraSettings,
    SettingsError,
    UsageError,
    accepted_names,
    key,
    keys,
    masked,
    seed_names,
    type_name,
)
from pipelines.stores import ml_cassandra


class Settings(KafkaSettings, CassandraSettings, DedupRedisSettings):
    """A job with one key of every kind."""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.coursebatch.job.request", "input")
    kafka_group_id: str = key("kafka.groupId", "{env}-progress-group", "group")
    certificate_topic: str = key(
        "kafka.output.certissue.topic", "{env}.issue.certificate.request", "", seed_names=["kafka.certissue.topic"]
    )
    batch_size: int = key("threshold.batch.write.size", 10, "", ge=1)
    dedup: bool = key("activity.input.dedup.enabled", True, "")
    kinds: list[str] = key("user.self.signin.types", ["google"], "")
    search_base_path: str | None = key("service.search.basePath", None, "")
    shards: int = key("task.window.shards", 1_000, "")


class Mandatory(JobSettings):
    base_path: str = key("service.lms.basePath", ..., "LMS")


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


def loaded(*files: Path, sets: tuple[str, ...] = (), environ: dict[str, str] | None = None, **more: Any) -> Loaded:
    return load(more.pop("settings_type", Settings), files, sets, environ or {}, **more)


# Defaults


def test_defaults_follow_the_environment_name() -> None:
    settings = Settings()
    assert settings.kafka_broker_servers == "localhost:9092"
    assert (settings.lms_cassandra_host, settings.lms_cassandra_port) == ("localhost", 9042)
    assert (settings.redis_host, settings.redis_port) == ("localhost", 6379)
    assert settings.kafka_input_topic == "local.coursebatch.job.request"
    assert Settings(**{"job.env": "dev"}).kafka_group_id == "dev-progress-group"
    assert Settings(job_env="dev").certificate_topic == "dev.issue.certificate.request"
    assert Settings(job_env="dev", kafka_group_id="{env}").kafka_group_id == "{env}"
    assert Settings(job_env="dev", kafka_group_id="{{env}}-g").kafka_group_id == "dev-g"


def test_settings_are_frozen_travel_to_workers_and_refuse_typing_errors() -> None:
    settings = Settings(redis_password="s3cret")
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301
    assert "s3cret" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.redis_host = "other"
    with pytest.raises(ValidationError):
        Settings(redis_hots="other")


def test_a_second_redis_is_the_main_one_as_a_whole_until_it_is_named() -> None:
    same = Settings(redis_host="redis-1", redis_port=6380, redis_password="s3cret", redis_tls=True)
    assert (same.dedup_redis_host, same.dedup_redis_port, same.dedup_redis_tls) == ("redis-1", 6380, True)
    assert same.dedup_redis_password == SecretStr("s3cret")

    own = Settings(redis_host="redis-1", redis_port=6380, redis_password="s3cret", dedup_redis_host="redis-2")
    assert (own.dedup_redis_host, own.dedup_redis_port, own.dedup_redis_password) == ("redis-2", 6379, None)


def test_the_cassandra_of_ml_is_that_of_the_lms_until_it_is_named() -> None:
    """program-user-info §5"""
    lms = {"lms_cassandra_host": "a", "lms_cassandra_port": 9043, "lms_cassandra_is_multi_dc_enabled": True}
    same = ml_cassandra(MlCassandraSettings(**lms, lms_cassandra_username="u", lms_cassandra_password="p"))
    assert (same.host, same.port, same.multi_dc, same.username, same.password) == ("a", 9043, True, "u", "p")
    own = ml_cassandra(MlCassandraSettings(**lms, ml_cassandra_host="b"))
    assert (own.host, own.port, own.multi_dc) == ("b", 9042, True), "either key says it"
    assert ml_cassandra(MlCassandraSettings(**{"ml-cassandra.isMultiDCEnabled": True})).multi_dc
    default = ml_cassandra(MlCassandraSettings())
    assert (default.host, default.port, default.multi_dc) == ("localhost", 9042, False)


def test_the_origin_of_a_second_redis_says_that_it_is_the_main_one(write) -> None:
    file = write("c.yaml", {"redis": {"host": "redis-1"}})

    class WithDatabase(DpRedisSettings):
        redis_database: int = key("redis.database.index", 10, "")
        dp_redis_database: int = key("dp-redis.database.index", 5, "")

    resolved = loaded(file, settings_type=WithDatabase, sets=("redis.database.index=7",)).resolved
    assert resolved["dp-redis.database.index"] == (5, "default")
    assert resolved["dp-redis.host"] == ("redis-1", "as redis.host")
    assert resolved["dp-redis.port"] == (6379, "default")


# Formats

NESTED = {"job": {"env": "dev"}, "kafka": {"groupId": "g", "input.topic": "in"}, "redis": {"port": 6380}}
DOTTED = {"job.env": "dev", "kafka.groupId": "g", "kafka.input.topic": "in", "redis.port": 6380}
HOCON = """
job.env = dev
kafka { groupId = "g", input { topic = in } }
redis.port = 6380
"""
QUOTED_HOCON = """
"job.env" = dev   # a comment
"kafka.groupId": "g"   // another
kafka { "input.topic" = in }
redis { port: "6380" }
"""
YAML = "job: {env: dev}\nkafka.groupId: g\nkafka:\n  input.topic: in\nredis:\n  port: 6380\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", NESTED),
        ("c.json", DOTTED),
        ("c.yaml", NESTED),
        ("c.yml", YAML),
        ("c", DOTTED),
        ("c.conf", HOCON),
        ("c.hocon", QUOTED_HOCON),
        ("c.conf", NESTED),
    ],
)
def test_every_format_nested_or_dotted_means_the_same(write, name: str, content: Any) -> None:
    result = loaded(write(name, content))
    settings = result.settings
    assert (settings.job_env, settings.kafka_group_id, settings.kafka_input_topic) == ("dev", "g", "in")
    assert settings.redis_port == 6380
    assert settings.certificate_topic == "dev.issue.certificate.request"
    assert result.unknown == []
    assert result.warnings == []


def test_lists_booleans_and_numbers_in_every_format(write) -> None:
    values = {"user.self.signin.types": ["a", "b"], "activity.input.dedup.enabled": False, "kafka.groupId": 7}
    hocon = 'user.self.signin.types = ["a", b]\nactivity.input.dedup.enabled = false\nkafka.groupId = 7'
    for file in (write("c.yaml", values), write("c.json", values), write("c.conf", hocon)):
        settings = loaded(file).settings
        assert settings.kinds == ["a", "b"]
        assert settings.dedup is False
        assert settings.kafka_group_id == "7"


def test_a_byte_order_mark_is_no_part_of_a_key(write) -> None:
    for name in ("c.yaml", "c.json", "c.conf"):
        assert loaded(write(name, '\ufeff{"redis.host": "x"}')).settings.redis_host == "x"


def test_null_means_not_set_and_an_empty_file_sets_nothing(write) -> None:
    for file in (write("c.yaml", "redis.host:\n"), write("c.json", {"redis": {"host": None}}), write("e.yaml", "")):
        assert loaded(file).resolved["redis.host"] == ("localhost", "default")


UPSTREAM_STYLE = """
    include "base-config.conf"

    // topics of the job
    kafka {
      input.topic = ${job.env}".coursebatch.job.request"
      output.audit.topic = ${job.env}".telemetry.raw"
      output.certissue.topic = ${job.env}".issue.certificate.request"
      groupId = ${job.env}"-activity-aggregate-group"
    }

    task {
      window.shards = 1
      checkpointing.interval = 300000
      checkpointing.pause.between.seconds = 90000
      restart-strategy.attempts = 3
      restart-strategy.delay = 240000 # in milliseconds
      consumer.parallelism = 1
      dedup.parallelism = 2
    }

    threshold.batch.write.size = 5

    lms-cassandra {
      keyspace = "sunbird_courses"
      consumption.table = "user_content_consumption"
    }

    redis {
      database {
        relationCache.id = 10
      }
    }

    dedup-redis {
      host = dedup.example
      port = 6379
      database.index = 13
    }

    activity {
      input.dedup.enabled = true
    }

    service {
      search {
        basePath = "http://"${search.host}":9000"
      }
    }
    search.host = search
"""

BASE = """
    kafka {
      broker-servers = "kafka-1:9092,kafka-2:9092"
      zookeeper = "localhost:2181"
    }
    job {
      env = "prod"
      enable.distributed.checkpointing = true
      statebackend {
        blob {
          storage {
            account = "account.blob.example"
            container = "kp-checkpoints"
            checkpointing.dir = "flink-jobs"
          }
        }
        base.url = "wasbs://"${job.statebackend.blob.storage.container}"@"${job.statebackend.blob.storage.account}"/"${job.statebackend.blob.storage.checkpointing.dir}
      }
    }
    task {
      parallelism = 4
      checkpointing.compressed = true
    }
    redis {
      host = redis-1
      connection { max = 2, idle.min = 1 }
    }
    es.basePath = "localhost:9200"
    lms-cassandra { host = cassandra-1, isMultiDCEnabled = false }
"""


def test_an_upstream_file_with_its_base_beside_it(write) -> None:
    write("base-config.conf", dedent(BASE))
    result = loaded(write("job.conf", dedent(UPSTREAM_STYLE)), job_name="activity-aggregate-updater")
    settings = result.settings
    assert settings.kafka_broker_servers == "kafka-1:9092,kafka-2:9092"
    assert settings.kafka_input_topic == "prod.coursebatch.job.request"
    assert settings.kafka_group_id == "prod-activity-aggregate-group"
    assert settings.search_base_path == "http://search:9000"
    assert (settings.redis_host, settings.dedup_redis_host) == ("redis-1", "dedup.example")
    assert (settings.batch_size, settings.shards) == (5, 1)
    assert result.beam_options == {
        "checkpointing_interval": 300_000,
        "min_pause_between_checkpoints": 90_000,
        "parallelism": 4,
        "state_backend": "filesystem",
        "state_backend_storage_path": "wasbs://kp-checkpoints@account.blob.example/flink-jobs/activity-aggregate-updater",
    }
    why = {item.key: item.why for item in result.not_used_here}
    assert {"kafka.zookeeper", "task.checkpointing.compressed", "redis.connection.max", "es.basePath"} <= why.keys()
    assert "restart strategy" in why["task.restart-strategy.attempts"]
    assert result.warnings == [w for w in result.warnings if "unknown key" in w]
    assert set(result.unknown) == {
        "kafka.output.audit.topic",
        "lms-cassandra.consumption.table",
        "search.host",
    }


def test_an_upstream_file_without_its_base_runs_on_the_defaults_and_says_so(write) -> None:
    result = loaded(write("job.conf", dedent(UPSTREAM_STYLE)))
    assert result.settings.kafka_input_topic == "local.coursebatch.job.request"
    assert result.settings.kafka_broker_servers == "localhost:9092"
    assert any("base-config.conf" in warning and "defaults" in warning for warning in result.warnings)
    assert loaded(write("job.conf", dedent(UPSTREAM_STYLE)), sets=("job.env=dev",)).settings.kafka_group_id == (
        "dev-activity-aggregate-group"
    )


def test_a_reference_sees_what_other_files_set(write) -> None:
    job = write("job.conf", 'kafka.groupId = ${job.env}"-g"\nredis.host = ${host.of.redis}')
    before = write("before.yaml", "host.of.redis: redis-7")
    after = write("after.yaml", "job: {env: site}")
    settings = loaded(before, job, after).settings
    assert (settings.kafka_group_id, settings.redis_host) == ("site-g", "redis-7")


def test_a_reference_to_nothing_is_an_error_that_names_it(write) -> None:
    with pytest.raises(SettingsError, match=r"(?s)job\.conf.*nowhere\.host"):
        loaded(write("job.conf", "redis.host = ${nowhere.host}"))


def test_includes_are_read_relative_to_the_file_and_never_from_the_network(write) -> None:
    write("shared/more.conf", "redis.host = included")
    assert loaded(write("job.conf", 'include "shared/more.conf"')).settings.redis_host == "included"
    with pytest.raises(SettingsError, match="network"):
        loaded(write("job.conf", 'include url("http://config.example/base.conf")'))
    with pytest.raises(SettingsError, match=r"job\.conf"):
        loaded(write("job.conf", 'include required("missing.conf")'))


# The environment


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.yaml", "redis.host: ${MY_REDIS}\nkafka.groupId: a-${?MY_GROUP}-z\nredis.port: ${?MY_PORT}\n"),
        ("c.json", {"redis": {"host": "${MY_REDIS}", "port": "${?MY_PORT}"}, "kafka.groupId": "a-${?MY_GROUP}-z"}),
        ("c.conf", "redis { host = ${MY_REDIS}\n port = ${?MY_PORT} }\nkafka.groupId = a-${?MY_GROUP}-z"),
    ],
)
def test_the_environment_counts_where_a_file_says_so(write, name: str, content: Any) -> None:
    file = write(name, content)
    full = loaded(file, environ={"MY_REDIS": "redis-9", "MY_GROUP": "g", "MY_PORT": "7000", "REDIS_HOST": "x"}).settings
    assert (full.redis_host, full.redis_port, full.kafka_group_id) == ("redis-9", 7000, "a-g-z")

    part = loaded(file, environ={"MY_REDIS": "redis-9"})
    assert part.resolved["redis.port"] == (6379, "default")
    assert part.settings.kafka_group_id == "a--z"

    with pytest.raises(SettingsError, match="MY_REDIS") as caught:
        loaded(file)
    assert name in str(caught.value)


def test_an_unset_optional_variable_leaves_what_was_set_before(write) -> None:
    file = write("c.conf", "redis.host = first\nredis.host = ${?MY_REDIS}")
    assert loaded(file).settings.redis_host == "first"
    assert loaded(file, environ={"MY_REDIS": "second"}).settings.redis_host == "second"
    for later in (write("l.conf", "redis.host = ${?MY_REDIS}"), write("l.yaml", "redis.host: ${?MY_REDIS}")):
        assert loaded(file, later).settings.redis_host == "first"


@pytest.mark.parametrize("form", ["sunbird_instance = ${?sunbird_instance}", "sunbird_instance: ${?sunbird_instance}"])
def test_a_key_that_refers_to_the_variable_of_its_own_name(write, form: str) -> None:
    """As deploy/config/site.yaml has them, in every format."""

    class Named(JobSettings):
        name: str = key("sunbird_instance", "Sunbird", "")

    for file in (write("c.conf", form), write("c.yaml", form.replace(" =", ":"))):
        assert loaded(file, settings_type=Named).settings.name == "Sunbird"
        earlier = write("e.yaml", {"sunbird_instance": "Mine"})
        assert loaded(earlier, file, settings_type=Named).settings.name == "Mine"
        assert loaded(file, environ={"sunbird_instance": "Theirs"}, settings_type=Named).settings.name == "Theirs"
    beside = write("c.conf", f"job.env = dev\n{form}\nlogs.format = json")
    assert loaded(beside, settings_type=Named).settings.logs_format == "json"


def test_a_value_from_the_environment_is_taken_as_it_is(write) -> None:
    file = write("c.yaml", "redis.password: ${MY_PASSWORD}")
    password = loaded(file, environ={"MY_PASSWORD": "0${x}'\""}).settings.redis_password
    assert password.get_secret_value() == "0${x}'\""


def test_the_environment_does_not_become_configuration(write) -> None:
    result = loaded(write("c.conf", "redis.port = 1"), environ={"redis_host": "x", "PATH": "/bin", "job": "y"})
    assert result.settings.redis_host == "localhost"
    assert result.unknown == []


def test_a_variable_of_the_environment_does_not_hide_the_keys_below_its_name(write) -> None:
    own = write("c.conf", 'kafka.groupId = ${job.env}"-g"\nredis.host = ${redis-meta.host}')
    other = write("d.yaml", {"redis-meta.host": "meta"})
    settings = loaded(other, own, environ={"job": "y", "kafka": "x"}).settings
    assert settings.kafka_group_id == "local-g"
    assert settings.redis_host == "meta"


def test_quotes_around_a_variable_in_hocon_are_pointed_out(write) -> None:
    result = loaded(write("c.conf", 'redis.host = "${MY_REDIS}"\nkafka.groupId = ${job.env}"-"${job.env}"-g"'))
    assert result.settings.redis_host == "${MY_REDIS}"
    assert result.settings.kafka_group_id == "local-local-g"
    assert [w for w in result.warnings if "${MY_REDIS}" in w] == result.warnings


# Precedence and names


def test_defaults_then_files_in_order_then_overrides(write) -> None:
    first = write("a.yaml", {"redis.host": "a", "redis.port": 1, "kafka.groupId": "a"})
    second = write("b.conf", "redis.host = b\nredis.port = 2")
    result = loaded(first, second, sets=("redis.host=c",))
    assert result.resolved["redis.host"] == ("c", "--set")
    assert result.resolved["redis.port"] == (2, f"file {second}")
    assert result.resolved["kafka.groupId"] == ("a", f"file {first}")
    assert result.resolved["redis.tls"] == (False, "default")
    assert loaded(second, first).settings.redis_host == "a"


@pytest.mark.parametrize(
    ("text", "attribute", "value"),
    [
        ("redis.port=7", "redis_port", 7),
        ("activity.input.dedup.enabled=false", "dedup", False),
        ("user.self.signin.types=[a, b]", "kinds", ["a", "b"]),
        ("kafka.groupId=007", "kafka_group_id", "007"),
        ("kafka.groupId=on", "kafka_group_id", "on"),
        ("kafka.groupId=a=b", "kafka_group_id", "a=b"),
        ("kafka.groupId='quoted'", "kafka_group_id", "quoted"),
        ("kafka.output.certissue.topic=", "certificate_topic", ""),
        ("service.search.basePath=http://search:9000", "search_base_path", "http://search:9000"),
        ("redis.password=0123", "redis_password", SecretStr("0123")),
        ("redis.password=a: b", "redis_password", SecretStr("a: b")),
        ("redis.password=#a", "redis_password", SecretStr("#a")),
        ("redis.password=a #b", "redis_password", SecretStr("a #b")),
        ("redis.password=[a]", "redis_password", SecretStr("[a]")),
        ("redis.password=&a b", "redis_password", SecretStr("&a b")),
        ("redis.password='#a", "redis_password", SecretStr("'#a")),
        ("redis.password=null", "redis_password", None),
    ],
)
def test_an_override_is_read_as_yaml_and_texts_stay_as_written(text: str, attribute: str, value: Any) -> None:
    assert getattr(loaded(sets=(text,)).settings, attribute) == value


def test_null_on_the_command_line_takes_a_value_of_a_file_back(write) -> None:
    assert loaded(write("c.yaml", "redis.port: 1"), sets=("redis.port=null",)).settings.redis_port == 6379


def test_a_seed_name_is_accepted_and_the_real_name_wins(write) -> None:
    """spec: core §15.6"""
    seed = write("seed.yaml", "kafka.certissue.topic: from-seed")
    result = loaded(seed)
    assert result.settings.certificate_topic == "from-seed"
    assert result.unknown == []

    both = write("both.yaml", "kafka.output.certissue.topic: real\nkafka.certissue.topic: from-seed")
    result = loaded(both)
    assert result.settings.certificate_topic == "real"
    assert any("kafka.certissue.topic" in warning for warning in result.warnings)
    assert loaded(both, seed).settings.certificate_topic == "real"
    assert Settings(**{"kafka.certissue.topic": "x"}).certificate_topic == "x"
    assert Settings(**{"kafka.certissue.topic": "x", "kafka.output.certissue.topic": "y"}).certificate_topic == "y"


def test_a_seed_name_is_only_known_to_the_job_that_has_it() -> None:
    assert loaded(sets=("kafka.audit.topic=x",)).unknown == ["kafka.audit.topic"]


# What is wrong


def test_a_missing_key_is_named_with_the_files_and_the_way_out(write) -> None:
    file = write("c.yaml", "job.env: dev")
    with pytest.raises(SettingsError) as caught:
        loaded(file, settings_type=Mandatory)
    message = str(caught.value)
    assert message.startswith("service.lms.basePath: is missing")
    assert str(file) in message
    assert "--set service.lms.basePath=" in message


@pytest.mark.parametrize(
    ("content", "demand"),
    [
        ({"redis.port": "abc"}, "a whole number"),
        ({"redis.port": True}, "a whole number"),
        ({"redis.port": 1.5}, "a whole number"),
        ({"redis.port": 0}, "greater than or equal to 1"),
        ({"redis.tls": "perhaps"}, "true or false"),
        ({"kafka.groupId": True}, "must be text"),
        ({"kafka.groupId": ["a"]}, "must be text"),
        ({"kafka.groupId": " "}, "not be empty"),
        ({"kafka.input.topic": ""}, "not be empty"),
        # what a reference to another key is in HOCON only
        ({"kafka.output.certissue.topic": "${job.env}.issue"}, "name of a topic"),
        ({"kafka.output.certissue.topic": "../issue"}, "name of a topic"),
        ({"user.self.signin.types": "a"}, "a list of text"),
        ({"kafka.auto.offset.reset": "newest"}, "earliest"),
        ({"task.parallelism": "two"}, "a whole number"),
        ({"task.checkpointing.interval": -1}, "negative"),
        ({"job.enable.distributed.checkpointing": "perhaps"}, "true or false"),
    ],
)
def test_an_ill_typed_key_is_named_with_its_file_and_what_it_must_be(write, content: dict, demand: str) -> None:
    file = write("c.json", content)
    with pytest.raises(SettingsError) as caught:
        loaded(file)
    message = str(caught.value)
    name = next(iter(content))
    assert message.startswith(f"{name} (file {file}): ")
    assert demand in message
    assert "\n" not in message


@pytest.mark.parametrize(("env", "name"), [("a-b", "question.keyspace"), ("a b", "kafka.input.topic")])
def test_a_default_that_the_environment_makes_a_wrong_one_is_named(env: str, name: str) -> None:
    own = ("cloud_storage_container=c", "source.baseUrl=http://s", "schema.basePath=http://d", f"job.env={env}")
    with pytest.raises(SettingsError) as caught:
        loaded(sets=own, settings_type=jobs.load("auto-creator-v2").Settings)
    [line] = [line for line in str(caught.value).splitlines() if line.startswith(f"{name}: ")]
    assert f"'{env}" in line
    assert "job.env" in line
    assert f"--set {name}=" in line


def test_all_faults_are_reported_at_once_under_the_name_that_was_written(write) -> None:
    file = write("c.json", {"redis.port": "a", "lms-cassandra.port": "b", "kafka.certissue.topic": False})
    with pytest.raises(SettingsError) as caught:
        loaded(file)
    names = {line.split(" ")[0] for line in str(caught.value).splitlines()}
    assert names == {"redis.port", "lms-cassandra.port", "kafka.certissue.topic"}


def test_a_password_never_stands_in_a_message(write) -> None:
    file = write("c.yaml", "redis.password: 98765")
    with pytest.raises(SettingsError, match="quotes") as caught:
        loaded(file)
    assert "98765" not in str(caught.value)
    for name, text in (("b.yaml", "redis.password: 'abcde: ["), ("b.json", '{"p": "abcde'), ("b.conf", "p = abcde }{")):
        with pytest.raises(SettingsError) as caught:
            loaded(write(name, text))
        assert name in str(caught.value)
        assert "abcde" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.yaml", "a: [1", "YAML"),
        ("c.yaml", "- a\n- b\n", "keys and values"),
        ("c.json", "{'a': 1}", "JSON"),
        ("c.json", "[1]", "keys and values"),
        ("c.yaml", "a: &a {b: *a}", "contains itself"),
        ("c.conf", "a = {", "HOCON"),
        ("c.conf", "[1]", "keys and values"),
        ("c.conf", "a = ${b}\nb = ${a}", "cycles"),
    ],
)
def test_a_file_that_is_not_what_it_claims_is_an_error(write, name: str, content: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        loaded(write(name, content))
    assert name in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nothing\.yaml: no such file"):
        loaded(tmp_path / "nothing.yaml")
    with pytest.raises(SettingsError, match="can not be read"):
        loaded(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"binary\.yaml"):
        loaded(tmp_path / "binary.yaml")


@pytest.mark.parametrize("text", ["redis.host", "=x", ""])
def test_an_override_must_be_key_and_value(text: str) -> None:
    with pytest.raises(UsageError, match="KEY=VALUE"):
        loaded(sets=(text,))


def test_unknown_keys_are_warned_about_once_with_a_suggestion(write) -> None:
    result = loaded(write("c.yaml", {"redis": {"hots": "x"}, "strange": 1}), sets=("strange=2",))
    assert result.unknown == ["redis.hots", "strange"]
    assert [w for w in result.warnings if "redis.hots" in w and "did you mean redis.host?" in w]
    assert len([w for w in result.warnings if w.startswith("strange (--set)")]) == 1


# Flink


def test_keys_of_flink_become_options_of_beam() -> None:
    result = loaded(
        sets=(
            "flink.master=flink:8081",
            "flink.worker-pool=localhost:50000",
            "task.checkpointing.timeout=600000",
            "task.consumer.parallelism=2",
            "task.activity.agg.parallelism=3",
        )
    )
    assert result.beam_options == {
        "flink_master": "flink:8081",
        "environment_config": "localhost:50000",
        "environment_type": "EXTERNAL",
        "checkpoint_timeout_millis": 600_000,
        "parallelism": 3,
    }
    assert result.resolved["flink.master"] == ("flink:8081", "--set")
    assert result.unknown == []


def test_distributed_checkpoints_only_when_they_are_enabled(write) -> None:
    parts = {
        "job.statebackend.blob.storage.account": "a",
        "job.statebackend.blob.storage.container": "c",
        "job.enable.distributed.checkpointing": False,
    }
    off = loaded(write("c.yaml", parts), job_name="j")
    assert off.beam_options == {}
    assert {item.key for item in off.not_used_here} == parts.keys()
    on = loaded(write("c.yaml", parts), sets=("job.enable.distributed.checkpointing=true",), job_name="j")
    assert on.beam_options["state_backend_storage_path"] == "wasbs://c@a/flink-jobs/j"
    s3 = ("job.enable.distributed.checkpointing=true", "job.statebackend.base.url=s3://bucket/dir/")
    assert loaded(sets=s3, job_name="j").beam_options["state_backend_storage_path"] == "s3://bucket/dir/j"


def test_the_options_are_ones_that_beam_and_its_flink_runner_know() -> None:
    """Names that only the Java side knows are listed in Beam's table of Flink runner options."""
    options = pytest.importorskip("apache_beam.options.pipeline_options")
    parsed = options.PipelineOptions(
        ["--flink_master=f:1", "--environment_type=EXTERNAL", "--environment_config=e:1", "--parallelism=2"]
    )
    known = parsed.view_as(options.FlinkRunnerOptions)
    assert (known.flink_master, known.parallelism) == ("f:1", 2)
    assert parsed.view_as(options.PortableOptions).environment_config == "e:1"


def test_keys_of_other_stores_in_a_shared_file_are_no_cause_for_a_warning(write) -> None:
    result = loaded(
        write(
            "stack.yaml",
            {
                "redis-meta.host": "localhost",
                "dp-redis": {"host": "localhost", "port": 1, "database.index": 5},
                "ml-mongo": {"host": "localhost", "port": 27017, "database": "ml-survey"},
                "neo4j.routePath": "bolt://localhost:7687",
                "es.basePath": "localhost:9200",
                "service.search.basePath": "http://localhost:1",
                "service.userorg.basePath": "http://localhost:1",
            },
        )
    )
    assert result.warnings == []
    assert {item.why for item in result.not_used_here} == {"this job does not need it"}


# Showing


def test_secrets_are_masked_by_type_by_name_and_inside_addresses() -> None:
    assert masked("redis.password", SecretStr("x")) == "********"
    assert masked("sunbird_sso_client_secret", "x") == "********"
    assert masked("service.rc.rcApiKey", "x") == "********"
    assert masked("redis.password", None) is None
    assert masked("ml-mongo.host", "mongodb://user:pass@host/db") == "mongodb://********@host/db"
    assert masked("redis.host", "redis://:pass@host") == "redis://********@host"
    assert masked("kafka.groupId", "g") == "g"


def test_a_model_tells_its_keys_types_and_other_names() -> None:
    described = keys(Settings)
    assert next(iter(described)) == "job.env"
    assert seed_names(described["kafka.output.certissue.topic"]) == ["kafka.certissue.topic"]
    kinds = {name: type_name(field.annotation) for name, field in described.items()}
    assert kinds["redis.port"] == "whole number"
    assert kinds["redis.password"] == "secret text"
    assert kinds["service.search.basePath"] == "text"
    assert kinds["user.self.signin.types"] == "list of text"
    assert kinds["redis.tls"] == "true or false"


# The jobs that run


@pytest.mark.parametrize("job", jobs.JOBS)
def test_a_secret_is_known_by_its_name_where_another_job_has_it_in_its_file(job: str) -> None:
    """A job's model does not know the types of keys that are not its own; `config --resolved` shows those, too."""
    secrets = {
        name
        for field in jobs.load(job).Settings.model_fields.values()
        if type_name(field.annotation) == "secret text"
        for name in accepted_names(field)
    }
    assert {name for name in secrets if masked(name, "x") == "x"} == set()


@pytest.mark.parametrize("job", jobs.JOBS)
def test_the_example_of_a_site_fits_every_job(job: str) -> None:
    example = Path(__file__).parents[2] / "deploy/config/site.yaml"
    result = loaded(example, settings_type=jobs.load(job).Settings, job_name=job)
    assert result.warnings == []
    assert result.settings.job_env == "dev"
    # not set in the environment
    assert not any(value for name, value in result.settings if name.endswith("password"))
    assert result.beam_options == {
        "flink_master": "flink-jobmanager:8081",
        "environment_config": "localhost:50000",
        "environment_type": "EXTERNAL",
        "parallelism": 1,
        "checkpointing_interval": 10_000,
    }


# addresses that nobody can guess
MANDATORY = {
    "cokreat-user-delete": ["program-service-baseUrl=http://program"],
    "collection-cert-pre-processor": ["cert_domain_url=https://dev.example.org"],
    "collection-certificate-generator": ["service.rc.basePath=http://rc"],
    "auto-creator-v2": [
        "source.baseUrl=http://source",
        "schema.basePath=http://schemas",
        "cloud_storage_container=contents",
    ],
    "content-auto-creator": [
        "service.content_service.basePath=http://content",
        "service.search.basePath=http://search",
        "cloud_storage_container=contents",
    ],
    "legacy-certificate-migrator": ["service.rc.basePath=http://rc"],
    "metrics-data-transformer": [
        "service.content.basePath=http://content",
        "service.sourcing.content.basePath=http://sourcing",
    ],
    "user-cache-updater-2.0": ["service.userorg.basePath=http://userorg", "service.taxonomy.basePath=http://taxonomy"],
    "user-deletion-cleanup": ["service.userorg.basePath=http://userorg"],
    "user-ownership-transfer": ["service.lms.basePath=http://lms", "service.userorg.basePath=http://userorg"],
}


@pytest.mark.parametrize("job", jobs.JOBS)
def test_a_job_runs_with_nothing_but_its_defaults(job: str) -> None:
    module = jobs.load(job)
    assert job == module.NAME
    assert module.__doc__
    needed = MANDATORY.get(job, [])
    given = dict(text.split("=") for text in needed)
    assert loaded(sets=needed, settings_type=module.Settings).settings == module.Settings(**given)
    for text in needed:
        with pytest.raises(SettingsError, match=re.escape(text.split("=")[0])):
            loaded(settings_type=module.Settings)
    assert all(field.description for field in keys(module.Settings).values())


WITH_FAILED_TOPIC = [job for job in jobs.JOBS if "failed_topic" in jobs.load(job).Settings.model_fields]


@pytest.mark.parametrize("job", WITH_FAILED_TOPIC)
def test_what_fails_does_not_go_to_the_topic_that_is_read(job: str) -> None:
    settings = jobs.load(job).Settings
    failed, read = (settings.model_fields[name].alias for name in ("failed_topic", "kafka_input_topic"))
    with pytest.raises(SettingsError, match=f"{re.escape(failed)}.*come back for ever"):
        loaded(sets=[*MANDATORY.get(job, []), f"{failed}=dev.one", f"{read}=dev.one"], settings_type=settings)


@pytest.mark.parametrize(
    ("job", "one", "other"),
    [
        ("activity-aggregate-updater", "kafka.output.audit.topic", "kafka.output.certissue.topic"),
        ("enrolment-reconciliation", "kafka.output.certissue.topic", "kafka.output.failed.topic"),
        ("assessment-aggregator", "kafka.output.certissue.topic", "kafka.failed.topic"),
        ("merge-user-courses", "kafka.output.course.batch.updater.topic", "kafka.output.failed.topic"),
    ],
)
def test_two_outputs_of_one_topic_are_refused_for_one_of_them_would_be_lost(job: str, one: str, other: str) -> None:
    with pytest.raises(SettingsError, match=f"{re.escape(other)}: is the topic of {re.escape(one)}, too"):
        loaded(sets=[f"{one}=dev.one", f"{other}=dev.one"], settings_type=jobs.load(job).Settings)
