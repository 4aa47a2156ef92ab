"""What the cached profile of a user holds (user-cache-updater §2, §3, §8)."""

from __future__ import annotations

from typing import Any

import pytest

from transforms.stores import HashChange
from transforms.user_cache import (
    SignIn,
    change_of,
    changes_a_user,
    framework_of,
    general_fields,
    profile_fields,
    user_of,
)

SIGN_IN = SignIn(("google", "self", "both"), "Self-Signed-In", ("sso", "both"), "Validated")
EMPTY = dict.fromkeys(
    ["userid", "firstname", "lastname", "email", "phone", "rootorgid", "orgname", "language", "status"], ""
)
REMOVABLE = ("state", "district", "block")


def general(*cdata: Any) -> dict[str, str]:
    return general_fields({"context": {"cdata": list(cdata)}}, SIGN_IN)


def profile(categories: tuple[str, ...] = (), **user: Any) -> dict[str, str]:
    """What there is beside the empty fields."""
    fields = profile_fields(user, categories)
    return {name: value for name, value in fields.items() if EMPTY.get(name) != value}


@pytest.mark.parametrize(
    ("about", "user"),
    [
        ({"id": "learner-1", "type": "User"}, "learner-1"),
        ({"id": "learner-1", "type": "USER"}, "learner-1"),
        ({"id": "learner-1", "type": "content"}, None),
        ({"id": "", "type": "user"}, None),
        ({"id": 5, "type": "user"}, None),
        ({"id": "learner-1"}, None),
        (None, None),
        ("user", None),
    ],
)
def test_the_user_of_an_event(about: Any, user: str | None) -> None:
    assert user_of({"object": about}) == user


@pytest.mark.parametrize("state", ["create", "Created", "UPDATE", "updated", "delete", "Deleted"])
def test_states_that_count(state: str) -> None:
    assert changes_a_user({"edata": {"state": state}})


@pytest.mark.parametrize("edata", [None, {}, {"state": "Blocked"}, {"state": None}, {"state": 1}, {"state": " update"}])
def test_states_that_do_not(edata: Any) -> None:
    assert not changes_a_user({"edata": edata})


def test_sign_in_types() -> None:
    """§3.2"""
    assert general({"type": "SignupType", "id": "google"}) == {"usersignintype": "Self-Signed-In"}
    assert general({"type": "SignupType", "id": "sso"}) == {"usersignintype": "Validated"}
    assert general({"type": "SignupType", "id": "both"}) == {"usersignintype": "Validated"}
    assert general({"type": "SignupType", "id": "Google"}) == {}
    assert general({"type": "SIGNUPTYPE", "id": "sso"}, {"type": "signuptype", "id": "self"}) == {
        "usersignintype": "Self-Signed-In"
    }


def test_odd_cdata_is_ignored() -> None:
    """§9 case 10, §8.2"""
    assert general({"id": "x"}, {"type": "signuptype", "id": "self"}) == {"usersignintype": "Self-Signed-In"}
    assert general({"type": "UserRole"}, {"type": "UserRole", "id": None}, None, "UserRole", 5) == {}
    assert general({"type": "UserRole", "id": "parent"}, {"type": "UserRole"}) == {"userlogintype": "parent"}
    assert general({"type": "UserRole", "id": "[x]"}) == {"userlogintype": r"\[x\]"}
    for cdata in (None, {}, "x", 5):
        assert general_fields({"context": {"cdata": cdata}}, SIGN_IN) == {}


def test_what_is_missing_is_empty() -> None:
    """§9 case 5"""
    assert profile_fields({}, ()) == EMPTY
    nothing = dict.fromkeys(["userId", "rootOrg", "framework", "profileUserTypes", "userLocations", "language"])
    assert profile_fields(nothing, ("board",)) == EMPTY
    assert profile_fields({"rootOrg": "x", "framework": [], "profileUserTypes": {}, "userLocations": "x"}, ()) == EMPTY


@pytest.mark.parametrize(
    ("status", "text"), [(1, "1.0"), (0, "0.0"), (1.0, "1.0"), ("1", "1"), (True, "true"), (None, ""), ({}, "")]
)
def test_the_status(status: Any, text: str) -> None:
    assert profile_fields({"status": status}, ())["status"] == text


