"""What transforms.stores.KeyValues promises; twin and server alike (spec: core §5, §6, §15)."""

from __future__ import annotations

import threading
from hashlib import md5

import pytest

from tests.contract.conftest import Database
from transforms.consumption import Enrolment
from transforms.dedup import checksum
from transforms.stores import HashChange, KeyValues, Refused

TEXT = "Ä ' \u0000 \r\n \U0001f600"
NO_TEXT = "\ud800"


def test_a_stored_checksum(database: Database):
    """core §15, case 1"""
    key = checksum(Enrolment("learner-1", "do_2139001", "0139001"), "do_31")
    assert key == md5(b"do_2139001|0139001|learner-1|do_31|2").hexdigest().upper()  # noqa: S324 - the contract's
    assert database.store.exists([key]) == [False]
    database.store.set({key: ""}, 604_800)
    assert database.store.exists([key]) == [True]
    assert database.store.get([key]) == [""]
    assert database.type_of(key) == "string"
    left = database.time_to_live(key)
    assert left is not None
    assert 604_700 < left <= 604_800


def test_storing_again_renews_the_time_to_live_and_without_expiry_ends_it(database: Database):
    database.store.set({"k": "1"}, 10)
    database.store.set({"k": "2"}, 1_000)
    left = database.time_to_live("k")
    assert left is not None
    assert left > 900
    database.store.set({"k": "3"})
    assert database.time_to_live("k") is None
    assert database.store.get(["k"]) == ["3"]


def test_an_expiry_is_at_least_a_second(store: KeyValues):
    with pytest.raises(ValueError, match="expiry"):
        store.set({"k": ""}, 0)


def test_replacing_a_set_is_never_seen_half_done(store: KeyValues):
    """core §15, case 4"""
    store.replace_sets({"s": ["a", "b"]})
    done = threading.Event()
    seen: set[frozenset[str]] = set()

    def read() -> None:
        while not done.is_set():
            seen.update(store.members(["s"]))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(300):
            store.replace_sets({"s": ["c"], "other": ["x"]})
            store.replace_sets({"s": ["a", "b"]})
        store.replace_sets({"s": ["c"]})
    finally:
        done.set()
        reader.join()
    assert seen <= {frozenset("ab"), frozenset("c")}
    assert store.members(["s"]) == [frozenset("c")]


def test_members_of_many_keys_in_their_order(store: KeyValues):
    sets = {f"s{n}": [f"{n}", f"{n}-{TEXT}"] for n in range(2_500)}
    store.replace_sets(sets)
    assert store.members([*sets, "missing", "s7"]) == [
        *map(frozenset, sets.values()),
        frozenset(),
        frozenset(sets["s7"]),
    ]


def test_a_set_of_many_members(store: KeyValues):
    members = [f"do_{n}" for n in range(50_000)]
    store.replace_sets({"s": members})
    assert store.members(["s"]) == [frozenset(members)]


def test_a_set_without_members_is_a_mistake_and_nothing_is_replaced(store: KeyValues):
    store.replace_sets({"a": ["1"]})
    with pytest.raises(ValueError, match="b"):
        store.replace_sets({"a": ["2"], "b": []})
    assert store.members(["a"]) == [frozenset("1")]


def test_a_set_replaces_a_value_of_another_type_and_its_expiry(database: Database):
    database.store.set({"k": "x"}, 100)
    database.store.replace_sets({"k": ["a"]})
    assert database.type_of("k") == "set"
    assert database.time_to_live("k") is None


def test_members_are_added(store: KeyValues):
    store.add_members("s", ["a"])
    store.add_members("s", ["a", "b"])
    store.add_members("s", [])
    store.add_members("none", [])
    assert store.members(["s", "none"]) == [frozenset("ab"), frozenset()]
    assert store.exists(["none"]) == [False]


def test_keys_of_every_type_exist(store: KeyValues):
    store.set({"string": "", "other": "x"})
    store.replace_sets({"set": ["a"]})
    store.set_hash("hash", {"a": "b"})
    assert store.exists(["string", "missing", "set", "hash", "string"]) == [True, False, True, True, True]


def test_many_values(store: KeyValues):
    values = {f"{TEXT}{n}": f"{n}{TEXT}" for n in range(2_500)}
    store.set(values)
    assert store.get([*values, "missing", ""]) == [*values.values(), None, None]
    store.set(values, 100)
    assert store.get(list(values)) == list(values.values())


