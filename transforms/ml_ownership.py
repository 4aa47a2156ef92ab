"""What is handed over in the ML services: solutions, programs, and the programs that a user has by role.

Plain functions over documents as MongoDB gives them. In a user's document (userExtension), ``platformRoles`` is a list
of entries ``{"roleId", "code", "programs"}``; an entry without programs, or with null, has none.

spec: ml-transfer-ownership §2, §3
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from bson import ObjectId

from schemas.mongo import OWNERS, PROGRAMS, SOLUTIONS
from transforms.decode import id_at, value_at
from transforms.ml_documents import UpdateAll, absent_or_object

__all__ = [
    "ROLES",
    "HandOver",
    "InvalidTransfer",
    "NotForThisJob",
    "OddDocument",
    "Transfer",
    "asset_updates",
    "hand_over",
    "roles_to_look_up",
    "transfer_of",
]

ROLES = "platformRoles"

Document = Mapping[str, Any]
Entries = list[Any]


class NotForThisJob(ValueError):
    """An event of another kind of asset."""


class InvalidTransfer(ValueError):
    """An event that can not be handled; the message says why, without personal data."""


class OddDocument(ValueError):
    """A user's document has something else where its roles should be."""


class Transfer(NamedTuple):
    """One event: who gives what to whom. Without ``object_type``, everything. ``record`` is the name of its record."""

    record: str
    giver: str
    taker: str
    first_name: str
    user_name: str
    roles: tuple[str, ...]
    action_by: str
    object_type: str | None
    identifier: str | None

    def to_bytes(self) -> bytes:
        return orjson.dumps(list(self))

    @classmethod
    def from_bytes(cls, payload: bytes) -> Transfer:
        transfer = cls(*orjson.loads(payload))
        return transfer._replace(roles=tuple(transfer.roles))

    @property
    def asset(self) -> ObjectId:
        return ObjectId(self.identifier)


def transfer_of(parsed: Mapping[str, Any], record: str) -> Transfer:
    """What an event says. Raises NotForThisJob and InvalidTransfer. spec: ml-transfer-ownership §2, §8"""
    giver, taker = (id_at(parsed, f"edata.{profile}.userId") for profile in ("fromUserProfile", "toUserProfile"))
    if giver is None or taker is None:
        raise InvalidTransfer("it does not name two users")
    if giver == taker:
        raise InvalidTransfer("it names the same user twice")
    object_type, identifier = _asset_of(value_at(parsed, "edata.assetInformation"))
    listed = value_at(parsed, "edata.toUserProfile.roles")
    roles = [role for role in listed if isinstance(role, str)] if isinstance(listed, list) else []
    return Transfer(
        record=record,
        giver=giver,
        taker=taker,
        first_name=_text_at(parsed, "edata.toUserProfile.firstName"),
        user_name=_text_at(parsed, "edata.toUserProfile.userName"),
        roles=tuple(dict.fromkeys(roles)),
        action_by=_text_at(parsed, "edata.actionBy.userId"),
        object_type=object_type,
        identifier=identifier,
    )


def _asset_of(asset: Any) -> tuple[str | None, str | None]:
    """(type, id), both None for everything. What is no asset must not be taken for everything. spec §8.1"""
    if asset is None:
        return None, None
    if not isinstance(asset, dict):
        raise InvalidTransfer("its assetInformation is no object")
    object_type, identifier = asset.get("objectType"), asset.get("identifier")
    lacking = [value in (None, "") for value in (object_type, identifier)]
    if all(lacking):
        return None, None
    if any(lacking):
        raise InvalidTransfer("it has one of objectType and identifier")
    if object_type not in ("solution", "program"):
        raise NotForThisJob
    if not isinstance(identifier, str) or not ObjectId.is_valid(identifier):
        raise InvalidTransfer(f"its identifier is none of a {object_type}")
    return object_type, identifier


def _text_at(parsed: Any, path: str) -> str:
    value = value_at(parsed, path)
    return value if isinstance(value, str) else ""


# --- solutions and programs


def asset_updates(transfer: Transfer) -> list[UpdateAll]:
    """The updates, in order, that give the solutions and programs a new owner. spec: ml-transfer-ownership §3.1"""
    one = {} if transfer.object_type is None else {"_id": transfer.asset}
    name = transfer.first_name
    updates = []
    if transfer.object_type != "program":
        solutions = {OWNERS[SOLUTIONS]: transfer.giver, **one}
        change = {"author": transfer.taker, "creator": name}
        with_license = {**change, "license.author": name, "license.creator": name}
        guard = absent_or_object("license")
        updates.append(UpdateAll(SOLUTIONS, {**solutions, **guard}, {"$set": with_license}))
        updates.append(UpdateAll(SOLUTIONS, {**solutions, "$nor": [guard]}, {"$set": change}))
    if transfer.object_type != "solution":
        programs = {OWNERS[PROGRAMS]: transfer.giver, **one}
        updates.append(UpdateAll(PROGRAMS, programs, {"$set": {"owner": transfer.taker}}))
    return updates


# --- the programs that users have by role


class HandOver(NamedTuple):
    """What both users' documents are to become. None: as it is.

    ``new`` is the document that the taker gets, ``taker`` and ``giver`` are their roles; with ``unset``, the giver's go
    altogether.
    """

    new: dict[str, Any] | None = None
    taker: Entries | None = None
    giver: Entries | None = None
    unset: bool = False


def roles_to_look_up(transfer: Transfer, taker: Document | None) -> list[str]:
    """The codes of roles that the taker's document lacks. spec: ml-transfer-ownership §3.2.2"""
    if taker is None and transfer.object_type is None:
        return []
    there = _codes(_roles_of(taker or {}) or [])
    return [role for role in transfer.roles if role not in there]


