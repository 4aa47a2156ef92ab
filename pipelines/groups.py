"""Several light jobs in one Flink job: one JVM, one pool of workers, one set of checkpoints for all of them.

A group is a YAML file:

    group: accounts
    jobs:
      ml-user-delete: [site.yaml]
      user-deletion-cleanup: [site.yaml, deletion.conf]

Each job has the configuration files of its own, read as ``run JOB --config FILE …`` reads them; their paths are
relative to the group's file. Every job keeps its topics, consumer group, counters and step names, the latter behind
its own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines import jobs
from pipelines.configuration import Loaded, load
from pipelines.settings import UsageError

__all__ = ["Group", "Member", "beam_options_of", "load_group"]

# Of options that jobs ask for: which one holds for all of them. What else two jobs want differently is refused.
_WHICH_HOLDS = {
    "max_bundle_size": min,
    "max_bundle_time_mills": min,
    "parallelism": max,
    "checkpoint_timeout_millis": max,
}


@dataclass(frozen=True)
class Member:
    """A job of a group with its configuration; one that does not write has nothing to do with topics but its own."""

    job: ModuleType
    loaded: Loaded
    writes: bool = True


@dataclass(frozen=True)
class Group:
    """A name for the Flink job, and what runs in it. The steps of a group are named after its jobs."""

    name: str
    members: tuple[Member, ...]
    names_steps: bool = True

    @classmethod
    def of_one(cls, job: ModuleType, loaded: Loaded, *, writes: bool = True) -> Group:
        """A job by itself, its steps named as ever."""
        name = job.NAME if writes else f"{job.NAME}-shadow"
        return cls(name, (Member(job, loaded, writes),), names_steps=False)


class _GroupFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    group: str = Field(min_length=1)
    jobs: dict[str, list[str]] = Field(min_length=1)


def load_group(file: Path, overrides: Sequence[str], environ: Mapping[str, str]) -> Group:
    """The group of a file; ``overrides`` (``KEY=VALUE``) hold for every job of it.

    Raises UsageError: a file that is none, an unknown job, a job's wrong configuration, and two jobs that would share
    a consumer group on one topic, of which each would see a part of the records.
    """
    described = _read(file)
    members = []
    for name, files in described.jobs.items():
        module = jobs.load(name)
        paths = [file.parent / path for path in files]
        try:
            loaded = load(module.Settings, paths, overrides, environ, job_name=described.group)
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from None
        members.append(Member(module, loaded))
    _refuse_shared_reads(members)
    return Group(described.group, tuple(members))


def beam_options_of(members: Sequence[Member], given: Sequence[str] = ()) -> dict[str, Any]:
    """The options of Beam's Flink runner that the jobs ask for, together, but for those ``given`` as arguments.

    The smallest bundle and the largest parallelism hold for all. Raises UsageError where jobs contradict each other.
    """
    settled = {argument.removeprefix("--").partition("=")[0] for argument in given}
    merged: dict[str, Any] = {}
    for member in members:
        wanted = {**member.job.beam_options(member.loaded.settings), **member.loaded.beam_options}
        for option, value in wanted.items():
            if option in settled:
                continue
            if merged.get(option, value) == value:
                merged[option] = value
            elif option in _WHICH_HOLDS:
                merged[option] = _WHICH_HOLDS[option](merged[option], value)
            else:
                raise UsageError(
                    f"{member.job.NAME} wants --{option}={value}, another job of the group {merged[option]}: "
                    f"give one value for all, behind a lone --, e.g. -- --{option}={value}"
                )
    return merged


def _read(file: Path) -> _GroupFile:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{file}: no such file. A group is a YAML file with `group: NAME` and `jobs:`.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{file}: is not YAML: {' '.join(str(error).split())}") from None
    try:
        return _GroupFile.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}" for fault in error.errors()
        )
        raise UsageError(
            f"{file}: {faults}. It must have `group: NAME`, and under `jobs:` each job with the list of its files."
        ) from None


def _refuse_shared_reads(members: Sequence[Member]) -> None:
    readers: dict[tuple[str, str], str] = {}
    for member in members:
        settings: Any = member.loaded.settings
        read = (settings.kafka_group_id, settings.kafka_input_topic)
        other = readers.setdefault(read, member.job.NAME)
        if other != member.job.NAME:
            raise UsageError(
                f"{other} and {member.job.NAME} would both read {read[1]} as {read[0]}, and each see a part of it: "
                "set kafka.groupId and kafka.input.topic in a file of that job alone"
            )
