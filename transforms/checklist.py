"""A checklist: what an event has to do in which store, done in order, and the report of it.

The steps of a checklist are made from what the stores hold, and each may be done again. So an event that comes again,
because the worker died between two of them, does what is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

__all__ = ["Report", "Step"]


@dataclass(frozen=True)
class Step:
    """One thing to do: in which store, how much was found there, and what changes it and says how much it changed."""

    store: str
    found: int
    change: Callable[[], int]


@dataclass
class Report:
    """How much was found and changed, by store; numbers only."""

    found: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)

    def carry_out(self, steps: Iterable[Step], *, dry_run: bool) -> None:
        """Do the steps in order; with ``dry_run`` note what was found and change nothing. Raises what they raise."""
        for step in steps:
            self.note(step.store, step.found, 0 if dry_run else step.change())

    def note(self, store: str, found: int, changed: int) -> None:
        """Add to a store's numbers; what was changed was found."""
        self.found[store] += max(found, changed)
        self.changed[store] += changed

    def counts(self) -> Counter[str]:
        """The same as counters: ``STORE-found-count``, ``STORE-changed-count``."""
        return Counter(
            {f"{store}-found-count": times for store, times in self.found.items()}
            | {f"{store}-changed-count": times for store, times in self.changed.items()}
        )

    def __str__(self) -> str:
        """``STORE CHANGED of FOUND, …``, in the order in which they were noted."""
        return ", ".join(f"{store} {self.changed[store]} of {found}" for store, found in self.found.items())
