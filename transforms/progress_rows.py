"""Learners' progress in the tables: read and written for many enrolments at once, the same way by every job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from transforms.aggregate import Consumed
from transforms.enrolments import Enrolment, rows_of_enrolments
from transforms.progress import EnrolmentState, Rules, aggregates
from transforms.relations import Relations
from transforms.stores import Refused, Row, Tables, Update

__all__ = ["ProgressRows", "ProgressTables"]


@dataclass(frozen=True)
class ProgressTables:
    """The tables' full names, ``keyspace.table``."""

    consumption: str
    aggregates: str
    enrolments: str


class ProgressRows:
    """Reads what the tables hold into states, and writes what the states say is to be written.

    ``statements_per_batch`` limits a CQL batch; ``counts`` gets each SELECT and each batch. Enrolments for which the
    server refuses a statement are noted in ``refused``. Every method raises StoreUnavailable.
    """

    def __init__(
        self, tables: Tables, names: ProgressTables, rules: Rules, statements_per_batch: int, counts: Counter[str]
    ) -> None:
        self._tables = tables
        self._names = names
        self._rules = rules
        self._statements_per_batch = statements_per_batch
        self._counts = counts

    def read_consumption(self, states: Mapping[Enrolment, EnrolmentState], refused: dict[Enrolment, Refused]) -> None:
        """The contents that were consumed. spec: activity-aggregate-updater §3.4, enrolment-reconciliation §3.1"""
        columns = ("contentid", "status", "viewcount", "completedcount")
        for enrolment, found in self._select(self._names.consumption, columns, states).items():
            if isinstance(found, Refused):
                refused[enrolment] = found
                continue
            states[enrolment].rows = {
                row["contentid"]: Consumed.from_row(row["status"], row["viewcount"], row["completedcount"])
                for row in found
            }

    def read_enrolments(
        self,
        states: Mapping[Enrolment, EnrolmentState],
        enrolments: Collection[Enrolment],
        refused: dict[Enrolment, Refused],
    ) -> None:
        """The rows of some of the enrolments. spec: activity-aggregate-updater §3.9, enrolment-reconciliation §3.6"""
        for enrolment, found in self._select(self._names.enrolments, ("status", "completedon"), enrolments).items():
            if isinstance(found, Refused):
                refused[enrolment] = found
            elif found:
                states[enrolment].status = found[0]["status"] or 0
                states[enrolment].completed_on = _epoch_millis(found[0]["completedon"])

    def write(
        self,
        states: Mapping[Enrolment, EnrolmentState],
        relations: Relations,
        now: int,
        refused: dict[Enrolment, Refused],
    ) -> None:
        """Write what changed, one step after the other; the enrolment comes last. ``now`` in epoch milliseconds.

        spec: activity-aggregate-updater §3.7, §3.8, §3.9, §8.9; enrolment-reconciliation §3.4, §3.6
        """
        steps: tuple[Callable[[EnrolmentState], Sequence[Update]], ...] = (
            self._consumption_updates,
            lambda state: self._aggregate_updates(state, relations, now),
            self._enrolment_updates,
        )
        for updates_of in steps:
            batches = [
                (enrolment, batch)
                for enrolment, state in states.items()
                if enrolment not in refused
                for batch in self._cut(updates_of(state))
            ]
            self._counts["db-update-count"] += len(batches)
            results = self._tables.write([batch for _, batch in batches])
            for (enrolment, _), result in zip(batches, results, strict=True):
                if result is not None:
                    refused.setdefault(enrolment, result)

    def _select(
        self, table: str, columns: tuple[str, ...], enrolments: Collection[Enrolment]
    ) -> dict[Enrolment, list[Row] | Refused]:
        found, statements = rows_of_enrolments(self._tables, table, columns, enrolments)
        self._counts["db-read-count"] += statements
        return found

    def _cut(self, updates: Sequence[Update]) -> list[Sequence[Update]]:
        size = self._statements_per_batch
        return [updates[start : start + size] for start in range(0, len(updates), size)]

    def _consumption_updates(self, state: EnrolmentState) -> list[Update]:
        return [
            Update(
                self._names.consumption,
                {**state.enrolment.where, "contentid": content},
                {"viewcount": counted.view_count, "completedcount": counted.completed_count},
            )
            for content, counted in state.counted.items()
        ]

    def _aggregate_updates(self, state: EnrolmentState, relations: Relations, now: int) -> list[Update]:
        user_id, _, batch_id = state.enrolment
        return [
            Update(
                self._names.aggregates,
                {
                    "activity_type": "Course",
                    "activity_id": activity_id,
                    "user_id": user_id,
                    "context_id": f"cb:{batch_id}",
                },
                add={"aggregates": {"completedCount": float(done)}, "agg_last_updated": {"completedCount": now}},
            )
            for activity_id, done in aggregates(state, relations, self._rules).items()
        ]

    def _enrolment_updates(self, state: EnrolmentState) -> list[Update]:
        return [Update(self._names.enrolments, state.enrolment.where, state.change)] if state.change else []


def _epoch_millis(moment: Any) -> int | None:
    """A Cassandra timestamp, which the client gives as a naive UTC datetime."""
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000) if isinstance(moment, datetime) else None
