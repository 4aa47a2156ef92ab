"""When too many records become dead letters: the rule that stops a job instead of emptying its topic."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["WINDOW", "Limit", "RecentRecords"]

WINDOW = 2_000
"""So many of the last records are looked at for the share of dead letters: a full bundle."""

_PORTION = WINDOW // 20


class Limit(NamedTuple):
    """``max_share`` of the last ``WINDOW`` records (1: no limit), ``max_in_a_row`` (0: no limit)."""

    max_share: float = 1.0
    max_in_a_row: int = 0


@dataclass
class RecentRecords:
    """What became of the last records that a step got, in one worker."""

    in_a_row: int = 0
    _portions: deque[list[int]] = field(default_factory=deque)
    _records: int = 0
    _letters: int = 0

    def note(self, records: int, letters: int, limit: Limit) -> str | None:
        """So many records are handled, of which so many became dead letters. What exceeds the limit, None if nothing.

        Records that were handled together have no order: with a good one among them, none of them is in a row.
        """
        letters = min(letters, records)
        self.in_a_row = self.in_a_row + records if records and letters == records else 0
        self._remember(records, letters)
        if 0 < limit.max_in_a_row <= self.in_a_row:
            return f"{self.in_a_row} records in a row became dead letters (dead-letters.max-in-a-row)"
        if self._records >= WINDOW and self._letters > limit.max_share * self._records:
            share = 100 * self._letters / self._records
            return f"{share:.0f} % of the last {self._records} records became dead letters (dead-letters.max-share)"
        return None

    def _remember(self, records: int, letters: int) -> None:
        if self._portions and self._portions[-1][0] < _PORTION:
            self._portions[-1][0] += records
            self._portions[-1][1] += letters
        else:
            self._portions.append([records, letters])
        self._records += records
        self._letters += letters
        while self._records - self._portions[0][0] >= WINDOW:
            gone_records, gone_letters = self._portions.popleft()
            self._records -= gone_records
            self._letters -= gone_letters
