"""The names of files in the store. spec: content-auto-creator §3.6, core §10"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.slugs import NoSlug, slug


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Water%20Cycle Book.pdf", "water-cycle-book.pdf"),
        ("Atoms_Set+1.zip", "atoms_set-1.zip"),
        ("Rain Bows (final).MP3", "rain-bows-final.mp3"),
        ("पानी.pdf", ".pdf"),
        ("  -a--b- ", "a-b"),
        ("Éléphant.png", "elephant.png"),
        ("100%.pdf", "100.pdf"),
        ("a/b\\c.pdf", "abc.pdf"),
    ],
)
def test_samples(text: str, expected: str) -> None:
    assert slug(text) == expected


@pytest.mark.parametrize("text", ["", "  ", "-", "पानी", "%20"])
def test_nothing_is_left(text: str) -> None:
    with pytest.raises(NoSlug):
        slug(text)


@given(st.text())
def test_any_text(text: str) -> None:
    try:
        plain = slug(text)
    except NoSlug:
        return
    assert re.fullmatch(r"[a-z0-9_.-]+", plain)
    assert "--" not in plain
