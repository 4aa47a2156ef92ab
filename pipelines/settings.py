"""Settings of the jobs: what keys there are.

A job's settings are a frozen pydantic model whose fields carry upstream's dotted key as alias, so that a configuration
file written for the upstream jobs works here (spec: core §3). ``pipelines.configuration`` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
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
SAME_SERVER = {
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
        for prefix, (other, parts) in SAME_SERVER.items():
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


_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


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

    @field_validator("*")
    @classmethod
    def _can_be_on_kafka(cls, value: Any, info: ValidationInfo) -> Any:
        """Else nobody would know before the first record is written, and with each restart again."""
        name = info.field_name or ""
        if name in ("kafka_group_id", "kafka_input_topic") and not value.strip():
            raise ValueError("must not be empty")
        if name.endswith("_topic") and value and not _TOPIC.fullmatch(value):
            raise ValueError("must be the name of a topic: letters, digits, and . _ - only")
        return value

    @model_validator(mode="after")
    def _topics_apart(self) -> KafkaSettings:
        """Outputs are told apart by their topics, and what fails must not be read again."""
        names: dict[str, str] = {}
        for attribute, field in type(self).model_fields.items():
            topic = getattr(self, attribute)
            if not attribute.endswith("_topic") or attribute == "kafka_input_topic" or not topic:
                continue
            name = str(field.alias)
            if attribute == "failed_topic" and topic == self.kafka_input_topic:
                raise ValueError(
                    f"{name}: is the topic that the job reads (kafka.input.topic), so what fails would come back for "
                    "ever. Name another one."
                )
            if topic in names:
                raise ValueError(f"{name}: is the topic of {names[topic]}, too. Each needs one of its own.")
            names[topic] = name
        return self


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


class HttpSettings(JobSettings):
    """How long services are waited for (spec: core §8)."""

    http_connect_timeout: int = key(
        "http.connect.timeout.seconds", 10, "longest wait for a connection to a service", ge=1
    )
    http_read_timeout: int = key(
        "http.read.timeout.seconds", 60, "longest wait for a service's answer, and for each pause in it", ge=1
    )


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


_SECRET = re.compile(
    r"password|secret|token|api_?key|storage_key|auth_key|account_key|service_account|acct_cred|91_auth", re.IGNORECASE
)
MASK = "********"


def keys(settings_type: type[JobSettings]) -> dict[str, FieldInfo]:
    """The real dotted keys of a settings model, in the order of its fields."""
    return {accepted_names(field)[0]: field for field in settings_type.model_fields.values()}


def seed_names(field: FieldInfo) -> list[str]:
    """The other names by which a field's key may be written."""
    return accepted_names(field)[1:]


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


def is_secret(name: str) -> bool:
    """Whether a key of this name holds a secret."""
    return _SECRET.search(name) is not None


def masked(name: str, value: Any) -> Any:
    """``value`` as it may be shown: secrets, and passwords inside of addresses, are replaced."""
    if isinstance(value, SecretStr):
        return MASK
    if is_secret(name) and value not in (None, ""):
        return MASK
    return re.sub(r"(://)[^/@\s:]*:[^/@\s]+@", rf"\1{MASK}@", value) if isinstance(value, str) else value


def accepted_names(field: FieldInfo) -> list[str]:
    """The names by which a field's key may be written, the real one first."""
    choices = field.validation_alias
    return [str(c) for c in choices.choices] if isinstance(choices, AliasChoices) else [str(field.alias)]


def attributes_of(settings_type: type[JobSettings]) -> dict[str, str]:
    """The model's attributes by every accepted dotted key."""
    return {
        accepted: attribute
        for attribute, field in settings_type.model_fields.items()
        for accepted in accepted_names(field)
    }


def _by_real_name(settings_type: type[JobSettings], data: Mapping[str, Any]) -> dict[str, Any]:
    """The given values under their real keys; unknown names stay, so that the model can refuse them."""
    given = {name: value for name, value in data.items() if value is not None}
    for attribute, field in settings_type.model_fields.items():
        real, *others = accepted_names(field)
        for other in [attribute, *others]:
            if other in given and other != real:
                given.setdefault(real, given[other])
                del given[other]
    return given
