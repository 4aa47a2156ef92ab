"""The page about testing: its blocks of Python are executed, in order."""

from __future__ import annotations

from pathlib import Path

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def test_the_blocks_of_the_page_do_what_they_say() -> None:
    document = Sybil([PythonCodeBlockParser()]).parse(PAGE)
    examples = list(document.examples())
    assert len(examples) == 4
    for example in examples:
        example.evaluate()
