"""The pages are as they say: every command of them is executed, in an empty folder, on a stack of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents.pages import COMMANDS, PAGES, ROOT, Block, Shell, follow, parsed

# Images, charts and compose: tests/deploy has them. Blocks of Python: tests/unit/test_testing_page.py executes them.
ELSEWHERE = {"docs/operations/kubernetes.md", "docs/testing.md"}
LANGUAGES = {COMMANDS, "text", "yaml", "json"}
# every block of commands that is not executed, by the reason in front of it
NOT_EXECUTED = {
    "README.md": ["the tests are not run in a test, and the demo has tests of its own"],
    "docs/operations/first-run.md": ["the test stands in what it makes"],
    "docs/operations/every-job.md": ["it runs until it is ended; the stack has started one on this port"],
    "docs/operations/cut-over.md": [
        "Kafka's scripts come with your Kafka; the stack has none",
        "there is no Scala job on the stack",
    ],
    "docs/operations/upgrade.md": [
        "Flink's scripts come with your Flink; the stack has none. make faults does the same by Flink's REST interface"
    ],
}
PAGE_SECONDS = 1_200
LINK = re.compile(r"\]\(([^)#:]+)(#[^)]*)?\)")


def fences(page: str) -> list[str]:
    """What stands behind the opening fences of a page."""
    found = re.findall(r"^[ \t]*```(.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) % 2 == 0, "a block does not end"
    return found[::2]


def test_no_page_is_left_out() -> None:
    there = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "failures"}
    assert there - ELSEWHERE == set(PAGES) - {"README.md"}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    assert [info for info in fences(page) if info.split()[:1] == [] or info.split()[0] not in LANGUAGES] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_commands_can_be_read_by_bash(page: str, tmp_path: Path) -> None:
    for example in parsed(page).examples():
        if isinstance(example.parsed, Block) and example.parsed.language == COMMANDS:
            subprocess.run(["bash", "-n"], input=example.parsed.text, text=True, check=True)


def test_the_readme_s_links_lead_somewhere() -> None:
    links = [found[1] for found in LINK.finditer((ROOT / "README.md").read_text(encoding="utf-8"))]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_what_is_not_executed_is_known() -> None:
    found: dict[str, list[str]] = {}
    for page in PAGES:
        reasons = re.findall(r"<!-- skip: (?:next|start) \"(.*)\" -->", (ROOT / page).read_text(encoding="utf-8"))
        if reasons:
            found[page] = reasons
    assert found == NOT_EXECUTED


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder with what a checkout has and `make setup` makes. The servers of its stack are ended."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("deploy", "docs", "mkdocs.yml", "pipelines", "schemas"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    yield folder
    subprocess.run([sys.executable, "-m", "deploy.local", "down"], cwd=folder, env=_environment(), check=True)


@pytest.fixture
def shell(place: Path, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(place, tmp_path, _environment())
    yield shell
    shell.close()


def _environment() -> dict[str, str]:
    own = f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": own, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@pytest.mark.follow
@pytest.mark.timeout(PAGE_SECONDS)
@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_as_it_says(page: str, shell: Shell) -> None:
    assert [skipped.reason for skipped in follow(page, shell)] == NOT_EXECUTED.get(page, [])
