"""Names of files as they are in object stores (spec: core §10, content-auto-creator §3.6)."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote_plus

__all__ = ["NoSlug", "slug"]

_BLANKS = re.compile(r"\s+")
_UNWANTED = re.compile(r"[^A-Za-z0-9_.-]")
_HYPHENS = re.compile(r"-{2,}")


class NoSlug(ValueError):
    """Nothing is left of a text."""


def slug(text: str) -> str:
    """A text in plain lower-case letters, digits, ``_``, ``.`` and ``-``. Raises NoSlug when nothing is left.

    spec: content-auto-creator §3.6
    """
    plain = unicodedata.normalize("NFD", _BLANKS.sub("-", unquote_plus(text.strip())))
    plain = _HYPHENS.sub("-", _UNWANTED.sub("", plain)).removeprefix("-").removesuffix("-").lower()
    if not plain:
        raise NoSlug("nothing is left of a name")
    return plain
