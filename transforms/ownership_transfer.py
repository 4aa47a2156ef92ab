"""What passes from one user to another with an ownership transfer: the rules, as plain functions.

spec: user-ownership-transfer
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from transforms.decode import id_at
from transforms.stores import Row

__all__ = [
    "STATUSES",
    "InvalidTransfer",
    "Transfer",
    "creator_change",
    "document_changes",
    "mentor_change",
    "mentors_after",
    "transfer_of",
]

STATUSES = (0, 1)
"""Of batches that are not over. spec: core §13.3"""


class InvalidTransfer(ValueError):
    """An event that breaks a rule of spec §2; the message holds nothing of it."""


class Transfer(NamedTuple):
    """What one event asks for."""

    old: str
    new: str
    organisation_id: str
    mid: str


def transfer_of(event: Mapping[str, Any]) -> Transfer:
    """Read and check an event. Raises InvalidTransfer. spec §2"""
    paths = ("edata.fromUserProfile.userId", "edata.toUserProfile.userId", "edata.organisationId")
    old, new, organisation_id = (id_at(event, path) for path in paths)
    if old is None or new is None or organisation_id is None:
        missing = next(path for path in paths if id_at(event, path) is None)
        raise InvalidTransfer(f"no {missing}")
    if old == new:
        raise InvalidTransfer("the old user is the new one")
    return Transfer(old, new, organisation_id, id_at(event, "mid") or "-")


def mentors_after(mentors: Iterable[Any], transfer: Transfer) -> list[Any]:
    """The mentors without any occurrence of the old user, and with the new one, once, at the end when it is new.

    spec §3.3, §3.4
    """
    left = [mentor for mentor in mentors if mentor != transfer.old]
    if transfer.new not in left:
        return [*left, transfer.new]
    first = left.index(transfer.new)
    return [mentor for place, mentor in enumerate(left) if mentor != transfer.new or place == first]


def creator_change(row: Row, transfer: Transfer) -> dict[str, Any]:
    """What the row of a batch gets that the search says the old user created; empty when the row names somebody else.

    spec §3.3
    """
    return {"createdby": transfer.new} if row["createdby"] in (transfer.old, None) else {}


def mentor_change(row: Row, entry: Mapping[str, Any], transfer: Transfer) -> dict[str, Any]:
    """What the row of a batch gets that the search says the old user mentors; empty when the row does not name it.

    The list is the row's; only where it has none the one of the search, which may be late. spec §3.3, §8.7
    """
    mentors = row["mentors"] or entry.get("mentors")
    if not isinstance(mentors, list) or transfer.old not in mentors:
        return {}
    return {"mentors": mentors_after(mentors, transfer)}


def document_changes(document: Mapping[str, Any], transfer: Transfer) -> dict[str, Any]:
    """The top-level fields of a batch's document that change, with their new values. spec §3.4"""
    after = {name: _replaced(value, transfer) for name, value in document.items()}
    mentors = document.get("mentors")
    if isinstance(mentors, list) and transfer.old in mentors:
        after["mentors"] = mentors_after(mentors, transfer)
    return {name: value for name, value in after.items() if value != document[name]}


def _replaced(value: Any, transfer: Transfer) -> Any:
    """The value with the new user wherever, at any depth, a text equals the old one."""
    if isinstance(value, dict):
        return {name: _replaced(member, transfer) for name, member in value.items()}
    if isinstance(value, list):
        return [_replaced(member, transfer) for member in value]
    return transfer.new if value == transfer.old else value
