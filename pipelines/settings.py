"""Settings of the jobs: what keys there are, and how they are read from files, overrides and defaults.

A job's settings are a frozen pydantic model whose fields carry upstream's dotted key as alias, so that a configuration
file written for the upstream jobs works here (spec: core §3). ``load`` reads YAML, JSON and HOCON files, nested or
dotted, lays ``--set`` overrides on top, and says where every value came from.
"""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo


class UsageError(ValueError):
    """The command was called in a way that can not work. Exit code 2; the message names the way out."""


class SettingsError(UsageError):
    """The configuration is wrong. The message names the key, where its value came from, and the way out."""


def key(name: str, default: Any = ..., meaning: str = "", *, seed_names: Sequence[str] = (), **limits: Any) -> Any:
    """A field of a settings model.

    ``name`` is upstream's dotted key, ``seed_names`` are other names that operators may know it by (the real name wins
    when both are set; spec: core §3.4). ``{env}`` in a textual ``default`` stands for the value of ``job.env``. Without
    ``default`` the key is mandatory. ``limits`` are pydantic's constraints (``ge``, ``le``, ``min_length``, …).
    """
    return Field(
        default,
        alias=name,
        validation_alias=AliasChoices(name, *seed_names),
        description=meaning,
        **limits,
    )


# Servers that are another one, as a whole, unless a configuration names their host (spec: core §3.2, §3.3)
_REDIS_PARTS = ("host", "port", "password", "tls")
_CASSANDRA_PARTS = ("host", "port", "isMultiDCEnabled", "datacenter", "username", "password", "tls")
_SAME_SERVER = {
    **dict.fromkeys(("dedup-redis", "dp-redis", "redis-meta"), ("redis", _REDIS_PARTS)),
    "ml-cassandra": ("lms-cassandra", _CASSANDRA_PARTS),
}


