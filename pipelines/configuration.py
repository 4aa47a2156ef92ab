"""A job's configuration: defaults, files and overrides, laid on top of each other.

``load`` reads YAML, JSON and HOCON files, nested or dotted, lays ``--set`` overrides on top, and says where every value
came from, what has no effect here, and what is wrong.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import SecretStr, ValidationError

from pipelines.configuration_files import flatten, is_hocon, plain_leaves, read, resolve_hocon
from pipelines.settings import (
    SAME_SERVER,
    JobSettings,
    SettingsError,
    UsageError,
    accepted_names,
    attributes_of,
    is_secret,
    keys,
    masked,
    seed_names,
    type_name,
)

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
# What YAML says of an override's text, too: its quotes, and that it is taken back.
_QUOTED_OR_NOTHING = re.compile(r"""\s*(["']|(null|~)?\s*$)""")
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
        r"|batch_search_api|sunbird_(sso|keycloak)_\w+|http\.(connect|read)\.timeout\.seconds",
        "this job does not need it",
    ),
)

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
        accepted = next((accepted for accepted in accepted_names(field) if accepted in given), None)
        if accepted:
            mine[name] = (accepted, given[accepted])
    try:
        settings = settings_type.model_validate({name: item.value for name, (_, item) in mine.items()})
    except ValidationError as error:
        raise SettingsError(_explain(error, settings_type, mine, files)) from None

    attributes = attributes_of(settings_type)
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


# Laying on top of each other


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
    trees = [read(path, environ, warnings) for path in files]
    for position, path in enumerate(files):
        values = trees[position]
        if is_hocon(path):
            later = dict(leaf for tree in trees[position + 1 :] for leaf in plain_leaves(tree))
            earlier = _substitution_defaults(settings_type) | {name: item.value for name, item in given.items()}
            values = resolve_hocon(path, values, earlier, later | from_command, environ)
        given |= {name: _Given(value, f"file {path}") for name, value in flatten(values) if value is not None}
    given |= {name: _Given(value, "--set") for name, value in from_command.items()}
    return {name: item for name, item in given.items() if item.value is not None}


def _substitution_defaults(settings_type: type[JobSettings]) -> dict[str, Any]:
    """What ``${other.key}`` may find although no file sets it: upstream's base file has these."""
    return {
        name: field.default
        for name, field in keys(settings_type).items()
        if isinstance(field.default, str | int | bool) and "{env}" not in str(field.default)
    }


def _overrides(settings_type: type[JobSettings], overrides: Sequence[str]) -> dict[str, Any]:
    attributes = attributes_of(settings_type)
    result: dict[str, Any] = {}
    for text in overrides:
        name, equals, raw = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(f"--set {name}: must be KEY=VALUE, e.g. --set redis.host=localhost")
        field = settings_type.model_fields[attributes[name]] if name in attributes else None
        if field and type_name(field.annotation) in ("text", "secret text") and not _QUOTED_OR_NOTHING.match(raw):
            # a password of 0123 or #a, a topic called `on` are meant as they are written
            result[name] = raw.strip()
            continue
        try:
            value = yaml.safe_load(raw) if raw else ""
        except yaml.YAMLError:
            value = raw
        if isinstance(value, dict):
            value = raw
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
    shown = "" if isinstance(item.value, SecretStr) or is_secret(name) else f", not {masked(name, item.value)!r}"
    way_out = "Correct it there" if item.origin == "--set" else f"Correct it there or pass --set {name}=VALUE"
    return f"{name} ({item.origin}): {what}{shown}. {way_out}."


def _origin(name: str, mine: Mapping[str, tuple[str, _Given]]) -> str:
    if name in mine:
        return mine[name][1].origin
    prefix, _, part = name.partition(".")
    other, parts = SAME_SERVER.get(prefix, ("", ()))
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
        elif field and "{env}" in str(field.default):
            default = field.default.replace("{env}", str(mine["job.env"][1].value if "job.env" in mine else ""))
            demand = _demand(fault["type"], fault["msg"], type_name(field.annotation))
            lines.append(
                f"{name}: {demand}, not {default!r}, which job.env makes its default. "
                f"Write {name} into a --config file or pass --set {name}=VALUE."
            )
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
