"""Why something can not be brought in, in the words that operators search for, and the event that says so.

spec: content-auto-creator §6, auto-creator-v2 §6, core §4.1
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from transforms.services import Reply, ServiceRefused
from transforms.stores import Refused, StoreUnavailable

__all__ = ["FAILURES", "ImportFailed", "called", "described", "succeeded"]

T = TypeVar("T")

FAILURES = (ServiceRefused, StoreUnavailable, Refused)
"""What a service or store may raise: a failure of the one event that it meets."""

FRAMES = 5
_CODE = re.compile(r"[\w.:-]{1,80}", re.ASCII)


class ImportFailed(Exception):
    """An object can not be brought in. The message begins as the spec's §6 says and holds no answer's body."""


def called(call: Callable[[], T], failure: str) -> T:
    """What the call gives. Raises ImportFailed, whose message begins with ``failure``."""
    try:
        return call()
    except FAILURES as error:
        raise ImportFailed(f"{failure} | {error}") from error


def succeeded(call: Callable[[], Reply], failure: str) -> dict[str, Any]:
    """The result of a call that is answered with 200. Raises ImportFailed, whose message begins with ``failure``."""
    reply = called(call, failure)
    if reply.status != 200:
        raise ImportFailed(f"{failure} | {answered(reply)}")
    return reply.result


def answered(reply: Reply) -> str:
    """The status of an answer and its error code, nothing else of it."""
    code = error_code(reply.text)
    return f"status: {reply.status}{f' ({code})' if code else ''}"


def error_code(text: str) -> str | None:
    """``params.err`` or ``responseCode`` of an answer, when it is a code."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    params = found.get("params")
    codes = [params.get("err") if isinstance(params, dict) else None, found.get("responseCode")]
    return next((code for code in codes if isinstance(code, str) and _CODE.fullmatch(code)), None)


def described(error: Exception) -> str:
    """``failInfo.error``: the message, and where it came from. spec: core §4.1"""
    message = str(error) if isinstance(error, ImportFailed) else f"could not be handled: {type(error).__name__}"
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    places = ", ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    return f"{message} : : List({places})"