class JobSettings(BaseModel):
    """What every job has. Field by field: the key, its type, its default and its meaning.

    Built from keys (``Settings(**{"job.env": "dev"})``) or from attribute names (``Settings(job_env="dev")``). Raises
    pydantic's ``ValidationError`` for a missing, ill-typed or unknown key. ``None`` for a key means: not set.
    """

    model_config = ConfigDict(
        frozen=True, populate_by_name=True, extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True
    )

    job_env: str = key("job.env", "local", "name of the environment: first part of topics and groups", min_length=1)
    logs_format: Literal["text", "json"] = key(
        "logs.format", "text", "text, or json: one object a line, of the command and of the workers on Flink"
    )
    dead_letters_max_share: float = key(
        "dead-letters.max-share",
        0.9,
        "the job stops when more of the last 2,000 records of a worker's step became dead letters; 1: never",
        gt=0,
        le=1,
    )
    dead_letters_max_in_a_row: int = key(
        "dead-letters.max-in-a-row",
        1_000,
        "the job stops when so many records in a row became dead letters in a worker's step; 0: never",
        ge=0,
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        given = _by_real_name(cls, data)
        env = given.get("job.env", cls.model_fields["job_env"].default)
        for prefix, (other, parts) in _SAME_SERVER.items():
            if f"{prefix}.host" not in given:
                given |= {
                    f"{prefix}.{part}": given[f"{other}.{part}"]
                    for part in parts
                    if f"{other}.{part}" in given
                    and f"{prefix}.{part}" not in given
                    and f"{prefix}.{part}" in keys(cls)
                }
        for name, field in keys(cls).items():
            if name not in given and isinstance(field.default, str) and "{env}" in field.default:
                given[name] = field.default.replace("{env}", str(env))
            elif isinstance(given.get(name), str) and type_name(field.annotation) == "text":
                given[name] = given[name].replace("{{env}}", str(env))  # as the documents write it
        return given

    @field_validator("*", mode="before")
    @classmethod
    def _no_silent_conversions(cls, value: Any, info: ValidationInfo) -> Any:
        kind = type_name(cls.model_fields[info.field_name or ""].annotation)
        if kind in ("whole number", "number") and isinstance(value, bool):
            raise ValueError(f"must be a {kind}")
        if kind == "secret text" and not isinstance(value, str | SecretStr | None):
            raise ValueError("must be text: put the value in quotes")
        return value


class KafkaSettings(JobSettings):
    """The topic that a job reads, and how. A job gives the group and the topic their defaults."""

    kafka_broker_servers: str = key(
        "kafka.broker-servers", "localhost:9092", "Kafka brokers: host:port[,host:port…]", min_length=1
    )
    kafka_group_id: str = key("kafka.groupId", ..., "consumer group", min_length=1)
    kafka_input_topic: str = key("kafka.input.topic", ..., "topic that is read", min_length=1)
    kafka_auto_offset_reset: str | None = key(
        "kafka.auto.offset.reset",
        None,
        "where a group without committed offsets begins: earliest or latest; not set: Kafka's default (latest)",
        pattern="^(earliest|latest|none)$",
    )


class OptionalFailedTopicSettings(KafkaSettings):
    """Of a job that knew no dead letters upstream: they are written where a topic is named."""

    failed_topic: str | None = key(
        "kafka.failed.topic", None, "dead letters; not set: they are logged and counted", min_length=1
    )
    # of a job that does nothing but call a service, so many failures in a row say that the service is away
    dead_letters_max_in_a_row: int = key(
        "dead-letters.max-in-a-row",
        100,
        "the job stops when so many records in a row became dead letters in a worker's step; 0: never",
        ge=0,
    )

    @model_validator(mode="after")
    def _failed_apart(self) -> OptionalFailedTopicSettings:
        if self.failed_topic == self.kafka_input_topic:
            raise ValueError(
                "kafka.failed.topic: is the topic that the job reads (kafka.input.topic), so what fails would come "
                "back for ever. Name another one, or leave it out."
            )
        return self


class DryRunSettings(JobSettings):
    """For jobs that can say what they would do. Stands after ``KafkaSettings`` among a job's bases."""

    dry_run: bool = key(
        "dry_run",
        False,
        "read and report, change nothing; from Kafka with a group of its own (-dry-run), whose offsets are new: "
        "set kafka.auto.offset.reset, too",
    )

    @field_validator("kafka_group_id", check_fields=False)
    @classmethod
    def _of_its_own(cls, group: str, info: ValidationInfo) -> str:
        """What a dry run has read is still to be done by the job's own group."""
        return f"{group}-dry-run" if info.data.get("dry_run") else group


class CassandraSettings(JobSettings):
    """The Cassandra cluster of the LMS."""

    lms_cassandra_host: str = key(
        "lms-cassandra.host", "localhost", "Cassandra: one contact point, or several with commas", min_length=1
    )
    lms_cassandra_port: int = key("lms-cassandra.port", 9042, "Cassandra's port", ge=1, le=65535)
    lms_cassandra_is_multi_dc_enabled: bool = key(
        "lms-cassandra.isMultiDCEnabled", False, "ask the nodes of the local data centre only, in turn"
    )
    lms_cassandra_datacenter: str | None = key(
        "lms-cassandra.datacenter", None, "name of the local data centre; not set: that of the contact point"
    )
    lms_cassandra_username: str | None = key("lms-cassandra.username", None, "user, where Cassandra wants one")
    lms_cassandra_password: SecretStr | None = key("lms-cassandra.password", None, "password of that user")
    lms_cassandra_tls: bool = key("lms-cassandra.tls", False, "connect over TLS")


class MlCassandraSettings(CassandraSettings):
    """The Cassandra cluster of the ML services. Without ``ml-cassandra.host`` it is that of the LMS, as a whole."""

    ml_cassandra_host: str = key(
        "ml-cassandra.host",
        "localhost",
        "Cassandra: one contact point, or several with commas; not set: the cluster of lms-cassandra.*",
        min_length=1,
    )
    ml_cassandra_port: int = key("ml-cassandra.port", 9042, "its port", ge=1, le=65535)
    ml_cassandra_is_multi_dc_enabled: bool = key(
        "ml-cassandra.isMultiDCEnabled",
        False,
        "ask the nodes of the local data centre only, in turn; lms-cassandra.isMultiDCEnabled does the same",
    )
    ml_cassandra_datacenter: str | None = key(
        "ml-cassandra.datacenter", None, "name of the local data centre; not set: that of the contact point"
    )
    ml_cassandra_username: str | None = key("ml-cassandra.username", None, "user, where it wants one")
    ml_cassandra_password: SecretStr | None = key("ml-cassandra.password", None, "password of that user")
    ml_cassandra_tls: bool = key("ml-cassandra.tls", False, "connect to it over TLS")


class RedisSettings(JobSettings):
    """The main Redis server."""

    redis_host: str = key("redis.host", "localhost", "Redis server", min_length=1)
    redis_port: int = key("redis.port", 6379, "its port", ge=1, le=65535)
    redis_password: SecretStr | None = key("redis.password", None, "its password, where it wants one")
    redis_tls: bool = key("redis.tls", False, "connect to it over TLS")


class DedupRedisSettings(RedisSettings):
    """The Redis server that remembers what was handled. Without ``dedup-redis.host`` it is the main one, as a whole."""

    dedup_redis_host: str = key(
        "dedup-redis.host", "localhost", "Redis server of the checksums; not set: the server of redis.*", min_length=1
    )
    dedup_redis_port: int = key("dedup-redis.port", 6379, "its port", ge=1, le=65535)
    dedup_redis_password: SecretStr | None = key("dedup-redis.password", None, "its password, where it wants one")
    dedup_redis_tls: bool = key("dedup-redis.tls", False, "connect to it over TLS")


class DpRedisSettings(RedisSettings):
    """The Redis server of the data pipeline. Without ``dp-redis.host`` it is the main one, as a whole."""

    dp_redis_host: str = key(
        "dp-redis.host", "localhost", "Redis server of the unit metadata; not set: the server of redis.*", min_length=1
    )
    dp_redis_port: int = key("dp-redis.port", 6379, "its port", ge=1, le=65535)
    dp_redis_password: SecretStr | None = key("dp-redis.password", None, "its password, where it wants one")
    dp_redis_tls: bool = key("dp-redis.tls", False, "connect to it over TLS")


class MetaRedisSettings(RedisSettings):
    """The Redis server of user and content metadata. Without ``redis-meta.host`` it is the main one, as a whole."""

    redis_meta_host: str = key(
        "redis-meta.host", "localhost", "Redis server of the metadata; not set: the server of redis.*", min_length=1
    )
    redis_meta_port: int = key("redis-meta.port", 6379, "its port", ge=1, le=65535)
    redis_meta_password: SecretStr | None = key("redis-meta.password", None, "its password, where it wants one")
    redis_meta_tls: bool = key("redis-meta.tls", False, "connect to it over TLS")


class MongoSettings(JobSettings):
    """The MongoDB of the ML services."""

    ml_mongo_host: str = key(
        "ml-mongo.host",
        "localhost",
        "MongoDB: one host, asked itself, or those of a replica set with commas, whose primary is looked for",
        min_length=1,
    )
    ml_mongo_port: int = key("ml-mongo.port", 27017, "its port", ge=1, le=65535)
    ml_mongo_database: str = key("ml-mongo.database", "ml-service", "its database", pattern=r'^[^/\\. "$\x00]+$')
    ml_mongo_username: str | None = key("ml-mongo.username", None, "user, where MongoDB wants one")
    ml_mongo_password: SecretStr | None = key("ml-mongo.password", None, "password of that user")
    ml_mongo_tls: bool = key("ml-mongo.tls", False, "connect over TLS")


class CloudSettings(JobSettings):
    """Where the files are that are kept with a placeholder in place of the cloud store's address."""

    cloud_base_url: str = key("cloud_storage_base_url", "", "address of the cloud store, https://host")
    cloud_cname_url: str = key("cloud_storage_cname_url", "", "the same by another name; wins when it is not empty")
    cloud_placeholder: str = key(
        "cloud_store_base_path_placeholder", "CLOUD_BASE_PATH", "what stands for address and container"
    )
    cloud_container: str = key("content_cloud_storage_container", "", "container of the contents")


class FileStoreSettings(JobSettings):
    """The object store that files of contents are copied to, and how they are downloaded."""

    store_kind: str = key(
        "cloud_storage_type", "azure", "azure, aws, s3, oci, cephs3, minio, gcloud, or local: files in a directory"
    )
    store_container: str = key("cloud_storage_container", ..., "its container of contents", min_length=1)
    store_key: SecretStr | None = key("cloud_storage_key", None, "account, access key id or client e-mail")
    store_secret: SecretStr | None = key("cloud_storage_secret", None, "its secret")
    store_endpoint: str | None = key("cloud_storage_endpoint", None, "address of the store; a directory for local")
    store_read_base: str | None = key(
        "cloudstorage.read_base_path", None, "what the addresses of files begin with, for local only"
    )
    download_duration: str = key(
        "media_download_duration",
        "300 seconds",
        "longest time of one download",
        pattern=r"^\s*[1-9]\d{0,5}\s*(s|seconds?|m|minutes?)\s*$",
    )

    @property
    def download_seconds(self) -> float:
        number, unit = re.findall(r"\d+|[a-z]+", self.download_duration)
        return float(number) * (60 if unit.startswith("m") else 1)


class Neo4jSettings(JobSettings):
    """The graph of contents."""

    neo4j_route_path: str = key("neo4j.routePath", "bolt://localhost:7687", "Neo4j: bolt://host:port", min_length=1)
    neo4j_graph: str = key("neo4j.graph", "domain", "label of the nodes that are read", min_length=1)
    neo4j_username: str | None = key("neo4j.username", None, "user, where Neo4j wants one")
    neo4j_password: SecretStr | None = key("neo4j.password", None, "password of that user")


# Keys of ours and of upstream that set an option of Beam's Flink runner, and what they mean.
FLINK_OPTIONS: dict[str, tuple[str, str]] = {
    "flink.master": ("flink_master", "Flink's REST address, host:port"),
    "flink.worker-pool": ("environment_config", "address of the Python worker pool beside each TaskManager, host:port"),
    "task.checkpointing.interval": ("checkpointing_interval", "period of the checkpoints, ms"),
    "task.checkpointing.pause.between.seconds": (
        "min_pause_between_checkpoints",
        "least pause between checkpoints, milliseconds in spite of its name",
    ),
    "task.checkpointing.timeout": ("checkpoint_timeout_millis", "longest time of a checkpoint, ms"),
}
_TEXT_OPTIONS = ("flink.master", "flink.worker-pool")
_STATE_BACKEND = re.compile(r"job\.enable\.distributed\.checkpointing|job\.statebackend\..+")
_PARALLELISM = re.compile(r"(.+\.)?parallelism")
_STATE_PARTS = ("job.statebackend.blob.storage.container", "job.statebackend.blob.storage.account")

# Known keys that do nothing here, and why.
NOT_USED_HERE: tuple[tuple[str, str], ...] = (
    (r"kafka\.zookeeper", "Kafka's clients do not talk to ZooKeeper"),
    (r"kafka\.producer\..+", "upstream does not read it either; Beam's Kafka writer keeps its own limits"),
    (r"job\.bb", "upstream does not read it either"),
    (r"job\.statebackend\..+", "only with job.enable.distributed.checkpointing: true"),
    (r"job\.enable\.distributed\.checkpointing", "checkpoints go where the Flink cluster's configuration says"),
    (
        r"task\.checkpointing\.compressed",
        "the Flink cluster sets it (execution.checkpointing.snapshot-compression)",
    ),
    (
        r"task\.restart-strategy\..+",
        "the Flink cluster's restart strategy holds; with so few attempts an outage would leave the job down",
    ),
    (r"redis\.connection\..+", "upstream does not read it either; there is one pool per worker process"),
    (r"redisdb\.connection\.timeout", "upstream does not read it either"),
    (
        r"(redis|redis-meta|dp-redis|dedup-redis)\.(host|port|password|tls|database\..+)"
        r"|(lms|ml)-cassandra\.(host|port|isMultiDCEnabled|keyspace|username|password|tls|datacenter)"
        r"|ml-mongo\.(host|port|database|username|password|tls)|neo4j\.(routePath|graph)|es\.basePath"
        r"|schema\.(basePath|supportedVersion)(\..+)?|service\.[\w.]+\.(basePath|entity|rcApiKey)"
        r"|media_download_duration|sunbird_instance_name|kafka\.(broker-servers|groupId|input\.topic)"
        r"|(content|framework|user)_read_api|cert_\w+|cloud_\w+|content_cloud_storage_container|content\.read\.api"
        r"|program-service-baseUrl|source\.baseUrl|cloudstorage\..+|timezone|task\.window\.time"
        r"|(sunbird_)?mail_server_\w+|sms_\w+|fcm_\w+|sunbird_(msg_91|notification|fcm)_\w+"
        r"|content_auto_creator\.(allowed_\w+|content_\w+|bulk_\w+|artifact_\w+|temp_\w+|api_\w+|maxIteration|g_\w+"
        r"|gdrive\.\w+|\w+_backoff_delay|actions)|object\.(cloud_props|override_manifest_props)|search_(exists_)?fields"
        r"|batch_search_api|sunbird_(sso|keycloak)_\w+",
        "this job does not need it",
    ),
)

_SECRET = re.compile(
    r"password|secret|token|api_?key|storage_key|auth_key|account_key|service_account|91_auth", re.IGNORECASE
)
MASK = "********"

SettingsType = TypeVar("SettingsType", bound=JobSettings)


class Resolved(NamedTuple):
    """A value that a run would use, and where it came from: ``default``, ``file NAME`` or ``--set``."""

    value: Any
    origin: str


class NotUsed(NamedTuple):
    """A known key that was given and does nothing here."""

    key: str
    value: Any
    why: str


@dataclass(frozen=True)
class Loaded:
    """A job's configuration. ``resolved`` holds typed values (secrets as ``SecretStr``) under the real dotted keys.

    ``unknown`` are the keys that nobody knows, ``warnings`` is what an operator should read once, ``beam_options`` are
    options of Beam's Flink runner that the configuration asks for (names without dashes, e.g. ``parallelism``).
    """

    settings: JobSettings
    resolved: dict[str, Resolved]
    unknown: list[str]
    not_used_here: list[NotUsed]
    beam_options: dict[str, Any]
    warnings: list[str]


class _Given(NamedTuple):
    value: Any
    origin: str


def load(
    settings_type: type[SettingsType],
    files: Sequence[Path],
    overrides: Sequence[str],
    environ: Mapping[str, str],
    job_name: str = "",
) -> Loaded:
    """Reads a job's configuration: defaults, then ``files`` in order, then ``overrides`` (``KEY=VALUE`` texts).

    ``environ`` counts only where a file says ``${NAME}`` or ``${?NAME}``. ``job_name`` is appended to the checkpoint
    root. Raises ``SettingsError`` (a file that can not be read; every missing, ill-typed or unresolved key) or
    ``UsageError`` (an override that is not ``KEY=VALUE``). spec: core §3.1
    """
    warnings: list[str] = []
    given = _layers(settings_type, [Path(path) for path in files], overrides, environ, warnings)
    mine: dict[str, tuple[str, _Given]] = {}
    for name, field in keys(settings_type).items():
        accepted = next((accepted for accepted in _accepted(field) if accepted in given), None)
        if accepted:
            mine[name] = (accepted, given[accepted])
    try:
        settings = settings_type.model_validate({name: item.value for name, (_, item) in mine.items()})
    except ValidationError as error:
        raise SettingsError(_explain(error, settings_type, mine, files)) from None

    attributes = _names(settings_type)
    resolved = {
        name: Resolved(getattr(settings, attributes[name]), _origin(name, mine)) for name in keys(settings_type)
    }
    beam_options, consumed = _beam_options(given, job_name)
    resolved |= {name: Resolved(*given[name]) for name in sorted(consumed - attributes.keys())}
    not_used_here, unknown = _others({n: item for n, item in given.items() if n not in attributes.keys() | consumed})
    warnings += [
        f"{other} ({given[other].origin}): not used, because its real name {name} is set too ({mine[name][1].origin})"
        for name, field in keys(settings_type).items()
        for other in seed_names(field)
        if other in given and mine[name][0] != other
    ]
    warnings += [_unknown(name, given[name].origin, [*attributes, *FLINK_OPTIONS]) for name in unknown]
    return Loaded(settings, resolved, unknown, not_used_here, beam_options, warnings)


def keys(settings_type: type[JobSettings]) -> dict[str, FieldInfo]:
    """The real dotted keys of a settings model, in the order of its fields."""
    return {_accepted(field)[0]: field for field in settings_type.model_fields.values()}


def seed_names(field: FieldInfo) -> list[str]:
    """The other names by which a field's key may be written."""
    return _accepted(field)[1:]


def type_name(annotation: Any) -> str:
    """A type in the words of an operator: ``text``, ``whole number``, ``true or false``, ``list of text``, …"""
    if get_origin(annotation) in (Union, UnionType):
        return type_name(next(part for part in get_args(annotation) if part is not type(None)))
    if get_origin(annotation) in (list, tuple):
        return f"list of {type_name(get_args(annotation)[0])}"
    if get_origin(annotation) is Literal:
        return "text"
    return {str: "text", SecretStr: "secret text", int: "whole number", float: "number", bool: "true or false"}.get(
        annotation, getattr(annotation, "__name__", str(annotation))
    )


def masked(name: str, value: Any) -> Any:
    """``value`` as it may be shown: secrets, and passwords inside of addresses, are replaced."""
    if isinstance(value, SecretStr):
        return MASK
    if _SECRET.search(name) and value not in (None, ""):
        return MASK
    return re.sub(r"(://)[^/@\s:]+:[^/@\s]+@", rf"\1{MASK}@", value) if isinstance(value, str) else value


def _accepted(field: FieldInfo) -> list[str]:
    choices = field.validation_alias
    return [str(c) for c in choices.choices] if isinstance(choices, AliasChoices) else [str(field.alias)]


def _names(settings_type: type[JobSettings]) -> dict[str, str]:
    """Every accepted dotted key -> attribute."""
    return {
        accepted: attribute for attribute, field in settings_type.model_fields.items() for accepted in _accepted(field)
    }


def _by_real_name(settings_type: type[JobSettings], data: Mapping[str, Any]) -> dict[str, Any]:
    """The given values under their real keys; unknown names stay, so that the model can refuse them."""
    given = {name: value for name, value in data.items() if value is not None}
    for attribute, field in settings_type.model_fields.items():
        real, *others = _accepted(field)
        for other in [attribute, *others]:
            if other in given and other != real:
                given.setdefault(real, given[other])
                del given[other]
    return given


# Reading


def _layers(
    settings_type: type[JobSettings],
    files: Sequence[Path],
    overrides: Sequence[str],
    environ: Mapping[str, str],
    warnings: list[str],
) -> dict[str, _Given]:
    """Every key that a file or an override sets, with the value that counts."""
    from_command = _overrides(settings_type, overrides)
    given: dict[str, _Given] = {}
    trees = [_read(path, environ, warnings) for path in files]
    for position, path in enumerate(files):
        values = trees[position]
        if _is_hocon(path):
            later = dict(leaf for tree in trees[position + 1 :] for leaf in _plain_leaves(tree))
            earlier = _substitution_defaults(settings_type) | {name: item.value for name, item in given.items()}
            values = _resolve_hocon(path, values, earlier, later | from_command, environ)
        given |= {name: _Given(value, f"file {path}") for name, value in _flatten(values) if value is not None}
    given |= {name: _Given(value, "--set") for name, value in from_command.items()}
    return {name: item for name, item in given.items() if item.value is not None}


def _is_hocon(path: Path) -> bool:
    return Path(path).suffix.lower() in (".conf", ".hocon")


def _read(path: Path, environ: Mapping[str, str], warnings: list[str]) -> Any:
    """A mapping, nested or dotted (YAML, JSON: substituted), or an unresolved HOCON tree."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file. Give --config the path of a YAML, JSON or HOCON file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: can not be read as text: {error}") from None
    if _is_hocon(path):
        return _parse_hocon(path, text, warnings)
    try:
        content = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "YAML (.json and .conf are read as JSON and HOCON)"
        raise SettingsError(f"{path}: is not {kind}{_place(error)}") from None
    if content is None:
        return {}
    _must_be_mapping(path, content)
    try:
        return _nest(path, content, environ)
    except RecursionError:
        raise SettingsError(f"{path}: a value of it contains itself") from None


def _must_be_mapping(path: Path, content: Any) -> None:
    if not isinstance(content, Mapping):
        raise SettingsError(f"{path}: must hold keys and values, e.g. `kafka.broker-servers: localhost:9092`")


def _nest(path: Path, content: Mapping[Any, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: [_substitute(path, name, v, environ) for v in value]
        if isinstance(value, list)
        else _substitute(path, name, value, environ)
        for name, value in _flatten(content)
    }


def _substitute(path: Path, name: str, value: Any, environ: Mapping[str, str]) -> Any:
    """``${NAME}`` and ``${?NAME}`` inside a text; a text that is nothing but an unset ``${?NAME}`` is no value."""
    if not isinstance(value, str):
        return value
    unset_alone = re.fullmatch(r"\$\{\?(\w+)\}", value)
    if unset_alone and unset_alone[1] not in environ:
        return None

    def variable(match: re.Match[str]) -> str:
        optional, variable_name = match[1], match[2]
        if variable_name not in environ and not optional:
            raise SettingsError(
                f"{name}: {path} refers to ${{{variable_name}}}, which is not set in the environment. "
                f"Set it, write ${{?{variable_name}}} if it may be missing, or remove the line."
            )
        return environ.get(variable_name, "")

    return re.sub(r"\$\{(\??)(\w+)\}", variable, value)


def _parse_hocon(path: Path, text: str, warnings: list[str]) -> Any:
    from pyhocon import ConfigFactory  # noqa: PLC0415 - only for files that need it

    if re.search(r"""^\s*include\s+(required\()?\s*(url\(|"(https?|ftp)://)""", text, re.MULTILINE):
        raise SettingsError(f"{path}: includes an address of the network. Fetch that file and include it by its path.")
    for included in re.findall(r"""^\s*include\s+(?:file\()?\s*"([^"]+)"\)?""", text, re.MULTILINE):
        if not (path.parent / included).exists():
            warnings.append(
                f'{path}: include "{included}": no such file beside it; the defaults of this project hold '
                "for what it would set (sunbird-pipelines config JOB lists them)"
            )
    for variable in _in_quotes(text):
        warnings.append(f"{path}: HOCON replaces nothing inside of quotes: {variable} stays as it is. Leave them out.")
    logging.getLogger("pyhocon").setLevel(logging.ERROR)  # it would say again what was just said
    try:
        tree = ConfigFactory.parse_string(text, basedir=str(path.parent), resolve=False)
    except Exception as error:  # pyparsing's and pyhocon's errors have no common ancestor
        raise SettingsError(f"{path}: is not HOCON{_place(error)}") from None
    _must_be_mapping(path, tree)
    return tree


def _in_quotes(hocon: str) -> list[str]:
    return [
        variable
        for line in hocon.splitlines()
        if not line.lstrip().startswith(("#", "//"))
        for quoted in re.findall(r'"(?:[^"\\]|\\.)*"', line)
        for variable in re.findall(r"\$\{[^}]*\}", quoted)
    ]


def _resolve_hocon(
    path: Path, tree: Any, earlier: Mapping[str, Any], later: Mapping[str, Any], environ: Mapping[str, str]
) -> dict[str, Any]:
    """The file's own keys with ``${other.key}`` and ``${VARIABLE}`` replaced.

    As with upstream's library, references are resolved when all layers are known: later files and overrides win over
    the file itself, earlier files and defaults fill its gaps, the environment is last.
    """
    from pyhocon.config_parser import ConfigParser  # noqa: PLC0415
    from pyhocon.exceptions import ConfigException  # noqa: PLC0415

    own = {name for name, _ in _flatten(tree)}
    for name, value in later.items():
        if value is not None and _fits(name, own - {name}):
            tree.put(name, value)
    for name, value in [*earlier.items(), *((n, v) for n, v in environ.items() if re.fullmatch(r"\w+", n))]:
        if name not in later and _fits(name, own):
            tree.put(name, value)
    try:
        ConfigParser.resolve_substitutions(tree)
    except ConfigException as error:
        raise SettingsError(
            f"{path}: {_one_line(error).rstrip('.')}. "
            "Set that key or environment variable, or write ${?…} if it may be missing."
        ) from None
    return {
        name: value
        for name, value in _flatten(tree)
        if any(name == mine or name.startswith(f"{mine}.") for mine in own)
    }


def _fits(name: str, taken: set[str]) -> bool:
    """Whether ``name`` can stand in a tree beside ``taken``: neither the same, nor above, nor below."""
    return not any(name == t or name.startswith(f"{t}.") or t.startswith(f"{name}.") for t in taken)


def _flatten(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        dotted = prefix + str(name).strip('"')
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{dotted}.")
        else:
            yield dotted, value


def _plain_leaves(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in _flatten(tree) if isinstance(value, str | int | float | bool))


def _substitution_defaults(settings_type: type[JobSettings]) -> dict[str, Any]:
    """What ``${other.key}`` may find although no file sets it: upstream's base file has these."""
    return {
        name: field.default
        for name, field in keys(settings_type).items()
        if isinstance(field.default, str | int | bool) and "{env}" not in str(field.default)
    }


def _overrides(settings_type: type[JobSettings], overrides: Sequence[str]) -> dict[str, Any]:
    attributes = _names(settings_type)
    result: dict[str, Any] = {}
    for text in overrides:
        name, equals, raw = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(f"--set {name}: must be KEY=VALUE, e.g. --set redis.host=localhost")
        try:
            value = yaml.safe_load(raw) if raw else ""
        except yaml.YAMLError:
            value = raw
        if isinstance(value, dict):
            value = raw
        if name in attributes and not isinstance(value, str | list | None):
            field = settings_type.model_fields[attributes[name]]
            if type_name(field.annotation) in ("text", "secret text"):
                value = raw  # a password of 0123 or a topic called `on` is meant as it is written
        result[name] = value
    return result


# Judging


def _beam_options(given: Mapping[str, _Given], job_name: str) -> tuple[dict[str, Any], set[str]]:
    """The options of Beam's Flink runner that the keys ask for, and the keys that were used for it."""
    options: dict[str, Any] = {}
    consumed: set[str] = set()
    for name, (option, _) in FLINK_OPTIONS.items():
        if name in given:
            consumed.add(name)
            options[option] = str(given[name].value) if name in _TEXT_OPTIONS else _whole(name, given[name])
    if "environment_config" in options:
        options["environment_type"] = "EXTERNAL"
    # Beam knows one parallelism for all steps: the largest that the steps ask for
    steps = {name: _whole(name, item) for name, item in given.items() if _PARALLELISM.fullmatch(name)}
    if steps:
        options["parallelism"] = max(steps.values())
        consumed |= steps.keys()
    enabled = given.get("job.enable.distributed.checkpointing")
    if enabled and _true_or_false("job.enable.distributed.checkpointing", enabled):
        root = _checkpoint_root(given)
        if root:
            options["state_backend"] = "filesystem"
            options["state_backend_storage_path"] = f"{root.rstrip('/')}/{job_name}".rstrip("/")
            consumed |= {name for name in given if _STATE_BACKEND.fullmatch(name)}
    return options, consumed


def _checkpoint_root(given: Mapping[str, _Given]) -> str | None:
    if "job.statebackend.base.url" in given:
        return str(given["job.statebackend.base.url"].value)
    if all(part in given for part in _STATE_PARTS):
        container, account = (given[part].value for part in _STATE_PARTS)
        directory = given.get("job.statebackend.blob.storage.checkpointing.dir")
        return f"wasbs://{container}@{account}/{directory.value if directory else 'flink-jobs'}"
    return None


def _whole(name: str, item: _Given) -> int:
    try:
        if isinstance(item.value, bool):
            raise ValueError
        number = int(item.value)
    except (TypeError, ValueError):
        raise SettingsError(_wrong(name, item, "must be a whole number")) from None
    if number < 0:
        raise SettingsError(_wrong(name, item, "must not be negative"))
    return number


def _true_or_false(name: str, item: _Given) -> bool:
    text = str(item.value).lower()
    if text not in ("true", "false"):
        raise SettingsError(_wrong(name, item, "must be true or false"))
    return text == "true"


def _wrong(name: str, item: _Given, what: str) -> str:
    shown = "" if isinstance(item.value, SecretStr) or _SECRET.search(name) else f", not {masked(name, item.value)!r}"
    way_out = "Correct it there" if item.origin == "--set" else f"Correct it there or pass --set {name}=VALUE"
    return f"{name} ({item.origin}): {what}{shown}. {way_out}."


def _origin(name: str, mine: Mapping[str, tuple[str, _Given]]) -> str:
    if name in mine:
        return mine[name][1].origin
    prefix, _, part = name.partition(".")
    other, parts = _SAME_SERVER.get(prefix, ("", ()))
    same = part in parts and f"{prefix}.host" not in mine
    return f"as {other}.{part}" if same and f"{other}.{part}" in mine else "default"


def _explain(
    error: ValidationError,
    settings_type: type[JobSettings],
    mine: Mapping[str, tuple[str, _Given]],
    files: Sequence[Path],
) -> str:
    lines = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        if not fault["loc"]:  # keys that must fit each other: the validator names them
            lines.append(fault["msg"].removeprefix("Value error, "))
            continue
        name = str(fault["loc"][0])
        field = keys(settings_type).get(name)
        if fault["type"] == "missing":
            read = ", ".join(str(path) for path in files) or "no file"
            lines.append(
                f"{name}: is missing and has no default ({read} read). "
                f"Write it into a --config file or pass --set {name}=VALUE."
            )
        elif name in mine and field:
            accepted, item = mine[name]
            if type_name(field.annotation) == "secret text":
                item = _Given(SecretStr(""), item.origin)
            lines.append(_wrong(accepted, item, _demand(fault["type"], fault["msg"], type_name(field.annotation))))
    return "\n".join(lines)


def _demand(fault: str, message: str, kind: str) -> str:
    """What a value must be, in an operator's words."""
    if fault == "string_type" or kind == "secret text":
        return "must be text (put the value in quotes)"
    if fault.endswith(("_parsing", "_type", "_from_float")):
        return f"must be {kind if kind == 'true or false' else 'a ' + kind}"
    return message.removeprefix("Value error, ").replace("Input should", "must").replace("String should", "must")


def _others(given: Mapping[str, _Given]) -> tuple[list[NotUsed], list[str]]:
    """The keys that no field takes: those that are known to do nothing here, and those that nobody knows."""
    not_used, unknown = [], []
    for name, item in given.items():
        why = next((why for pattern, why in NOT_USED_HERE if re.fullmatch(pattern, name)), None)
        if why is None:
            unknown.append(name)
        else:
            not_used.append(NotUsed(name, masked(name, item.value), why))
    return not_used, unknown


def _unknown(name: str, origin: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f"{name} ({origin}): unknown key, ignored" + (f"; did you mean {near[0]}?" if near else "")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _place(error: Exception) -> str:
    """Where a parser stopped. Its own message may quote the file, and with it a password."""
    mark = getattr(error, "problem_mark", None)  # YAML counts from 0, JSON and HOCON from 1
    line, column = (
        (mark.line + 1, mark.column + 1) if mark else (getattr(error, "lineno", None), getattr(error, "col", None))
    )
    return f": look at line {line}, column {column or getattr(error, 'colno', 1)}" if line else ""
