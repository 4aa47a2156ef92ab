"""Whether two days left the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.day.run import Emitted

__all__ = ["differing", "differing_events"]

EXAMPLES = 3


def differing(one: Mapping[str, Sequence[bytes]], other: Mapping[str, Sequence[bytes]]) -> list[str]:
    """What differs between two states, with some examples; empty when they are the same to the byte."""
    found = []
    for name in dict.fromkeys([*one, *other]):
        lines, others = one.get(name, ()), other.get(name, ())
        if lines != others:
            only = [f"- {line.decode()}" for line in sorted(set(lines) - set(others))[:EXAMPLES]]
            only += [f"+ {line.decode()}" for line in sorted(set(others) - set(lines))[:EXAMPLES]]
            found.append("\n".join([f"{name}: {len(lines)} and {len(others)} lines", *only]))
    return found


def differing_events(one: Emitted, other: Emitted) -> list[str]:
    """The events that one has written more often than the other, some of each."""
    missing, more = one - other, other - one
    return [
        f"{sign} {times} {topic} {value.decode()}"
        for sign, of in (("-", missing), ("+", more))
        for (topic, value), times in of.most_common(EXAMPLES)
    ]
