"""The documents: they can be built, no link of theirs is broken, and every job has its page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import jobs
from pipelines.settings import keys
from schemas.counters import COUNTERS

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.xdist_group("docs")  # one process builds the pages, once


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages. MkDocs is strict: a broken link, a missing anchor, a page without a place fail it."""
    directory = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.mark.parametrize("job", jobs.JOBS)
def test_a_job_s_page_names_its_keys_and_counters(site: Path, job: str) -> None:
    page = (site / "jobs" / f"{job}.html").read_text(encoding="utf-8")
    missing = [name for name in [*keys(jobs.load(job).Settings), *COUNTERS[job]] if f"<code>{name}</code>" not in page]
    assert missing == []
    assert "<table>" in page.partition("When something is wrong")[2]


def test_failures_are_told_of_no_other_job() -> None:
    assert {file.stem for file in (ROOT / "docs" / "failures").iterdir()} == set(jobs.JOBS)


def test_every_job_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [job for job in jobs.JOBS if f"| `{job}` |" not in readme] == []
