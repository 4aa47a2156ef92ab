"""Kafka beside KafkaIO: asking where a consumer group stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from confluent_kafka import KafkaError, KafkaException
from tenacity import retry, retry_if_exception, stop_after_delay, wait_exponential

__all__ = ["once_the_group_is_found"]

P = ParamSpec("P")
T = TypeVar("T")

# What a broker answers while it finds, or loads, the coordinator of a group; the client does not try again by itself.
_PASSING = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError._WAIT_COORD,
)
_SECONDS = 30


def once_the_group_is_found(call: Callable[P, T]) -> Callable[P, T]:
    """``call``, tried again for up to 30 seconds while the group's coordinator can not be asked."""
    return retry(
        retry=retry_if_exception(_is_passing),
        wait=wait_exponential(0.1, max=1),
        stop=stop_after_delay(_SECONDS),
        reraise=True,
    )(call)


def _is_passing(error: BaseException) -> bool:
    cause = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return isinstance(cause, KafkaError) and cause.code() in _PASSING
