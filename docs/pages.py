"""The pages of the jobs, made when the site is built: from a job's docstring, settings, counters and events.

A hook of MkDocs (``mkdocs.yml``). What happens when something is wrong is in ``docs/failures/JOB.md``, and goes into
the middle of the job's page.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic_core import PydanticUndefined

from pipelines import jobs
from pipelines.settings import keys, seed_names, type_name
from schemas.counters import COUNTERS
from schemas.event_schemas import event_schemas

FAILURES = Path(__file__).parent / "failures"
GROUPS = Path(__file__).parents[1] / "deploy" / "config" / "groups"

# a line of the docstring's table: what is read, written, kept
_ROW = re.compile(r"([A-Z][a-z]+) {2,}(.*)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every job into the navigation."""
    for entry in config.nav or []:
        if isinstance(entry, dict) and "Jobs" in entry:
            entry["Jobs"] += [{job: f"jobs/{job}.md"} for job in jobs.JOBS]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    files.append(File.generated(config, "jobs/index.md", content=index()))
    for job in jobs.JOBS:
        files.append(File.generated(config, f"jobs/{job}.md", content=page(job)))
    return files


def index() -> str:
    """The list of the jobs."""
    rows = [f"| [{job}]({job}.md) | {jobs.SUMMARIES[job]} |" for job in jobs.JOBS]
    return "\n".join(["# Jobs", "", "| job | what it does |", "|---|---|", *rows, ""])


def page(job: str) -> str:
    """The page of one job."""
    module = jobs.load(job)
    parts = [
        f"# {job}",
        described(inspect.cleandoc(module.__doc__ or "")),
        started(job),
        "## When something is wrong",
        (FAILURES / f"{job}.md").read_text(encoding="utf-8").strip(),
        "## Settings",
        "How files, overrides and the environment come together: [settings](../operations/settings.md).",
        settings(module),
        "## Counters",
        f"In Flink's metrics and in `--metrics`, under `{job}`:",
        "\n".join(f"* `{counter}`" for counter in COUNTERS[job]),
        "## Events",
        events(job),
    ]
    return "\n\n".join(parts) + "\n"


def started(job: str) -> str:
    """How a job gets onto a cluster: by itself, or in its group of deploy/config/groups."""
    page = "[every job on a cluster](../operations/every-job.md#4-submit-them)"
    alone = f"`sunbird-pipelines run {job} --config site.yaml --detach`"
    for file in sorted(GROUPS.glob("*.yaml")):
        if job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"]:
            return f"It runs in the group `{file.stem}`, with others ({page}), or by itself: {alone}."
    return f"It runs by itself ({page}): {alone}."


def described(docstring: str) -> str:
    """A module's docstring as Markdown; its aligned lines (Reads, Writes, Tables, …) become a table."""
    return "\n\n".join(_paragraph(paragraph) for paragraph in re.split(r"\n{2,}", docstring))


def _paragraph(text: str) -> str:
    rows: list[list[str]] = []
    for line in text.splitlines():
        if match := _ROW.fullmatch(line):
            rows.append([match[1], match[2]])
        elif rows and line.startswith(" "):
            rows[-1][1] += f" {line.strip()}"
        else:
            return _cell(text)
    return "\n".join(["| | |", "|---|---|", *(f"| **{name}** | {_cell(what)} |" for name, what in rows)])


def settings(module: ModuleType) -> str:
    """The table of a job's keys."""
    rows = []
    for name, field in keys(module.Settings).items():
        meaning = "; also written ".join([field.description or "", *(f"`{seed}`" for seed in seed_names(field))])
        rows.append(f"| `{name}` | {type_name(field.annotation)} | {_default(field.default)} | {_cell(meaning)} |")
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])


def events(job: str) -> str:
    """The events of a job: those whose schema names it."""
    rows = [
        f"| `{name}` | {_cell(schema['title'])} | {_cell(schema['description'])} |"
        for name, schema in sorted(event_schemas().items())
        if re.search(rf"(?<![\w-]){re.escape(job)}(?![\w.-]*\w)", f"{schema['title']} {schema['description']}")
        or name == "dead-letter"
    ]
    head = ["Each is a JSON Schema in `schemas/events/`, which the tests hold against what is read and written.", ""]
    return "\n".join([*head, "| schema | what | |", "|---|---|---|", *rows])


def _default(value: Any) -> str:
    if value is PydanticUndefined or value is ...:
        return "(mandatory)"
    if value is None:
        return "(not set)"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else "(empty)"


def _cell(text: str) -> str:
    """Text that stands in a page as it is: angle brackets and braces of topic names are no markup."""
    return re.sub(r"<(?=\w)", "&lt;", text).replace("|", "\\|")