def test_deleting_says_how_many_there_were(store: KeyValues):
    store.set({f"k{n}": "" for n in range(1_200)})
    store.replace_sets({"s": ["a"]})
    assert store.delete([*(f"k{n}" for n in range(1_200)), "s", "missing"]) == 1_201
    assert store.scan("") == []
    assert store.delete([]) == 0


@pytest.mark.parametrize("prefix", ["do_21:", "do_2*:", "do_2?:", "do_[2]:", "do_\\:", "do_^-]:", f"{TEXT}:", ""])
def test_scan_takes_the_prefix_literally(store: KeyValues, prefix: str):
    others = ["do_212:x", "do_2:x", "do_2a:x", "other", "xdo_21:y"]
    store.set(dict.fromkeys(others, ""))
    store.set({f"{prefix}{n}": "" for n in range(2_000)})
    expected = {f"{prefix}{n}" for n in range(2_000)} | {key for key in others if key.startswith(prefix)}
    assert store.scan(prefix) == sorted(expected)


def test_nothing_to_do(store: KeyValues):
    assert (store.members([]), store.exists([]), store.get([]), store.hash_fields([])) == ([], [], [], [])
    store.set({})
    store.set({}, 10)
    store.replace_sets({})
    assert store.scan("") == []


def test_a_hash_read_as_data_cache(store: KeyValues):
    """core §15, case 7"""
    store.set_hash("h", {"a": "", "b": "[1,2]", "c": "x"})
    assert store.hash_map("h") == {"b": [1, 2], "c": "x"}
    assert store.hash_map("missing") == {}


def test_fields_of_a_hash(store: KeyValues):
    store.set_hash("h", {"a": ' {"x": 1}', "b": "[1", "c": "x"})
    store.set_hash("h", {"c": "y", "Some_Name": "5"})
    store.set_hash("h", {})
    assert store.hash_map("h") == {"a": {"x": 1}, "b": "[1", "c": "y", "Some_Name": "5"}
    assert store.hash_map("h", ["c", "missing"]) == {"c": "y"}
    assert store.hash_map("h", ["c"], all_fields=True) == store.hash_map("h")
    store.delete_hash_fields("h", ["a", "b", "missing"])
    store.delete_hash_fields("h", [])
    assert store.hash_map("h") == {"c": "y", "Some_Name": "5"}
    store.delete_hash_fields("h", ["c", "Some_Name"])
    assert store.exists(["h"]) == [False]


def test_the_fields_of_many_hashes(store: KeyValues):
    """spec: user-cache-updater §3.4"""
    for number in range(2_500):
        store.set_hash(f"h{number}", {TEXT: "1", f"field-{number}": "[1"})
    store.set({"string": "x"})
    found = store.hash_fields([*(f"h{number}" for number in range(2_500)), "missing", "string", "h7"])
    assert found[:2_501] == [*(frozenset({TEXT, f"field-{number}"}) for number in range(2_500)), frozenset()]
    assert isinstance(found[2_501], Refused)
    assert "string" in str(found[2_501])
    assert "WRONGTYPE" in str(found[2_501])
    assert found[2_502] == found[7]


def test_many_hashes_are_changed(database: Database):
    """spec: user-cache-updater §3.4"""
    store = database.store
    for number in range(1_500):
        store.set_hash(f"h{number}", {"stays": "1", "goes": "2", "changes": "3"})
    store.set({"string": "x"})
    change = HashChange({"changes": TEXT, "comes": ""}, ["goes", "missing"])
    keys = [f"h{number}" for number in range(1_500)]
    results = store.change_hashes(
        {**dict.fromkeys(keys[:700], change), "string": change, "new": change, "no": HashChange()}
    )
    assert results[:700] == [None] * 700
    assert isinstance(results[700], Refused)
    assert "string" in str(results[700])
    assert "WRONGTYPE" in str(results[700])
    assert results[701:] == [None, None]
    assert store.change_hashes(dict.fromkeys(keys[700:], change)) == [None] * 800
    for key in keys[::100]:
        assert store.hash_map(key, all_fields=True) == {"stays": "1", "changes": TEXT}, "empty values are not read"
    assert store.hash_fields([keys[0], "new", "no"]) == [
        {"stays", "changes", "comes"},
        {"changes", "comes"},
        frozenset(),
    ]
    assert store.get(["string"]) == ["x"]
    assert database.time_to_live("new") is None
    assert store.change_hashes({"new": HashChange(remove=["changes", "comes"])}) == [None]
    assert store.exists(["new", "no"]) == [False, False]
    assert store.change_hashes({}) == []


