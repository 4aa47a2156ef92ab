"""What the cached profile of a user holds, and how an event changes it (spec: user-cache-updater §2, §3).

A profile is a hash of texts. ``general_fields`` come from the event, ``profile_fields`` from what the user service
says; ``change_of`` turns them into what is set and removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from transforms.decode import id_at, text_of, value_at
from transforms.java_text import json_text, number_text
from transforms.stores import HashChange

__all__ = [
    "Fields",
    "SignIn",
    "change_of",
    "changes_a_user",
    "framework_of",
    "general_fields",
    "is_registered",
    "profile_fields",
    "user_of",
]

Fields = dict[str, str]

_STATES = frozenset({"create", "created", "update", "updated", "delete", "deleted"})
_FRAMEWORK = "framework_"


@dataclass(frozen=True)
class SignIn:
    """How the type of a sign-up becomes that of a sign-in; a type in both lists is validated."""

    self_types: Collection[str]
    self_signed_in: str
    validated_types: Collection[str]
    validated: str


# --- the event


def user_of(event: dict[str, Any]) -> str | None:
    """The user that an event is about; None when it is about something else. spec: §2"""
    user_id, kind = id_at(event, "object.id"), id_at(event, "object.type")
    return user_id if kind is not None and kind.lower() == "user" else None


def changes_a_user(event: dict[str, Any]) -> bool:
    """Whether the state of an event is one of those that count. spec: §2"""
    state = value_at(event, "edata.state")
    return isinstance(state, str) and state.lower() in _STATES


def is_registered(event: dict[str, Any], producer: str) -> bool:
    """Whether the user service sent the event, so that the user is to be read. spec: §2"""
    return bool(value_at(event, "context.pdata.pid") == producer)


def general_fields(event: dict[str, Any], sign_in: SignIn) -> Fields:
    """The fields that the event itself tells, whoever sent it. spec: §3.2"""
    told: dict[str, str] = {}
    entries = value_at(event, "context.cdata")
    for entry in entries if isinstance(entries, list) else ():
        kind, identifier = id_at(entry, "type"), id_at(entry, "id")
        if kind and identifier:
            told[kind.lower()] = identifier
    fields = {}
    sign_up = told.get("signuptype")
    if sign_up in sign_in.validated_types:
        fields["usersignintype"] = _text(sign_in.validated)
    elif sign_up in sign_in.self_types:
        fields["usersignintype"] = _text(sign_in.self_signed_in)
    if "userrole" in told:
        fields["userlogintype"] = _text(told["userrole"])
    return fields


# --- the user


def framework_of(user: dict[str, Any]) -> str | None:
    """The framework that a user chose: the first of ``framework.id``; None without one. spec: §3.3"""
    chosen = value_at(user, "framework.id")
    first = next(iter(chosen), None) if isinstance(chosen, list) else chosen
    return (text_of(first) or None) if isinstance(first, str | int | float) else None


def profile_fields(user: dict[str, Any], categories: Collection[str]) -> Fields:
    """The fields of what the user service answers, with the category codes of the user's framework. spec: §3.3"""
    status = user.get("status")
    is_number = isinstance(status, int | float) and not isinstance(status, bool)
    return {
        # a location must not take the place of what the user is
        **_locations(user.get("userLocations")),
        "userid": _text(user.get("userId")),
        "firstname": _text(user.get("firstName")),
        "lastname": _text(user.get("lastName")),
        "email": _text(user.get("encEmail")),
        "phone": _text(user.get("encPhone")),
        "rootorgid": _text(user.get("rootOrgId")),
        "orgname": _text(value_at(user, "rootOrg.orgName")),
        "language": _text(user.get("language")),
        "status": number_text(status) if is_number else _text(status),  # type: ignore[arg-type]
        **_user_types(user.get("profileUserTypes")),
        **_framework(user, categories),
    }


def _user_types(types: Any) -> Fields:
    if not isinstance(types, list) or not types:
        return {}
    return {
        "usertype": _text(_distinct(types, "type")),
        "usersubtype": _text(_distinct(types, "subType")),
        "profileusertypes": _text(json_text([_sub_type_first(one) for one in types])),
    }


def _distinct(types: list[Any], name: str) -> str:
    """The values of that name, each once, in order."""
    values = (text_of(one.get(name)) for one in types if isinstance(one, dict))
    return ",".join(dict.fromkeys(value for value in values if value))


def _sub_type_first(one: Any) -> Any:
    if not isinstance(one, dict):
        return one
    return {"subType": one.get("subType"), "type": one.get("type"), **one}


def _locations(locations: Any) -> Fields:
    fields = {}
    for location in locations if isinstance(locations, list) else ():
        kind = id_at(location, "type")
        if kind is None:
            continue
        if kind.lower() == "school":
            fields["schoolname"] = _text(location.get("name"))
            fields["schooludisecode"] = _text(location.get("code"))
        else:
            fields[kind] = _text(location.get("name"))
    return fields


def _framework(user: dict[str, Any], categories: Collection[str]) -> Fields:
    identifier = framework_of(user)
    if identifier is None:
        return {}
    chosen = user["framework"]
    lists = ((code, chosen.get(code)) for code in categories)
    fields = {f"{_FRAMEWORK}{code}": json_text(values) for code, values in lists if isinstance(values, list) and values}
    return {**fields, f"{_FRAMEWORK}id": _text(identifier)}


def _text(value: Any) -> str:
    """The text form of a value. A text that began with a bracket would be read as a list, so they are escaped."""
    if isinstance(value, list):
        return json_text(value)
    return text_of(value).replace("[", r"\[").replace("]", r"\]")


# --- the hash


def change_of(there: Iterable[str], events: Iterable[tuple[bool, Fields]], removable: Collection[str]) -> HashChange:
    """What a hash with the fields ``there`` becomes by events, each ``(is registered, fields)``, in their order.

    A registered event removes what its fields do not have: the ``removable`` and those of the framework. spec: §3.4
    """
    names = set(there)
    put: Fields = {}
    for registered, fields in events:
        if registered:
            stale = {name for name in names if _FRAMEWORK in name or name in removable}
            names -= stale
            put = {name: value for name, value in put.items() if name not in stale}
        names |= fields.keys()
        put |= fields
    return HashChange(put, tuple(sorted(set(there) - names)))
