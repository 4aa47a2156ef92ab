"""The pages of the documents as a reader follows them: their blocks of commands, in order, in one shell.

A ``bash`` block is executed. A ``text`` block right behind it is what it prints, ``...`` for anything; with a title
("a second later") it need not be there at once. What can not be executed here has the reason in a comment in front of
it: ``<!-- skip: next "the reason" -->``.
"""

from __future__ import annotations

import doctest
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from unittest import SkipTest

from sybil import Document, Example, Region
from sybil.parsers.markdown import SkipParser
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

ROOT = Path(__file__).parents[2]
# in the order in which somebody new comes to them
PAGES = (
    "README.md",
    "docs/index.md",
    *(
        f"docs/operations/{name}.md"
        for name in ("index", "first-run", "every-job", "cut-over", "upgrade", "settings", "logs", "monitoring")
    ),
    "docs/operations/troubleshooting.md",
    "docs/promises.md",
    "docs/speed.md",
    "docs/development.md",
)
COMMANDS, OUTPUT = "bash", "text"
LATER_SECONDS = 60
_END = "the-block-is-done"


class Block(NamedTuple):
    """A fenced block: what stands behind the fence, and its text."""

    info: str
    text: str

    @property
    def language(self) -> str:
        return self.info.split()[0]


class Skipped(NamedTuple):
    """A block that is not executed."""

    page: str
    commands: str
    reason: str


def blocks(document: Document) -> Iterable[Region]:
    """A parser of Sybil's: every fenced block that has a language."""
    for found in FencedCodeBlockLexer(".+")(document):
        block = Block(found.lexemes["language"].strip(), str(found.lexemes["source"]))
        yield Region(found.start, found.end, block, _follow)


def parsed(page: str) -> Document:
    """The page's blocks, and its comments that skip one."""
    return Document.parse(str(ROOT / page), SkipParser(), blocks)


def follow(page: str, shell: Shell) -> list[Skipped]:
    """Execute a page's commands: those that were not. Raises AssertionError for the first that is not as it says."""
    document = parsed(page)
    document.namespace["shell"] = shell
    skipped = []
    for example in document.examples():
        try:
            example.evaluate()
        except SkipTest as why:
            skipped.append(Skipped(page, example.parsed.text.strip(), str(why)))
    return skipped


def _follow(example: Example) -> str | None:
    block, before = example.parsed, example.namespace.get("before")
    example.namespace["before"] = block
    if block.language == COMMANDS:
        example.namespace["printed"] = example.namespace["shell"].run(block.text)
    elif block.language == OUTPUT and before is not None and before.language == COMMANDS:
        return _compare(example, block, before)
    return None


def _compare(example: Example, wanted: Block, commands: Block) -> str | None:
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    printed = example.namespace["printed"]
    end = time.monotonic() + (LATER_SECONDS if "title=" in wanted.info else 0)
    while not checker.check_output(wanted.text, printed, flags):
        if time.monotonic() > end:
            return f"shown:\n{wanted.text}\nprinted:\n{printed}"
        time.sleep(1)
        printed = example.namespace["shell"].run(commands.text)
    return None


class Shell:
    """A shell in which block after block is executed; it ends with the first command that fails."""

    def __init__(self, directory: Path, scratch: Path, environment: Mapping[str, str]) -> None:
        self._block, self._errors = scratch / "block.sh", scratch / "errors.txt"
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self._say(f"set -e -o pipefail; exec 2>{self._errors}")

    def run(self, commands: str) -> str:
        """What the commands print on standard output. Raises AssertionError when one of them fails."""
        self._block.write_text(commands, encoding="utf-8")
        self._say(f". {self._block} </dev/null; echo {_END}")
        assert self._bash.stdout is not None
        printed = ""
        for line in self._bash.stdout:
            if line.endswith(f"{_END}\n"):
                return printed + line.removesuffix(f"{_END}\n")
            printed += line
        code, said = self._bash.wait(), self._errors.read_text(encoding="utf-8", errors="replace")[-4_000:]
        raise AssertionError(f"exit code {code} of\n{commands}\n{printed[-4_000:]}\n{said}")

    def close(self) -> None:
        """End the shell."""
        if self._bash.poll() is None:
            self._say("exit 0")
            self._bash.wait(timeout=30)
        for pipe in (self._bash.stdin, self._bash.stdout):
            if pipe is not None:
                pipe.close()

    def _say(self, line: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{line}\n")
        self._bash.stdin.flush()
