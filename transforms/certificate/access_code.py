"""The code under a certificate's QR code (spec: collection-certificate-generator §3.5.1)."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["access_code"]

# without I and O, which look like 1 and 0
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
DIGITS = "123456789"


def access_code(choose: Callable[[str], str]) -> str:
    """Six characters, letters and digits in turn. ``choose`` gives one character of a text at random.

    A code must not be guessed, so ``choose`` is ``secrets.choice`` in production.
    """
    return "".join(choose(alphabet) for alphabet in (LETTERS, DIGITS) * 3)
