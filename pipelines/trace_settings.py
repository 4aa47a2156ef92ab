"""What `sunbird-pipelines trace` knows of an installation: the configuration of the three jobs that it follows.

The files are those of `run`. Topics and groups have the same keys in every job's file, so they count only where it is
known whose they are: in a file given as JOB=FILE, or called JOB.conf, JOB.yaml …. All other keys count for all jobs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import model_validator

from pipelines import activity_aggregate_updater as progress
from pipelines import collection_cert_pre_processor as check
from pipelines import collection_certificate_generator as issue
from pipelines.configuration import load
from pipelines.settings import JobSettings, UsageError, key, keys

__all__ = ["CheckSettings", "IssueSettings", "TraceSettings", "trace_settings"]

JOBS = (progress.NAME, check.NAME, issue.NAME)


class CheckSettings(check.Settings):
    """Of the pre-processor, without what only its events need."""

    certificate_domain: str = key("cert_domain_url", "", "address that certificates are under; /certs is appended")


class IssueSettings(issue.Settings):
    """Of the generator, without what only issuing needs."""

    @model_validator(mode="after")
    def _needed(self) -> IssueSettings:
        return self


@dataclass(frozen=True)
class TraceSettings:
    """The settings of activity-aggregate-updater, the pre-processor and the generator."""

    progress: progress.Settings
    check: CheckSettings
    issue: IssueSettings


SettingsType = TypeVar("SettingsType", bound=JobSettings)


def trace_settings(
    files: Sequence[str], overrides: Sequence[str], environ: Mapping[str, str] = os.environ
) -> tuple[TraceSettings, list[str]]:
    """The settings, and what an operator should read once. Raises UsageError.

    ``files`` are ``FILE`` or ``JOB=FILE``; a job's own files win over those of no job, these over those of other jobs.
    """
    given = [_file(text) for text in files]
    for text in overrides:
        name = text.partition("=")[0].strip()
        if _is_of_one_job(name):
            raise UsageError(f"--set {name}: whose? Write it into a file, and give that as --config JOB=FILE.")
    warnings: list[str] = []
    unknown: list[set[str]] = []

    def of(job: str, settings_type: type[SettingsType]) -> SettingsType:
        own = [path for owner, path in given if owner == job]
        common = [path for owner, path in given if owner is None]
        others = [path for owner, path in given if owner not in (job, None)]
        loaded = load(settings_type, [*others, *common, *own], overrides, environ, job_name=job)
        unknown.append(set(loaded.unknown))
        warnings.extend(one for one in loaded.warnings if not any(one.startswith(f"{n} (") for n in loaded.unknown))
        kept: dict[str, Any] = {}
        for name, (value, origin) in loaded.resolved.items():
            if name not in keys(settings_type) or origin == "default":
                continue
            if not _is_of_one_job(name) or origin in {f"file {path}" for path in own}:
                kept[name] = value
            elif origin in {f"file {path}" for path in common}:
                warnings.append(f"{name} ({origin}): not used, as it is not said whose it is; write --config JOB=FILE")
        return settings_type.model_validate(kept)

    settings = TraceSettings(
        of(progress.NAME, progress.Settings), of(check.NAME, CheckSettings), of(issue.NAME, IssueSettings)
    )
    warnings += [f"{name}: unknown key, ignored" for name in sorted(set.intersection(*unknown))]
    return settings, list(dict.fromkeys(warnings))


def _is_of_one_job(name: str) -> bool:
    return name in ("kafka.groupId", "kafka.input.topic") or name.startswith("kafka.output.")


def _file(text: str) -> tuple[str | None, Path]:
    job, equals, path = text.partition("=")
    if equals and job in JOBS:
        return job, Path(path)
    if equals and not Path(text).exists():
        raise UsageError(f"--config {text}: no such file, and no such job. The jobs: {', '.join(JOBS)}.")
    stem = Path(text).stem
    return stem if stem in JOBS else None, Path(text)
