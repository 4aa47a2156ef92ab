"""Trying again."""

from __future__ import annotations

import pytest

from io_connectors.retries import retrying


@pytest.mark.parametrize("pauses", [(), (0.01,), (0.01, 0.02, 0.03)])
def test_one_try_more_than_pauses_and_then_the_last_error(pauses):
    tries: list[int] = []

    def call() -> None:
        tries.append(1)
        raise OSError(f"try {len(tries)}")

    with pytest.raises(OSError, match=f"try {len(pauses) + 1}"):
        retrying(pauses, OSError)(call)
    assert len(tries) == len(pauses) + 1


def test_pauses_grow(monkeypatch):
    slept: list[float] = []
    attempts = retrying((0.2, 1.0, 5.0), OSError)
    attempts.sleep = slept.append

    def call() -> None:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - any
        attempts(call)
    assert slept == [0.2, 1.0, 5.0]


def test_other_errors_are_not_tried_again():
    tries: list[int] = []

    def call() -> None:
        tries.append(1)
        raise ValueError("data")

    with pytest.raises(ValueError, match="data"):
        retrying((0.01,), OSError)(call)
    assert len(tries) == 1
