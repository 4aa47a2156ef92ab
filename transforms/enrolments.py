"""Learners' enrolments, and reading what a table holds of many of them at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from transforms.stores import Refused, Row, Select, Tables

__all__ = ["Enrolment", "rows_of_enrolments", "rows_of_users"]

# More owners in one IN cost the coordinator more than they save the client.
OWNERS_IN_ONE_SELECT = 25


class Enrolment(NamedTuple):
    """A learner's enrolment in a batch of a course."""

    user_id: str
    course_id: str
    batch_id: str

    @property
    def where(self) -> dict[str, str]:
        """The key of its row, or the first part of the keys of its rows."""
        return {"userid": self.user_id, "courseid": self.course_id, "batchid": self.batch_id}


def rows_of_enrolments(
    tables: Tables, table: str, columns: tuple[str, ...], enrolments: Iterable[Enrolment]
) -> tuple[dict[Enrolment, list[Row] | Refused], int]:
    """The rows of each enrolment, and how many statements that took: one for many learners of a batch of a course.

    Without ``columns``: all columns. Raises StoreUnavailable.
    """
    by_batch: dict[tuple[str, str], list[str]] = defaultdict(list)
    for user_id, course_id, batch_id in dict.fromkeys(enrolments):
        by_batch[course_id, batch_id].append(user_id)
    wanted = ("userid", *columns) if columns else ()
    selects = [
        Select(table, wanted, {"userid": users, "courseid": course_id, "batchid": batch_id})
        for (course_id, batch_id), all_users in by_batch.items()
        for users in _cut(all_users)
    ]
    statements = len(selects)
    found: dict[Enrolment, list[Row] | Refused] = {}
    for select, result in zip(selects, tables.select(selects), strict=True):
        users, course_id, batch_id = (select.where[name] for name in ("userid", "courseid", "batchid"))
        rows: dict[str, list[Row]] = {user_id: [] for user_id in users}
        if isinstance(result, Refused) and len(users) > 1:
            # One id that the server can not look up must not take the others with it.
            for user_id in users:
                alone, more = rows_of_enrolments(tables, table, columns, [Enrolment(user_id, course_id, batch_id)])
                found.update(alone)
                statements += more
            continue
        if isinstance(result, Refused):
            found[Enrolment(users[0], course_id, batch_id)] = result
            continue
        for row in result:
            rows[row["userid"]].append(row)
        found.update({Enrolment(user_id, course_id, batch_id): of_user for user_id, of_user in rows.items()})
    return found, statements


def rows_of_users(tables: Tables, table: str, users: Iterable[str]) -> dict[str, list[Row] | Refused]:
    """All rows of each user with all columns, many users with one statement. Raises StoreUnavailable."""
    selects = [Select(table, (), {"userid": some}) for some in _cut(list(dict.fromkeys(users)))]
    found: dict[str, list[Row] | Refused] = {}
    for select, result in zip(selects, tables.select(selects), strict=True):
        some: list[str] = select.where["userid"]
        if not isinstance(result, Refused):
            rows: dict[str, list[Row]] = {user_id: [] for user_id in some}
            for row in result:
                rows[row["userid"]].append(row)
            found.update(rows)
        elif len(some) == 1:
            found[some[0]] = result
        else:
            # One id that the server can not look up must not take the others with it.
            for user_id in some:
                found.update(rows_of_users(tables, table, [user_id]))
    return found


def _cut(users: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(users), OWNERS_IN_ONE_SELECT):
        yield users[start : start + OWNERS_IN_ONE_SELECT]
