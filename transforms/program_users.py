"""What is stored of a user who joined a program (spec: program-user-info §2, §3, §8)."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

from transforms.decode import id_at, text_of, value_at

__all__ = ["DATES", "columns", "date_of", "program_and_user"]

DATES = {"created_at": "createdAt", "updated_at": "updatedAt"}
"""Column -> member of the event."""

_DATE_FIRST = re.compile(r"\d{4}-\d{2}-\d{2}")


def program_and_user(event: dict[str, Any]) -> tuple[str, str] | None:
    """The row's key; None when the event names no program or no user. spec: §3.1"""
    program, user = id_at(event, "programId"), id_at(event, "userId")
    return (program, user) if program and user else None


def columns(event: dict[str, Any]) -> dict[str, Any]:
    """The columns that an event writes beside the key: None empties one, one that is not there stays. spec: §3.2"""
    locations = value_at(event, "userProfile.userLocations")
    organisation = value_at(event, "userProfile.rootOrg")
    types = value_at(event, "userProfile.profileUserTypes")
    dates = {column: date_of(event.get(member)) for column, member in DATES.items()}
    return {
        "program_externalid": text_of(event.get("programExternalId")) or None,
        "program_name": text_of(event.get("programName")) or None,
        "pii_consent_required": event.get("requestForPIIConsent") is True,
        **({"user_locations": _locations(locations)} if isinstance(locations, list) else {}),
        **(_organisation(organisation) if isinstance(organisation, dict) else {}),
        **(_user_types(types) if isinstance(types, list) else {}),
        **{column: day for column, day in dates.items() if day},
    }


def date_of(text: Any) -> date | None:
    """The date as it is written in an ISO date or date-time, in whatever zone; None for anything else. spec: §8.2"""
    if not isinstance(text, str) or not _DATE_FIRST.match(text.strip()):
        return None
    try:
        return datetime.fromisoformat(text.strip()).date()
    except ValueError:
        return None


def _locations(locations: list[Any]) -> dict[str, str]:
    members = {}
    for location in locations:
        kind = text_of(value_at(location, "type"))
        if not kind.strip():
            continue
        for name in ("name", "id", "code"):
            text = text_of(location.get(name))
            if text.strip():
                members[f"{kind}_{name}"] = text
    return members


def _organisation(organisation: dict[str, Any]) -> dict[str, str | None]:
    identifier, name = text_of(organisation.get("id")), text_of(organisation.get("orgName"))
    return {
        "organisation_id": identifier if identifier.strip() else None,
        "organisation_name": name if name.strip() else None,
    }


def _user_types(types: list[Any]) -> dict[str, str | None]:
    entries = [entry for entry in types if isinstance(entry, dict)]
    sub_types = dict.fromkeys(text_of(entry.get("subType")).upper() for entry in entries)
    return {
        "user_type": (text_of(entries[-1].get("type")).lower() if entries else "") or None,
        "user_sub_type": ",".join(sub_type for sub_type in sub_types if sub_type) or None,
    }