def test_lists_are_json_and_texts_have_no_bare_brackets() -> None:
    """§3.3, text form of values"""
    assert profile(language=["English", "a=b [c]"]) == {"language": r'["English","a\u003db [c]"]'}
    assert profile(language=[]) == {"language": "[]"}
    assert profile(firstName="[A]", lastName="x'<") == {"firstname": r"\[A\]", "lastname": "x'<"}
    assert profile(firstName={"a": 1}, lastName=5) == {"lastname": "5"}


def test_user_types() -> None:
    """§3.3"""
    types = [{"type": "teacher", "subType": None}, {"type": "administrator", "subType": "hm"}, {"type": "teacher"}]
    assert profile(profileUserTypes=types) == {
        "usertype": "teacher,administrator",
        "usersubtype": "hm",
        "profileusertypes": r'\[{"type":"teacher"},{"subType":"hm","type":"administrator"},{"type":"teacher"}\]',
    }
    assert profile(profileUserTypes=[]) == {}
    odd = [None, "x", {"type": "", "subType": 5, "more": [1]}]
    assert profile(profileUserTypes=odd) == {
        "usertype": "",
        "usersubtype": "5",
        "profileusertypes": r'\[null,"x",{"subType":5.0,"type":"","more":\[1.0\]}\]',
    }


def test_locations() -> None:
    """§3.3, §6"""
    locations = [
        {"type": "state", "name": "Tara", "code": 35},
        {"type": "State", "name": "Other"},
        {"type": "block", "name": None},
        {"type": "School", "name": "[No. 4]", "code": 350100401},
        {"type": "state", "name": "Tara [x]"},
        {"type": "firstname", "name": "a location"},
        {"name": "no type"},
        {"type": ""},
        "x",
        None,
    ]
    assert profile(userLocations=locations, firstName="Learner") == {
        "state": r"Tara \[x\]",
        "State": "Other",
        "block": "",
        "schoolname": r"\[No. 4\]",
        "schooludisecode": "350100401",
        "firstname": "Learner",
    }


def test_the_framework() -> None:
    """§3.3, §9 case 4"""
    framework = {"id": ["tara_k-12", "other"], "board": ["State [x]"], "gradeLevel": [], "medium": None, "subject": "x"}
    codes = ("board", "medium", "gradeLevel", "subject", "missing")
    assert framework_of({"framework": framework}) == "tara_k-12"
    assert profile(codes, framework=framework) == {
        "framework_id": "tara_k-12",
        "framework_board": '["State [x]"]',
    }
    assert profile((), framework=framework) == {"framework_id": "tara_k-12"}
    for identifier in (None, [], [None], [""], {}, ""):
        odd = {**framework, "id": identifier}
        assert framework_of({"framework": odd}) is None
        assert profile(codes, framework=odd) == {}
    assert framework_of({"framework": {"id": "tara"}}) == "tara"
    assert framework_of({"framework": {"id": [5]}}) == "5"


def test_what_a_registered_event_removes() -> None:
    """§3.4, §9 case 2"""
    there = ["state", "district", "my_framework_x", "framework_id", "userlogintype", "firstname"]
    fields = {"state": "Tara", "firstname": "Learner"}
    assert change_of(there, [(True, fields)], REMOVABLE) == HashChange(
        fields, ("district", "framework_id", "my_framework_x")
    )
    assert change_of(there, [(False, {"userlogintype": "parent"})], REMOVABLE) == HashChange(
        {"userlogintype": "parent"}
    )


def test_events_of_one_user_one_after_the_other() -> None:
    """§3.5"""
    first = {"state": "Tara", "block": "B", "framework_id": "f", "framework_board": "[]", "firstname": "A"}
    second = {"state": "Mira", "framework_id": "g"}
    change = change_of(
        ["block", "district"], [(True, first), (False, {"userlogintype": "x"}), (True, second)], REMOVABLE
    )
    assert change == HashChange(
        {"state": "Mira", "framework_id": "g", "firstname": "A", "userlogintype": "x"}, ("block", "district")
    )
