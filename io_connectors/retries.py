"""Trying again after growing pauses, a bounded number of times (spec: core §5, §7, §8)."""

from __future__ import annotations

from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_any,
    stop_before_delay,
    wait_chain,
    wait_fixed,
)

__all__ = ["PAUSES", "retrying"]

PAUSES = (0.2, 1.0, 5.0)
"""Seconds before the second, third and fourth try."""


def retrying(pauses: tuple[float, ...], *errors: type[BaseException], within: float | None = None) -> Retrying:
    """Try once, and again after each of the pauses (seconds) while one of ``errors`` is raised; then raise it.

    With ``within``, no try begins that many seconds after the first one.
    """
    tries = stop_after_attempt(len(pauses) + 1)
    return Retrying(
        retry=retry_if_exception_type(errors),
        stop=tries if within is None else stop_any(tries, stop_before_delay(within)),
        wait=wait_chain(*(wait_fixed(pause) for pause in pauses or (0,))),
        reraise=True,
    )
