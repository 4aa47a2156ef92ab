"""What the ML services' documents say of a person, and the updates that take a deleted user out of them.

spec: ml-user-delete §3, §4
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from schemas.mongo import OWNERS, SOLUTIONS

__all__ = ["DELETED", "UpdateAll", "absent_or_object", "removed_user"]

DELETED = "Deleted User"

PROFILE = "userProfile"
OBSERVED_PROFILE = "observationInformation.userProfile"

PERSONAL_FIELDS = (
    "lastName",
    "dob",
    "email",
    "maskedEmail",
    "recoveryEmail",
    "prevUsedEmail",
    "encEmail",
    "phone",
    "maskedPhone",
    "recoveryPhone",
    "prevUsedPhone",
    "encPhone",
)


class UpdateAll(NamedTuple):
    """One update of all documents of a collection that match ``where``."""

    collection: str
    where: dict[str, Any]
    change: dict[str, Any]


def absent_or_object(path: str) -> dict[str, Any]:
    """The filter for documents in which members of ``path`` can be set: it is missing, or an object.

    One document with null, a text or a list there would make the server refuse an update of all.
    spec: ml-user-delete §3 guards
    """
    # of a list, the type is also that of its members
    is_object = {"$and": [{path: {"$type": "object"}}, {path: {"$not": {"$type": "array"}}}]}
    return {"$or": [{path: {"$exists": False}}, is_object]}


def removed_user(user_id: str, extra_fields: Sequence[str] = ()) -> list[UpdateAll]:
    """The updates, in order, by which the ML services forget a user; each may be made again.

    ``extra_fields`` are names under ``userProfile`` that are removed too. spec: ml-user-delete §3, §8.5
    """
    updates = [
        _without_person(collection, user_id, PROFILE, extra_fields)
        for collection in ("observations", "surveySubmissions", "observationSubmissions")
    ]
    updates.append(_without_person("observationSubmissions", user_id, OBSERVED_PROFILE, extra_fields))
    updates += [
        _without_person(collection, user_id, PROFILE, extra_fields) for collection in ("projects", "programUsers")
    ]
    author = {OWNERS[SOLUTIONS]: user_id}
    license_names = {"license.author": DELETED, "license.creator": DELETED}
    updates.append(UpdateAll(SOLUTIONS, author, {"$set": {"creator": DELETED}}))
    updates.append(UpdateAll(SOLUTIONS, {**author, **absent_or_object("license")}, {"$set": license_names}))
    return updates


def _without_person(collection: str, user_id: str, profile: str, extra_fields: Sequence[str]) -> UpdateAll:
    """Parts A and B."""
    parts = profile.split(".")
    levels = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
    where = {OWNERS[collection]: user_id, "$and": [absent_or_object(level) for level in levels]}
    fields = dict.fromkeys((*PERSONAL_FIELDS, *extra_fields))
    return UpdateAll(
        collection,
        where,
        {
            "$set": {f"{profile}.firstName": DELETED},
            "$unset": {f"{profile}.{field}": "" for field in fields},
        },
    )