def test_what_is_removed_and_set_in_one_step_is_set(store: KeyValues):
    store.set_hash("h", {"a": "1", "b": "2"})
    store.change_hashes({"h": HashChange({"a": "3"}, ["a", "b"])})
    assert store.hash_map("h") == {"a": "3"}


def test_changing_a_hash_is_never_seen_half_done(store: KeyValues):
    """spec: user-cache-updater §3.4"""
    store.set_hash("h", {"a": "1"})
    done = threading.Event()
    seen: set[frozenset[str] | Refused] = set()

    def read() -> None:
        while not done.is_set():
            seen.update(store.hash_fields(["h"]))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(300):
            store.change_hashes({"h": HashChange({"b": "1", "c": "1"}, ["a"])})
            store.change_hashes({"h": HashChange({"a": "1"}, ["b", "c"])})
    finally:
        done.set()
        reader.join()
    assert seen <= {frozenset("a"), frozenset("bc")}


def test_a_json_object_read_as_data_cache(store: KeyValues):
    """core §15, case 8"""
    store.set({"k": '{"Content_Type":"Course","x":""}'})
    assert store.json_map("k") == {"contenttype": "Course"}
    store.set({"k": '{"Content_Type":"Course","x":0,"leaf_nodes":["a"],"n":null}'})
    assert store.json_map("k") == {"contenttype": "Course", "x": 0, "leafnodes": ["a"], "n": None}
    assert store.json_map("k", ["leaf_nodes", "missing"]) == {"leafnodes": ["a"]}
    assert store.json_map("missing") == {}
    store.set({"empty": ""})
    assert store.json_map("empty") == {}


@pytest.mark.parametrize("text", ["[1]", "{", "null", "x", '"x"'])
def test_what_is_no_json_object_is_refused(store: KeyValues, text: str):
    store.set({"the-key": text})
    with pytest.raises(Refused, match="the-key"):
        store.json_map("the-key")


def test_a_key_of_another_type_is_refused_and_named(store: KeyValues):
    store.set({"string": "x", "good": "y"})
    store.replace_sets({"set": ["a"]})
    for call in (
        lambda: store.members(["set", "string"]),
        lambda: store.hash_map("string"),
        lambda: store.set_hash("string", {"a": "b"}),
        lambda: store.delete_hash_fields("string", ["a"]),
        lambda: store.add_members("string", ["a"]),
    ):
        with pytest.raises(Refused, match=r"string.*WRONGTYPE"):
            call()
    for call in (lambda: store.get(["good", "set"]), lambda: store.json_map("set")):
        with pytest.raises(Refused, match=r"set.*WRONGTYPE"):
            call()
    assert store.get(["good"]) == ["y"]


def test_what_is_no_text_is_refused(store: KeyValues):
    for call in (
        lambda: store.members([NO_TEXT]),
        lambda: store.exists([NO_TEXT]),
        lambda: store.get([NO_TEXT]),
        lambda: store.set({"k": NO_TEXT}),
        lambda: store.set({NO_TEXT: "k"}, 10),
        lambda: store.replace_sets({"k": ["a", NO_TEXT]}),
        lambda: store.add_members("k", [5]),  # type: ignore[list-item]
        lambda: store.delete([NO_TEXT]),
        lambda: store.scan(NO_TEXT),
        lambda: store.set_hash("k", {"a": NO_TEXT}),
        lambda: store.delete_hash_fields("k", [NO_TEXT]),
        lambda: store.hash_map(NO_TEXT),
        lambda: store.hash_fields(["k", NO_TEXT]),
        lambda: store.change_hashes({"k": HashChange({"a": "b"}), "l": HashChange({"a": NO_TEXT})}),
        lambda: store.change_hashes({"k": HashChange({"a": "b"}, [NO_TEXT])}),
    ):
        with pytest.raises(Refused):
            call()
    assert store.exists(["k"]) == [False]
