"""What is deleted of a user, and what is said of it: the rules, as plain functions (spec: user-deletion-cleanup)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from transforms.decode import id_at, value_at
from transforms.stores import Row

__all__ = [
    "BLANKED",
    "DELETED",
    "Deletion",
    "InvalidDeletion",
    "deletion_audit",
    "deletion_of",
    "is_user_of",
    "left_at",
    "lookups_of",
]

DELETED = 2
"""The status of a user that is deleted. spec: core §13.3"""

BLANKED: Mapping[str, Any] = {
    "status": DELETED,
    **dict.fromkeys(
        (
            *("maskedemail", "maskedphone", "recoveryemail", "recoveryphone", "prevusedemail", "prevusedphone"),
            *("username", "firstname", "lastname", "dob", "email", "phone"),
        ),
        "",
    ),
    "isdeleted": True,
}
"""What a deleted user's row has; other columns stay. spec §3.9"""

_SAME_VALUE = ("email", "phone", "username")


class InvalidDeletion(ValueError):
    """An event that breaks a rule of spec §2; the message holds nothing of it."""


class Deletion(NamedTuple):
    """What one event asks for. ``managed`` are the ids of child accounts, each once."""

    user_id: str
    organisation_id: str
    managed: tuple[str, ...]
    mid: str


def deletion_of(event: Mapping[str, Any]) -> Deletion:
    """Read and check an event. Raises InvalidDeletion. spec §2"""
    user_id, organisation_id = id_at(event, "edata.userId"), id_at(event, "edata.organisationId")
    if user_id is None or organisation_id is None:
        raise InvalidDeletion("no edata.userId, or no edata.organisationId")
    given = value_at(event, "edata.managed_users")
    texts = (_id_text(item) for item in (given if isinstance(given, list) else []) if item is not None)
    managed = dict.fromkeys(text for text in texts if text.strip() and text != user_id)
    return Deletion(user_id, organisation_id, tuple(managed), id_at(event, "mid") or "-")


def is_user_of(user_id: Any, organisation_id: Any, wanted_user: str, wanted_organisation: str) -> bool:
    """Whether that is the user, of that root organisation, in whatever case. spec §3.2, §3.3"""
    return all(
        isinstance(found, str) and found.lower() == wanted.lower()
        for found, wanted in ((user_id, wanted_user), (organisation_id, wanted_organisation))
    )


def lookups_of(row: Row, answer: Mapping[str, Any], external_ids: Iterable[Row]) -> list[tuple[str, str]]:
    """The ``(type, value)`` of a user's look-ups, each once, from the user's row, the answer of the user read and the
    user's rows of external ids. spec §3.6"""
    found: list[tuple[str, Any]] = []
    for kind in _SAME_VALUE:
        found += [(kind, value) for value in (row.get(kind), answer.get(f"enc{kind.title()}"), answer.get(kind))]
    found.append(("externalid", answer.get("externalId")))
    for external in external_ids:
        if external["idtype"] == external["provider"] and _is_filled(external["externalid"]):
            found.append(("externalid", f"{external['externalid']}@{external['provider']}"))
    return list(dict.fromkeys((kind, value) for kind, value in found if _is_filled(value)))


def left_at(now: int) -> str:
    """``now`` (epoch milliseconds) as memberships have it: ``2024-06-03 07:50:00:042+0000``. spec §3.4"""
    moment = datetime.fromtimestamp(now // 1_000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}:{now % 1_000:03}+0000"


def deletion_audit(deletion: Deletion, outcomes: Mapping[str, bool], now: int, new_id: Callable[[], str]) -> bytes:
    """The AUDIT event of a deletion; ``now`` in epoch milliseconds. spec §3.10"""
    told = ", ".join(f"{name}:{str(outcome).lower()}" for name, outcome in outcomes.items())
    user = {"id": deletion.user_id, "type": "User"}
    return orjson.dumps(
        {
            "actor": user,
            "eid": "AUDIT",
            "edata": {"props": [f"{{{told}}}"], "type": "DeleteUserStatus", "status": "Delete"},
            "ver": "3.0",
            "syncts": now,
            "ets": now,
            "context": {
                "channel": deletion.organisation_id,
                "env": "User",
                "sid": new_id(),
                "did": new_id(),
                "pdata": {"ver": "3.0", "id": "org.sunbird.learning.platform", "pid": "user-delete"},
                "cdata": [{"type": "User", "id": deletion.user_id}],
            },
            "mid": f"LP.AUDIT.{new_id()}",
            "object": user,
            "tags": [],
        }
    )


def _id_text(item: Any) -> str:
    """An entry as text; blank when it is nested more deeply than can be written, so that it is no id."""
    try:
        return item if isinstance(item, str) else orjson.dumps(item).decode()
    except TypeError:
        return ""


def _is_filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
