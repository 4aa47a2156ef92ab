"""The rules that turn a collection's tree into sets and texts, against naive references and hand-made trees."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.decode import NotAnObject, parse_object
from transforms.relation_cache import (
    COLLECTION_MIME_TYPE,
    ancestors,
    flatten,
    leaf_nodes,
    optional_nodes,
    root_of,
    stale_keys,
    unit_texts,
)

Tree = dict[str, Any]


def unit(identifier: str, *children: Any, **members: Any) -> Tree:
    return {
        "identifier": identifier,
        "mimeType": COLLECTION_MIME_TYPE,
        "visibility": "Parent",
        "children": list(children),
    } | members


def course(*children: Any, **members: Any) -> Tree:
    return unit("R", *children, visibility="Default", **members)


def leaf(identifier: str, **members: Any) -> Tree:
    return {"identifier": identifier, "mimeType": "video/mp4", "visibility": "Default"} | members


def optional(node: Tree, mark: Any = True) -> Tree:
    return node | {"relationalMetadata": {"optional": mark}}


def sets(rule: Any, tree: Tree, root: str = "R") -> dict[str, set[str]]:
    entries = [(identifier, set(members)) for identifier, members in rule(flatten(root, tree))]
    assert len(dict(entries)) == len(entries), "an id came twice"
    return dict(entries)


def units(tree: Tree, root: str = "R") -> dict[str, Any]:
    entries = list(unit_texts(flatten(root, tree)))
    assert len(dict(entries)) == len(entries), "an id came twice"
    return {identifier: orjson.loads(text) for identifier, text in entries}


EXAMPLE = course(
    unit("M", unit("U1", leaf("a"), leaf("b")), unit("U2", leaf("b"), optional(leaf("c")))),
    leaf("d"),
)


def test_the_example_of_the_spec() -> None:
    assert sets(leaf_nodes, EXAMPLE) == {
        "R": {"a", "b", "c", "d"},
        "M": {"a", "b", "c"},
        "U1": {"a", "b"},
        "U2": {"b", "c"},
    }
    assert sets(optional_nodes, EXAMPLE) == {"R": {"c"}, "M": {"c"}, "U2": {"c"}}
    assert sets(ancestors, EXAMPLE) == {
        "a": {"U1", "M", "R"},
        "b": {"U1", "U2", "M", "R"},
        "c": {"U2", "M", "R"},
        "d": {"R"},
    }
    middle = EXAMPLE["children"][0]
    assert units(EXAMPLE) == {"M": middle, "U1": middle["children"][0], "U2": middle["children"][1]}


# --- events -----------------------------------------------------------------------------------------------------


def event(**edata: Any) -> Tree:
    return {
        "edata": {"action": "post-publish-process", "mimeType": COLLECTION_MIME_TYPE, "identifier": "do_21"} | edata
    }


@pytest.mark.parametrize("action", ["post-publish-process", "relation-cache-update"])
@pytest.mark.parametrize("mime_type", [COLLECTION_MIME_TYPE, COLLECTION_MIME_TYPE.upper()])
def test_an_event_names_its_root(action: str, mime_type: str) -> None:
    assert root_of(event(action=action, mimeType=mime_type)) == "do_21"


def test_the_root_is_taken_as_it_is() -> None:
    assert root_of(event(identifier=" do 21:*\0 ")) == " do 21:*\0 "


ODD_VALUES: list[Any] = [None, "", "  ", 0, 1.5, True, [], ["post-publish-process"], {}, {"a": 1}]


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
@pytest.mark.parametrize("name", ["action", "mimeType", "identifier"])
def test_an_event_of_other_types_names_no_root(name: str, value: Any) -> None:
    assert root_of(event(**{name: value})) is None


@pytest.mark.parametrize("value", [*ODD_VALUES, "text"], ids=repr)
def test_an_event_without_edata_names_no_root(value: Any) -> None:
    assert root_of({"edata": value}) is None
    assert root_of({}) is None


@pytest.mark.parametrize("action", ["publish", "Post-Publish-Process", " post-publish-process"])
def test_the_action_must_match_exactly(action: str) -> None:
    assert root_of(event(action=action)) is None


# --- leaf nodes -------------------------------------------------------------------------------------------------


def test_given_lists_win_over_the_children_and_an_empty_one_means_no_entry() -> None:
    tree = course(unit("U", leaf("a"), leafNodes=[]), leaf("b"), leafNodes=["x", "x", "y"])
    assert sets(leaf_nodes, tree) == {"R": {"x", "y"}}


def test_composing_ignores_the_lists_of_units_below() -> None:
    tree = course(unit("U", leaf("a"), leafNodes=["x"]))
    assert sets(leaf_nodes, tree) == {"R": {"a"}, "U": {"x"}}


@pytest.mark.parametrize("odd", [None, "a,b", 7, True, {"a": 1}], ids=repr)
def test_leaf_nodes_that_are_no_list_count_as_missing(odd: Any) -> None:
    assert sets(leaf_nodes, course(leaf("a"), leafNodes=odd)) == {"R": {"a"}}


def test_members_of_leaf_nodes_that_are_no_strings_are_left_out() -> None:
    assert sets(leaf_nodes, course(leaf("a"), leafNodes=["x", None, 1, {}, ["y"]])) == {"R": {"x"}}
    assert sets(leaf_nodes, course(leaf("a"), leafNodes=[None, 1])) == {}


def test_the_last_occurrence_of_a_unit_that_has_leaves_wins() -> None:
    assert sets(leaf_nodes, course(unit("U", leaf("a")), unit("U", leaf("b")), unit("U")))["U"] == {"b"}
    # inside itself: the inner one comes later in tree order
    assert sets(leaf_nodes, course(unit("U", leaf("a"), unit("U", leaf("b")))))["U"] == {"b"}


def test_the_root_stands_under_the_id_of_the_event_whatever_it_says_of_itself() -> None:
    tree = course(leaf("a"), unit("U", leaf("b"))) | {"identifier": "other", "mimeType": None, "visibility": "parent"}
    assert sets(leaf_nodes, tree) == {"R": {"a", "b"}, "U": {"b"}}
    assert sets(ancestors, tree) == {"a": {"R"}, "b": {"R", "U"}}
    assert set(units(tree)) == {"R", "U"}


def test_a_node_without_mime_type_is_a_leaf_and_what_is_below_a_leaf_is_neither_leaf_nor_unit() -> None:
    tree = course({"identifier": "q", "children": [leaf("x"), unit("V", leaf("y"))]})
    assert sets(leaf_nodes, tree) == {"R": {"q"}}
    assert sets(ancestors, tree) == {"q": {"R"}}
    assert units(tree) == {}


@pytest.mark.parametrize("odd", [None, "a", 7, True, [], [leaf("x")], leaf("  ", children=[leaf("x")])], ids=repr)
def test_children_without_an_identifier_are_passed_over_with_all_below(odd: Any) -> None:
    tree = course(odd, {"children": [leaf("x")]}, unit(7, leaf("x")), unit("", leaf("x")), leaf("a"))  # type: ignore[arg-type]
    assert sets(leaf_nodes, tree) == {"R": {"a"}}
    assert sets(ancestors, tree) == {"a": {"R"}}
    assert sets(optional_nodes, course(optional(unit(None, leaf("x"))))) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize("odd", [None, "a", 7, True, {"identifier": "x"}], ids=repr)
def test_children_that_are_no_list_are_none(odd: Any) -> None:
    tree = course(unit("U", children=odd), children=odd)
    assert sets(leaf_nodes, tree) == sets(ancestors, tree) == sets(optional_nodes, tree) == units(tree) == {}


@pytest.mark.parametrize("odd", [None, 7, True, [], {}, [COLLECTION_MIME_TYPE]], ids=repr)
def test_a_mime_type_of_another_type_makes_a_leaf(odd: Any) -> None:
    assert sets(leaf_nodes, course(unit("U", leaf("a"), mimeType=odd))) == {"R": {"U"}}


# --- optional nodes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [True, "true", "TRUE", "True"])
def test_marks_that_make_a_node_optional(mark: Any) -> None:
    assert sets(optional_nodes, course(optional(leaf("a"), mark))) == {"R": {"a"}}


@pytest.mark.parametrize("mark", [None, False, "false", "yes", " true", 1, 0, [True], {"optional": True}], ids=repr)
def test_marks_that_do_not(mark: Any) -> None:
    assert sets(optional_nodes, course(optional(leaf("a"), mark))) == {}


@pytest.mark.parametrize("metadata", [None, True, "optional", [], 7], ids=repr)
def test_relational_metadata_of_another_type_marks_nothing(metadata: Any) -> None:
    assert sets(optional_nodes, course(leaf("a", relationalMetadata=metadata, optional=True))) == {}


def test_an_optional_collection_gives_its_own_id_and_hides_what_is_below_it() -> None:
    tree = course(unit("M", optional(unit("O", optional(leaf("a")), unit("P", optional(leaf("b")))))))
    assert sets(optional_nodes, tree) == {"R": {"O"}, "M": {"O"}, "O": {"a", "b"}, "P": {"b"}}


def test_an_optional_root_hides_nothing() -> None:
    assert sets(optional_nodes, optional(course(optional(leaf("a"))))) == {"R": {"a"}}


def test_optional_in_one_place_is_optional_for_the_root() -> None:
    tree = course(unit("U1", optional(leaf("e"))), unit("U2", leaf("e")))
    assert sets(optional_nodes, tree) == {"R": {"e"}, "U1": {"e"}}


def test_an_optional_node_below_a_mandatory_leaf_is_found() -> None:
    tree = course(leaf("q", children=[optional(leaf("x"))]))
    assert sets(optional_nodes, tree) == {"R": {"x"}}


# --- units map --------------------------------------------------------------------------------------------------


def test_which_units_are_in_the_map() -> None:
    shared = unit("S", unit("T", leaf("a")), visibility="Default")
    empty = unit("E")
    lower = unit("L", leaf("a"), visibility="PARENT")
    unmarked = unit("N", leaf("a"), visibility=None)
    only_odd_children = unit("X", None, {"name": "no id"})
    assert set(units(course(shared, empty, lower, unmarked, only_odd_children))) == {"T", "L"}


def test_a_unit_is_complete_in_the_order_of_its_source_and_compact() -> None:
    source = (
        '{"identifier": "R", "children": [ {"visibility": "Parent", "z": [1, 1.0, {"b": [ ], "a": null}], '
        '"children": [{"identifier": "a", "name": "\u0915\U0001f600\\n"}, {"name": "no id"}, 7, null], '
        '"identifier": "U", "mimeType": "application/vnd.ekstep.content-collection", "a": ""} ]}'
    )
    [(identifier, text)] = unit_texts(flatten("R", parse_object(source)))
    assert identifier == "U"
    assert text == (
        '{"visibility":"Parent","z":[1,1.0,{"b":[],"a":null}],'
        '"children":[{"identifier":"a","name":"\u0915\U0001f600\\n"},{"name":"no id"},7,null],'
        '"identifier":"U","mimeType":"application/vnd.ekstep.content-collection","a":""}'
    )


def test_the_tree_is_left_as_it_was() -> None:
    before = orjson.dumps(EXAMPLE)
    units(EXAMPLE)
    assert orjson.dumps(EXAMPLE) == before


# --- clean-up ---------------------------------------------------------------------------------------------------


def test_stale_keys_are_those_of_this_root_alone() -> None:
    written = {"R:R:leafnodes"}
    ours = ["R:U:leafnodes", "R:U:optionalnodes", "R:a:ancestors", "R::leafnodes"]
    others = ["R:R:leafnodes", "R:U:x:leafnodes", "R:leafnodes", "R:U:other", "R2:U:leafnodes", "R:U:leafnodes2", "R:"]
    assert stale_keys("R", [*ours, *others], written) == ours


def test_stale_keys_of_a_root_with_colons_and_glob_characters() -> None:
    root = "R:*[?]\\"
    ours = [f"{root}:U:leafnodes", f"{root}:{root}:optionalnodes"]
    others = [f"{root}:U:x:leafnodes", "R:x:leafnodes", f"{root}:leafnodes"]
    assert stale_keys(root, [*ours, *others], set()) == ours


# --- any tree: the rules against naive recursion -------------------------------------------------------------------

identifiers = st.sampled_from(["R", "a", "b", "c", "U", "V", "W", "X:y", "*"])
nodes = st.recursive(
    st.fixed_dictionaries({"identifier": identifiers}),
    lambda inner: st.fixed_dictionaries(
        {"identifier": identifiers | st.sampled_from([None, " ", 3])},
        optional={
            "mimeType": st.sampled_from([COLLECTION_MIME_TYPE] * 4 + [COLLECTION_MIME_TYPE.upper(), "video/mp4", None]),
            "visibility": st.sampled_from(["Parent", "parent", "Default", None]),
            "leafNodes": st.lists(identifiers, max_size=2) | st.none(),
            "relationalMetadata": st.sampled_from(
                [{"optional": True}, {"optional": "True"}, {"optional": False}, None]
            ),
            "children": st.lists(inner | st.none() | st.just("text"), max_size=4) | st.none(),
        },
    ),
    max_leaves=25,
)
trees = st.lists(nodes, max_size=5).map(lambda children: orjson.loads(orjson.dumps(course(*children))))


def _children(node: Tree) -> list[Tree]:
    return [
        child
        for child in node.get("children") or []
        if isinstance(child, dict) and isinstance(child["identifier"], str) and child["identifier"].strip()
    ]


def _is_collection(node: Tree) -> bool:
    return (node.get("mimeType") or "").lower() == COLLECTION_MIME_TYPE


def _collections(root: str, node: Tree) -> list[tuple[str, Tree]]:
    below = [_collections(child["identifier"], child) for child in _children(node) if _is_collection(child)]
    return [(root, node), *(found for part in below for found in part)]


def _leaves(node: Tree) -> set[str]:
    found = set()
    for child in _children(node):
        found |= _leaves(child) if _is_collection(child) else {child["identifier"]}
    return found


def _optional(node: Tree) -> set[str]:
    found = set()
    for child in _children(node):
        marked = str((child.get("relationalMetadata") or {}).get("optional")).lower() == "true"
        found |= {child["identifier"]} if marked else _optional(child)
    return found


def _ways(identifier: str, node: Tree, above: frozenset[str] = frozenset()) -> list[tuple[str, frozenset[str]]]:
    way = above | {identifier}
    found = []
    for child in _children(node):
        if _is_collection(child):
            found += _ways(child["identifier"], child, way)
        else:
            found.append((child["identifier"], way))
    return found


@given(trees)
def test_the_sets_equal_those_of_the_naive_rules(tree: Tree) -> None:
    collections = _collections("R", tree)
    given_or_composed = [
        (identifier, set(node["leafNodes"]) if node.get("leafNodes") is not None else _leaves(node))
        for identifier, node in collections
    ]
    assert sets(leaf_nodes, tree) == {identifier: members for identifier, members in given_or_composed if members}
    marked = [(identifier, _optional(node)) for identifier, node in collections]
    assert sets(optional_nodes, tree) == {identifier: members for identifier, members in marked if members}
    union: dict[str, set[str]] = {}
    for identifier, way in _ways("R", tree):
        union.setdefault(identifier, set()).update(way)
    assert sets(ancestors, tree) == union


@given(trees)
def test_the_units_equal_those_of_the_naive_rule(tree: Tree) -> None:
    expected = {
        identifier: orjson.dumps(node).decode()
        for identifier, node in _collections("R", tree)
        if (node.get("visibility") or "").lower() == "parent" and _children(node)
    }
    assert dict(unit_texts(flatten("R", tree))) == expected


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.text("a *:\0\U0001f600", max_size=3)
    | st.just(COLLECTION_MIME_TYPE),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "identifier",
                    "mimeType",
                    "visibility",
                    "leafNodes",
                    "relationalMetadata",
                    "optional",
                    "children",
                    "edata",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=40,
)


@given(st.dictionaries(st.sampled_from(["identifier", "children", "leafNodes", "visibility"]), json_values))
def test_no_json_breaks_the_rules(tree: Tree) -> None:
    flat = flatten("R", tree)
    for rule in (leaf_nodes, optional_nodes, ancestors):
        for _, members in rule(flat):
            assert members
            assert all(isinstance(member, str) for member in members)
    list(unit_texts(flat))
    root_of({"edata": tree})
    root_of(tree)


# --- size and depth -----------------------------------------------------------------------------------------------


def large_course() -> Tree:
    """A root, four levels of units below it (781 collections in all), and contents in each: 5,155 nodes, 4 MB."""
    filler = {f"member{number}": f"value {number} of some length" for number in range(20)}
    numbers = iter(range(1_000_000))

    def make(level: int) -> Tree:
        children: list[Tree] = [leaf(f"do_{next(numbers)}", **filler) for _ in range(6 if level == 4 else 4)]
        if level < 4:
            children += [make(level + 1) for _ in range(5)]
        return unit(f"unit_{next(numbers)}", *children, **filler)

    return make(0)


def everything(tree: Tree) -> int:
    flat = flatten("R", tree)
    texts = sum(len(text) for _, text in unit_texts(flat))
    return texts + sum(len(members) for rule in (leaf_nodes, optional_nodes, ancestors) for _, members in rule(flat))


def test_a_course_of_5000_nodes_takes_less_than_a_second_of_cpu() -> None:
    text = orjson.dumps(large_course())
    started = time.process_time()
    tree = parse_object(text)
    assert len(flatten("R", tree)) > 5_000
    everything(tree)
    assert time.process_time() - started < 1


def test_a_tree_as_deep_as_json_may_be_is_written_whole() -> None:
    depth = 500
    opened = f'{{"identifier":"U","visibility":"Parent","mimeType":"{COLLECTION_MIME_TYPE}","children":['
    text = opened * depth + '{"identifier":"a"}' + "]}" * depth
    tree = parse_object(text)
    assert sets(leaf_nodes, tree) == {"R": {"a"}, "U": {"a"}}
    texts = dict(unit_texts(flatten("R", tree)))
    assert texts["R"] == text
    assert texts["U"].count("children") == 1


def test_a_deep_member_that_is_no_child_is_written_too() -> None:
    deep = '{"x":' * 900 + "1" + "}" * 900
    text = f'{{"identifier":"R","visibility":"Parent","deep":{deep},"children":[{{"identifier":"a"}}]}}'
    assert dict(unit_texts(flatten("R", parse_object(text)))) == {"R": text}


def test_no_depth_exhausts_the_stack() -> None:
    tree: Tree = leaf("a")
    for number in range(10_000):
        tree = unit(f"U{number}", tree, visibility="Default")
    flat = flatten("R", tree)
    assert len(dict(ancestors(flat))["a"]) == 10_000
    assert len(list(leaf_nodes(flat))) == 10_000
    assert list(optional_nodes(flat)) == list(unit_texts(flat)) == []


def test_json_deeper_than_the_reader_allows_is_not_parseable() -> None:
    with pytest.raises(NotAnObject):
        parse_object('{"children":[' * 10_000 + "]}" * 10_000)