def hand_over(
    transfer: Transfer, giver: Document | None, taker: Document | None, user_roles: Mapping[str, Any]
) -> HandOver:
    """What becomes of the documents of both users, None where there is none.

    ``user_roles`` has the ids of the roles that exist, by code. What an earlier, interrupted handling of the event left
    gives the rest of it; after a whole one, nothing. Raises OddDocument. spec: ml-transfer-ownership §3.2, §3.3
    """
    if transfer.object_type == "program":
        return _one_program(transfer, giver, taker, user_roles)
    return _everything(transfer, giver, taker, user_roles)


def _one_program(
    transfer: Transfer, giver: Document | None, taker: Document | None, user_roles: Mapping[str, Any]
) -> HandOver:
    program = transfer.asset
    given = _given_roles(giver)
    codes = _codes([entry for entry in given or [] if program in _programs(entry)])
    before = _roles_of(taker or {})
    roles, unfit = _with_program(_with_roles(before or [], transfer.roles, user_roles), program, codes)
    left = [_without_program(entry, program) if _code(entry) not in unfit else entry for entry in given or []]
    return HandOver(
        new=new_document(transfer, roles) if taker is None else None,
        taker=roles if taker is not None and roles != (before or []) else None,
        giver=left if left != (given or []) else None,
    )


def _everything(
    transfer: Transfer, giver: Document | None, taker: Document | None, user_roles: Mapping[str, Any]
) -> HandOver:
    given = _given_roles(giver)
    if taker is None:
        if given is None:
            return HandOver()
        return HandOver(new=new_document(transfer, given), giver=[], unset=True)
    before = _roles_of(taker)
    if _is_made_by(transfer, taker) and given in (None, before):
        # of this event, which was handled before, to here at least
        return HandOver() if given is None else HandOver(giver=[], unset=True)
    roles, left = _with_entries(_with_roles(before or [], transfer.roles, user_roles), given or [])
    return HandOver(
        taker=roles if roles != (before or []) else None,
        giver=left if given is not None and (left != given or not left) else None,
        unset=not left,
    )


def new_document(transfer: Transfer, roles: Entries) -> dict[str, Any]:
    """What the taker's document is besides its ``userId``. spec: ml-transfer-ownership §3.2.1"""
    return {
        "externalId": transfer.user_name,
        "status": "active",
        "isDeleted": False,
        "devices": [],
        ROLES: roles,
        "createdBy": transfer.action_by,
        "updatedBy": transfer.action_by,
    }


def _is_made_by(transfer: Transfer, taker: Document) -> bool:
    wanted = {"userId": transfer.taker, **new_document(transfer, [])}
    return {**taker, ROLES: [], "_id": 0} == {**wanted, "_id": 0}


def _roles_of(document: Document) -> Entries | None:
    """The entries, None where there are none. Raises OddDocument."""
    roles = document.get(ROLES)
    if roles is not None and not isinstance(roles, list):
        raise OddDocument(f"{ROLES} is no list")
    return roles


def _given_roles(giver: Document | None) -> Entries | None:
    """The giver's entries; what is no list is left alone. spec: ml-transfer-ownership §8.5"""
    roles = (giver or {}).get(ROLES)
    return roles if isinstance(roles, list) else None


def _code(entry: Any) -> str | None:
    code = entry.get("code") if isinstance(entry, dict) else None
    return code if isinstance(code, str) else None


def _codes(entries: Sequence[Any]) -> set[str]:
    return {code for entry in entries if (code := _code(entry)) is not None}


def _programs(entry: Any) -> list[Any]:
    programs = entry.get("programs") if isinstance(entry, dict) else None
    return programs if isinstance(programs, list) else []


def _is_fit(entry: Any) -> bool:
    """Whether programs can be put into an entry."""
    return entry.get("programs") is None or isinstance(entry["programs"], list)


def _with_roles(entries: Entries, roles: Sequence[str], user_roles: Mapping[str, Any]) -> Entries:
    there = _codes(entries)
    new = [role for role in roles if role not in there and role in user_roles]
    return [*entries, *({"roleId": user_roles[role], "code": role, "programs": []} for role in new)]


def _with_program(entries: Entries, program: ObjectId, codes: Collection[str]) -> tuple[Entries, set[str]]:
    """The program in all entries of these codes, and the codes of which an entry can not take it. spec §3.2.4"""
    result = []
    unfit = set()
    for entry in entries:
        code = _code(entry)
        if code is None or code not in codes:
            result.append(entry)
        elif not _is_fit(entry):
            unfit.add(code)
            result.append(entry)
        else:
            result.append(_with_programs(entry, [program]))
    return result, unfit


def _with_entries(entries: Entries, given: Entries) -> tuple[Entries, Entries]:
    """The programs of each given entry at the end of the first one of its code, and the entries that have no such one.

    spec: ml-transfer-ownership §3.3, §8.3
    """
    result = list(entries)
    left = []
    for other in given:
        code = _code(other)
        place = next((place for place, entry in enumerate(result) if code is not None and _code(entry) == code), None)
        if place is not None and _is_fit(result[place]) and _is_fit(other):
            result[place] = _with_programs(result[place], _programs(other))
        else:
            left.append(other)
    return result, left


def _with_programs(entry: dict[str, Any], programs: Sequence[Any]) -> dict[str, Any]:
    missing = []
    for program in programs:
        if program not in _programs(entry) and program not in missing:
            missing.append(program)
    return {**entry, "programs": [*_programs(entry), *missing]} if missing else entry


def _without_program(entry: Any, program: ObjectId) -> Any:
    if program not in _programs(entry):
        return entry
    return {**entry, "programs": [other for other in _programs(entry) if other != program]}
