"""What becomes of a record that cannot be processed because of its data (spec: core §4.3)."""

from __future__ import annotations

from typing import Any

import orjson

__all__ = ["FAILED", "LARGEST_DEAD_LETTER", "dead_letter", "largest_with_text"]

FAILED = "failed"
"""The output tag of every step that can fail on data. A job that leaves it without a sink is refused."""

# Kafka refuses a record above its topic's limit, and a refused dead letter would stop the job for good.
LARGEST_DEAD_LETTER = 5_000_000
# Of what is no text: below Kafka's own limit, which is 1 MiB.
_LARGEST_OF_NO_TEXT = 1_000_000
# One event may name thousands of learners, each with a reason of its own.
LONGEST_REASON = 20_000


def dead_letter(
    job: str, reason: str, value: bytes | None, parsed: dict[str, Any] | None = None, *, code: str | None = None
) -> bytes:
    """The record for the failed topic, as UTF-8 JSON on one line.

    A ``parsed`` object is kept with all its members, plus ``jobName`` and ``failInfo``; anything else goes, as text,
    into ``rawEvent``. A dead letter above 5,000,000 bytes keeps the beginning of its text and says so in
    ``failInfo.cut``, the number of bytes of the original; so does one above 1,000,000 bytes of what is no text (see
    ``largest_with_text``). A ``reason`` above 20,000 characters ends in ``…``. ``code`` is ``failInfo.errorCode``,
    where a job has one. spec: core §4.3, merge-user-courses §6
    """
    if len(reason) > LONGEST_REASON:
        reason = f"{reason[:LONGEST_REASON]}…"
    about: dict[str, Any] = {"jobName": job, "failInfo": {"errorCode": code, "error": reason}}
    if code is None:
        del about["failInfo"]["errorCode"]
    if parsed is not None:
        try:
            return _within_limit(orjson.dumps({**parsed, **about}), LARGEST_DEAD_LETTER, about, value)
        except TypeError:
            # what can be read can not always be written: orjson writes fewer levels than it reads
            pass
    written = orjson.dumps({**about, "rawEvent": _text(value)})
    return _within_limit(written, largest_with_text(written, value), about, value)


def largest_with_text(written: bytes, original: bytes | None) -> int:
    """The most bytes that a letter may have which holds the text of a record.

    What more than doubles as text is none: compressed data, another encoding. Producers' compression does not make up
    for that, and a failed topic with the input's limit would refuse the letter of a record near it.
    """
    return LARGEST_DEAD_LETTER if len(written) <= 2 * len(original or b"") else _LARGEST_OF_NO_TEXT


def _within_limit(written: bytes, limit: int, about: dict[str, Any], value: bytes | None) -> bytes:
    if len(written) <= limit:
        return written
    original = value or b""
    fail_info = {**about["failInfo"], "cut": len(original)}
    # a byte may become six when it is escaped
    return orjson.dumps({**about, "failInfo": fail_info, "rawEvent": _text(original[: limit // 7])})


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")
