"""What transforms.stores.Tables promises; twin and server alike (spec: core §7, tables-lern)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from cassandra.cluster import Cluster

from io_connectors.cassandra import Cassandra
from schemas.cassandra import tables as schema
from transforms.stores import Delete, Refused, Select, StoreUnavailable, Tables, Update, Write

CONSUMPTION = "sunbird_courses.user_content_consumption"
ENROLMENTS = "sunbird_courses.user_enrolments"
AGGREGATES = "sunbird_courses.user_activity_agg"
ASSESSMENTS = "sunbird_courses.assessment_aggregator"
COURSES = "sunbird_courses.course_batch"
NOW = 1_718_000_001_234
NOW_READ = datetime(2024, 6, 10, 6, 13, 21, 234_000)
TOO_LONG = "x" * 65_536


def enrolment(user: str, course: str = "c", batch: str = "b") -> dict[str, str]:
    return {"userid": user, "courseid": course, "batchid": batch}


def consumption(user: str, content: str = "k", course: str = "c", batch: str = "b") -> dict[str, str]:
    return {**enrolment(user, course, batch), "contentid": content}


def aggregate(user: str, activity: str = "c", context: str = "cb:b") -> dict[str, str]:
    return {"activity_type": "Course", "activity_id": activity, "user_id": user, "context_id": context}


def read(tables: Tables, table: str, where: dict[str, Any], *columns: str) -> list[dict[str, Any]]:
    [found] = tables.select([Select(table, columns, where)])
    assert isinstance(found, list), found
    return found


def write(tables: Tables, *writes: Write) -> Refused | None:
    [result] = tables.write([writes])
    return result


# --- UPDATE


def test_an_update_of_a_missing_row_creates_it_with_null_in_other_columns(tables, user):
    assert write(tables, Update(CONSUMPTION, consumption(user), {"viewcount": 1})) is None
    assert read(tables, CONSUMPTION, consumption(user), "userid", "contentid", "viewcount", "status") == [
        {"userid": user, "contentid": "k", "viewcount": 1, "status": None}
    ]


def test_an_update_leaves_the_other_columns(tables, user):
    write(tables, Update(ENROLMENTS, enrolment(user), {"status": 1, "active": True}))
    write(tables, Update(ENROLMENTS, enrolment(user), {"status": 2}))
    assert read(tables, ENROLMENTS, enrolment(user), "status", "active") == [{"status": 2, "active": True}]


def test_a_row_that_holds_nothing_beside_its_key_does_not_exist(tables, user):
    write(tables, Update(ENROLMENTS, enrolment(user), {"status": None, "contentstatus": {}}))
    assert read(tables, ENROLMENTS, enrolment(user), "status") == []
    write(tables, Update(ENROLMENTS, enrolment(user), {"status": 1}))
    write(tables, Update(ENROLMENTS, enrolment(user), {"status": None}))
    assert read(tables, ENROLMENTS, enrolment(user), "status") == []


@pytest.mark.parametrize(
    ("table", "key", "column", "value", "expected"),
    [
        (ENROLMENTS, enrolment, "status", -(2**31), -(2**31)),
        (ENROLMENTS, enrolment, "progress", 2**31 - 1, 2**31 - 1),
        (ENROLMENTS, enrolment, "active", False, False),
        (ENROLMENTS, enrolment, "completedon", NOW, NOW_READ),
        (ENROLMENTS, enrolment, "completedon", NOW_READ, NOW_READ),
        (ENROLMENTS, enrolment, "completedon", NOW_READ.replace(tzinfo=UTC), NOW_READ),
        (
            ENROLMENTS,
            enrolment,
            "completedon",
            datetime(2024, 1, 1, 0, 0, 0, 123_999),
            datetime(2024, 1, 1, 0, 0, 0, 123_000),
        ),
        (ENROLMENTS, enrolment, "completedon", -1, datetime(1969, 12, 31, 23, 59, 59, 999_000)),
        (ENROLMENTS, enrolment, "completedon", 253_402_300_799_000, datetime(9999, 12, 31, 23, 59, 59)),
        (ENROLMENTS, enrolment, "completedon", -62_135_596_800_000, datetime(1, 1, 1)),
        (ENROLMENTS, enrolment, "lastreadcontentid", "", ""),
        (ENROLMENTS, enrolment, "lastreadcontentid", "Ä ' \u0000 \U0001f600", "Ä ' \u0000 \U0001f600"),
        (ENROLMENTS, enrolment, "contentstatus", {"a": 2, "": 1}, {"a": 2, "": 1}),
        (ENROLMENTS, enrolment, "issued_certificates", [{"name": "x"}, {}], [{"name": "x"}, {}]),
        (ENROLMENTS, enrolment, "lastreadcontentid", TOO_LONG, TOO_LONG),
        (CONSUMPTION, consumption, "completionpercentage", 0.5, 0.5),
        (AGGREGATES, aggregate, "aggregates", {"completedCount": 3}, {"completedCount": 3.0}),
        (AGGREGATES, aggregate, "agg_last_updated", {"completedCount": NOW}, {"completedCount": NOW_READ}),
        (AGGREGATES, aggregate, "agg_details", ["{}", "x"], ["{}", "x"]),
    ],
)
def test_a_value_is_read_as_it_was_written(tables, user, table, key, column, value, expected):
    assert write(tables, Update(table, key(user), {column: value})) is None
    [row] = read(tables, table, key(user), column)
    assert row == {column: expected}
    assert type(row[column]) is type(expected)


def test_a_map_of_maps_and_a_user_defined_type(tables, user):
    templates = {"t1": {"name": "x", "criteria": "{}"}}
    assert write(tables, Update(COURSES, {"courseid": user, "batchid": "b"}, {"cert_templates": templates})) is None
    assert read(tables, COURSES, {"courseid": user, "batchid": "b"}, "cert_templates") == [
        {"cert_templates": templates}
    ]

    key = {"user_id": user, "course_id": "c", "batch_id": "b", "content_id": "k", "attempt_id": "1"}
    question = {"id": "q1", "score": 1, "assess_ts": NOW, "params": [{"a": "b"}], "duration": Decimal("1.25")}
    assert write(tables, Update(ASSESSMENTS, key, {"question": [question], "total_score": 1})) is None
    missing = dict.fromkeys(("max_score", "type", "title", "resvalues", "description"))
    [row] = read(tables, ASSESSMENTS, key, "question", "total_score")
    assert row == {"question": [{**missing, **question, "score": 1.0, "assess_ts": NOW_READ}], "total_score": 1.0}


def test_an_assigned_map_replaces_all_of_it_and_an_empty_one_is_null(tables, user):
    write(tables, Update(ENROLMENTS, enrolment(user), {"status": 1, "contentstatus": {"a": 1, "b": 2}}))
    write(tables, Update(ENROLMENTS, enrolment(user), {"contentstatus": {"b": 1}}))
    assert read(tables, ENROLMENTS, enrolment(user), "contentstatus") == [{"contentstatus": {"b": 1}}]
    write(tables, Update(ENROLMENTS, enrolment(user), {"contentstatus": {}}))
    assert read(tables, ENROLMENTS, enrolment(user), "contentstatus") == [{"contentstatus": None}]


def test_entries_are_added_to_a_map_and_the_others_stay(tables, user):
    scores = {"score:x": 4.0, "max_score:x": 5.0}
    write(tables, Update(AGGREGATES, aggregate(user), add={"aggregates": scores}))
    for done in (1, 2):
        added = {"aggregates": {"completedCount": float(done)}, "agg_last_updated": {"completedCount": NOW}}
        assert write(tables, Update(AGGREGATES, aggregate(user), add=added)) is None
    assert read(tables, AGGREGATES, aggregate(user), "aggregates", "agg_last_updated", "agg") == [
        {"aggregates": {**scores, "completedCount": 2.0}, "agg_last_updated": {"completedCount": NOW_READ}, "agg": None}
    ]


def test_adding_nothing_changes_nothing_and_creates_nothing(tables, user):
    assert write(tables, Update(AGGREGATES, aggregate(user), add={"aggregates": {}})) is None
    assert read(tables, AGGREGATES, aggregate(user), "aggregates") == []
    write(tables, Update(AGGREGATES, aggregate(user), add={"aggregates": {"a": 1.0}}))
    write(tables, Update(AGGREGATES, aggregate(user), add={"aggregates": {}}))
    assert read(tables, AGGREGATES, aggregate(user), "aggregates") == [{"aggregates": {"a": 1.0}}]


def test_assign_and_add_in_one_statement(tables, user):
    update = Update(AGGREGATES, aggregate(user), {"agg_details": ["{}"]}, {"aggregates": {"a": 1.0}})
    assert write(tables, update) is None
    assert read(tables, AGGREGATES, aggregate(user), "agg_details", "aggregates") == [
        {"agg_details": ["{}"], "aggregates": {"a": 1.0}}
    ]


def test_items_are_appended_to_a_list(tables, user):
    for item in "ab":
        assert write(tables, Update(AGGREGATES, aggregate(user), add={"agg_details": [item]})) is None
    assert read(tables, AGGREGATES, aggregate(user), "agg_details") == [{"agg_details": ["a", "b"]}]


# --- batches


def test_a_batch_writes_all_of_its_statements(tables, user):
    batch = [Update(AGGREGATES, aggregate(user, activity), add={"aggregates": {"n": 1.0}}) for activity in "abcd"]
    assert tables.write([batch]) == [None]
    for activity in "abcd":
        assert read(tables, AGGREGATES, aggregate(user, activity), "aggregates") == [{"aggregates": {"n": 1.0}}]


def test_a_batch_with_an_invalid_statement_is_refused_as_a_whole_and_the_others_are_not(tables, user):
    good = [Update(CONSUMPTION, consumption(user, content), {"viewcount": 1}) for content in "abc"]
    for bad in (
        Update(CONSUMPTION, consumption(user, "x"), {"viewcount": "one"}),
        Update(CONSUMPTION, consumption("", "x"), {"viewcount": 1}),
    ):
        first, second, third = tables.write([[good[0]], [good[1], bad], [good[2]]])
        assert (first, third) == (None, None)
        assert isinstance(second, Refused)
    assert {row["contentid"] for row in read(tables, CONSUMPTION, enrolment(user), "contentid")} == {"a", "c"}


def test_nothing_to_do(tables):
    assert tables.write([]) == []
    assert tables.write([[]]) == [None]
    assert tables.select([]) == []


def test_a_batch_of_long_keys_of_many_partitions(tables, user):
    batch = [Update(AGGREGATES, aggregate(user, f"{n}{'x' * 30_000}"), {"agg_details": ["y"]}) for n in range(4)]
    assert tables.write([batch]) == [None]
    assert read(tables, AGGREGATES, batch[3].where, "agg_details") == [{"agg_details": ["y"]}]


def test_many_batches_come_back_in_order(tables, user):
    batches = [
        [Update(CONSUMPTION, consumption(user, f"{n:03}"), {"viewcount": "?" if n % 50 == 7 else n})]
        for n in range(300)
    ]
    results = tables.write(batches)
    assert [n for n, result in enumerate(results) if result is not None] == [7, 57, 107, 157, 207, 257]
    selects = [Select(CONSUMPTION, ("viewcount",), consumption(user, f"{n:03}")) for n in range(300)]
    expected = [[] if n % 50 == 7 else [{"viewcount": n}] for n in range(300)]
    assert tables.select(selects) == expected


def test_what_the_server_refuses_takes_no_other_batch_with_it(tables, user):
    owners = [f"{user}-{n}" if n % 7 else ("" if n % 2 else TOO_LONG) for n in range(40)]
    results = tables.write([[Update(CONSUMPTION, consumption(owner), {"viewcount": 1})] for owner in owners])
    assert [isinstance(result, Refused) for result in results] == [n % 7 == 0 for n in range(40)]
    good = [owner for n, owner in enumerate(owners) if n % 7]
    found = read(tables, CONSUMPTION, {"userid": good}, "userid")
    assert sorted(row["userid"] for row in found) == sorted(good)


def test_of_several_batches_that_write_one_cell_the_last_wins(tables, user):
    for values in ((5, 1, 3, 2), (2, 7, None, 1), (1, None)):
        batches = [[Update(ENROLMENTS, enrolment(user), {"status": value, "progress": 1})] for value in values]
        assert set(tables.write(batches)) == {None}
        assert read(tables, ENROLMENTS, enrolment(user), "status") == [{"status": values[-1]}]


@pytest.mark.parametrize("sizes", [(1, 5_000), (5_000, 1), (5_000, 5_000), (1, 5_000, 1)])
def test_of_large_and_small_batches_that_write_one_cell_the_last_wins(tables, user, sizes):
    batches = [
        [Update(ENROLMENTS, enrolment(user), {"status": n, "lastreadcontentid": "x" * size})]
        for n, size in enumerate(sizes)
    ]
    assert set(tables.write(batches)) == {None}
    assert read(tables, ENROLMENTS, enrolment(user), "status") == [{"status": len(sizes) - 1}]


# --- UPDATE … IF EXISTS


def test_an_update_if_exists_makes_no_row_and_tells_no_difference(tables, user):
    update = Update(ENROLMENTS, enrolment(user), {"status": 2}, if_exists=True)
    assert write(tables, update) is None
    assert read(tables, ENROLMENTS, enrolment(user), "status") == []
    write(tables, Update(ENROLMENTS, enrolment(user), {"status": 1, "active": True}))
    assert write(tables, update) is None
    assert read(tables, ENROLMENTS, enrolment(user), "status", "active") == [{"status": 2, "active": True}]
    assert write(tables, Update(ENROLMENTS, enrolment(user, "other"), {"status": 1}, if_exists=True)) is None
    assert read(tables, ENROLMENTS, {"userid": user}, "courseid") == [{"courseid": "c"}]


def test_an_update_if_exists_adds_to_a_map(tables, user):
    def update() -> Refused | None:
        return write(tables, Update(AGGREGATES, aggregate(user), add={"aggregates": {"b": 2.0}}, if_exists=True))

    assert update() is None
    assert read(tables, AGGREGATES, aggregate(user), "aggregates") == []
    write(tables, Update(AGGREGATES, aggregate(user), add={"aggregates": {"a": 1.0}}))
    assert update() is None
    assert read(tables, AGGREGATES, aggregate(user), "aggregates") == [{"aggregates": {"a": 1.0, "b": 2.0}}]


def test_updates_if_exists_among_many_others(tables, user):
    write(tables, *(Update(ENROLMENTS, enrolment(user, f"{n:02}"), {"status": 0}) for n in range(0, 30, 2)))
    batches = [
        [Update(ENROLMENTS, enrolment(user, f"{n:02}"), {"status": "?" if n == 8 else n}, if_exists=n % 3 < 2)]
        for n in range(30)
    ]
    results = tables.write(batches)
    assert [n for n, result in enumerate(results) if result is not None] == [8]
    assert isinstance(results[8], Refused)
    assert read(tables, ENROLMENTS, {"userid": user}, "courseid", "status") == [
        {"courseid": f"{n:02}", "status": 0 if n == 8 else n} for n in range(30) if n % 2 == 0 or n % 3 == 2
    ]


@pytest.mark.parametrize("assign", [{"status": "1"}, {"nope": 1}, {"userid": "other"}, {}])
def test_an_update_if_exists_that_does_not_fit_is_refused(tables, user, assign):
    assert isinstance(write(tables, Update(ENROLMENTS, enrolment(user), assign, if_exists=True)), Refused)


def test_an_update_if_exists_does_not_share_its_batch(tables, user):
    conditional = Update(ENROLMENTS, enrolment(user), {"status": 1}, if_exists=True)
    for other in (Update(ENROLMENTS, enrolment(user, "d"), {"status": 1}), Delete(ENROLMENTS, enrolment(user, "d"))):
        for batch in ([conditional, other], [other, conditional]):
            with pytest.raises(ValueError, match="a batch of its own"):
                tables.write([batch])


# --- DELETE


@pytest.mark.parametrize(
    ("columns", "left"),
    [
        (("userid", "courseid", "batchid"), [("c1", "b2"), ("c2", "b1")]),
        (("batchid", "courseid", "userid"), [("c1", "b2"), ("c2", "b1")]),
        (("userid", "courseid"), [("c2", "b1")]),
        (("userid",), []),
    ],
)
def test_a_deletion_removes_the_rows_of_a_key_or_of_its_first_columns(tables, user, columns, left):
    for owner in (user, f"{user}-other"):
        for course, batch in (("c1", "b1"), ("c1", "b2"), ("c2", "b1")):
            write(tables, Update(ENROLMENTS, enrolment(owner, course, batch), {"status": 1}))
    key = enrolment(user, "c1", "b1")
    for _ in range(2):
        assert write(tables, Delete(ENROLMENTS, {column: key[column] for column in columns})) is None
        found = read(tables, ENROLMENTS, {"userid": user}, "courseid", "batchid")
        assert [(row["courseid"], row["batchid"]) for row in found] == left
    assert len(read(tables, ENROLMENTS, {"userid": f"{user}-other"}, "courseid")) == 3


def test_a_row_that_was_deleted_begins_anew(tables, user):
    write(tables, Update(ENROLMENTS, enrolment(user), {"status": 1, "contentstatus": {"a": 1}}))
    write(tables, Delete(ENROLMENTS, enrolment(user)))
    write(tables, Update(ENROLMENTS, enrolment(user), {"progress": 1}, if_exists=True))
    assert read(tables, ENROLMENTS, enrolment(user), "status") == []
    write(tables, Update(ENROLMENTS, enrolment(user), {"progress": 1}))
    assert read(tables, ENROLMENTS, enrolment(user), "status", "contentstatus", "progress") == [
        {"status": None, "contentstatus": None, "progress": 1}
    ]


def test_a_deletion_in_a_batch_with_updates_of_other_rows(tables, user):
    write(tables, *(Update(ENROLMENTS, enrolment(user, course), {"status": 1}) for course in "abc"))
    batch = [
        Update(ENROLMENTS, enrolment(user, "a"), {"status": 2}),
        Delete(ENROLMENTS, enrolment(user, "b")),
        Update(ENROLMENTS, enrolment(user, "d"), {"status": 2}),
    ]
    assert tables.write([batch]) == [None]
    assert read(tables, ENROLMENTS, {"userid": user}, "courseid", "status") == [
        {"courseid": "a", "status": 2},
        {"courseid": "c", "status": 1},
        {"courseid": "d", "status": 2},
    ]
    refused = tables.write([[Delete(ENROLMENTS, enrolment(user, "a")), Update(ENROLMENTS, enrolment(user), {"x": 1})]])
    assert isinstance(refused[0], Refused)
    assert len(read(tables, ENROLMENTS, enrolment(user, "a"), "status")) == 1


@pytest.mark.parametrize("where", [("userid", "courseid", "batchid"), ("userid",)])
def test_of_a_deletion_and_an_update_of_one_row_the_last_wins(tables, user, where):
    delete = Delete(ENROLMENTS, {column: enrolment(user)[column] for column in where})
    for status in (1, 2):
        update = Update(ENROLMENTS, enrolment(user), {"status": status})
        assert tables.write([[delete], [update]]) == [None, None]
        assert read(tables, ENROLMENTS, enrolment(user), "status") == [{"status": status}]
        assert tables.write([[update], [delete]]) == [None, None]
        assert read(tables, ENROLMENTS, enrolment(user), "status") == []


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"userid": ""},
        {"userid": None},
        {"userid": 5},
        {"userid": ["u"]},
        {"userid": TOO_LONG},
        {"courseid": "c"},
        {"userid": "u", "batchid": "b"},
        {"userid": "u", "courseid": None},
        {"userid": "u", "courseid": "c", "batchid": "\ud800"},
        {"userid": "u", "courseid": "c", "batchid": "b", "status": 1},
        {"userid": "u", "nope": 1},
        {"userid; --": "u"},
    ],
)
def test_a_deletion_that_does_not_fit_is_refused_and_the_others_are_not(tables, user, where):
    write(tables, *(Update(ENROLMENTS, enrolment(user, course), {"status": 1}) for course in "ab"))
    first, refused, last = tables.write(
        [
            [Delete(ENROLMENTS, enrolment(user, "a"))],
            [Delete(ENROLMENTS, where)],
            [Delete(ENROLMENTS, {"userid": user})],
        ]
    )
    assert (first, last) == (None, None)
    assert isinstance(refused, Refused)
    assert str(refused)
    assert read(tables, ENROLMENTS, {"userid": user}, "courseid") == []


# --- SELECT


def test_many_owners_in_one_statement(tables, user):
    owners = [f"{user}-{n}" for n in range(25)]
    for owner in owners:
        write(tables, *(Update(CONSUMPTION, consumption(owner, k), {"viewcount": 1}) for k in ("a", "b")))
        write(tables, Update(CONSUMPTION, consumption(owner, "z", course="other"), {"viewcount": 1}))
    found = read(
        tables,
        CONSUMPTION,
        {"userid": [*owners, owners[0], "nobody"], "courseid": "c", "batchid": "b"},
        "userid",
        "contentid",
    )
    assert sorted((row["userid"], row["contentid"]) for row in found) == sorted(
        (o, k) for o in owners for k in ("a", "b")
    )


def test_rows_of_an_owner_come_by_their_key(tables, user):
    for content in ("b", "ä", "a", "B", ""):
        write(tables, Update(CONSUMPTION, consumption(user, content), {"viewcount": 1}))
    found = read(tables, CONSUMPTION, {"userid": user}, "contentid")
    assert [row["contentid"] for row in found] == ["", "B", "a", "b", "ä"]


def test_in_on_several_key_columns(tables, user):
    for course, batch in (("c1", "b1"), ("c2", "b2"), ("c1", "b2")):
        write(tables, Update(ENROLMENTS, enrolment(user, course, batch), {"status": 1}))
    found = read(
        tables, ENROLMENTS, {"userid": [user], "courseid": ["c1", "c2"], "batchid": ["b2"]}, "courseid", "batchid"
    )
    assert sorted((row["courseid"], row["batchid"]) for row in found) == [("c1", "b2"), ("c2", "b2")]


def test_no_owners_no_rows(tables, user):
    write(tables, Update(ENROLMENTS, enrolment(user), {"status": 1}))
    assert read(tables, ENROLMENTS, {"userid": []}, "status") == []
    assert read(tables, ENROLMENTS, {"userid": "nobody"}, "status") == []


def test_more_rows_than_one_page(tables, user):
    contents = [f"{n:05}" for n in range(5_200)]
    batches = [
        [Update(CONSUMPTION, consumption(user, content), {"viewcount": 1}) for content in contents[start : start + 100]]
        for start in range(0, len(contents), 100)
    ]
    assert set(tables.write(batches)) == {None}
    assert [row["contentid"] for row in read(tables, CONSUMPTION, {"userid": user}, "contentid")] == contents
    all_columns = read(tables, CONSUMPTION, {"userid": user})
    assert [row["contentid"] for row in all_columns] == contents
    assert all_columns[0].keys() == all_columns[-1].keys() == schema("dev")[CONSUMPTION].columns.keys()


# --- SELECT of all columns


def test_without_columns_all_are_read(tables, user):
    certificates = [{"name": "Ä", "identifier": "1-a", "token": ""}, {"name": "y"}]
    values = {"status": 2, "contentstatus": {"a": 2}, "completedon": NOW, "issued_certificates": certificates}
    write(tables, Update(ENROLMENTS, enrolment(user), values))
    [row] = read(tables, ENROLMENTS, enrolment(user))
    expected = {**enrolment(user), **values, "completedon": NOW_READ}
    assert row == dict.fromkeys(schema("dev")[ENROLMENTS].columns) | expected
    assert type(row["contentstatus"]) is dict
    assert [type(certificate) for certificate in row["issued_certificates"]] == [dict, dict]
    assert read(tables, ENROLMENTS, enrolment("nobody")) == []


def test_what_was_read_may_be_changed_and_written_again(tables, user):
    write(tables, Update(ENROLMENTS, enrolment(user), {"issued_certificates": [{"name": "x"}]}))
    [row] = read(tables, ENROLMENTS, enrolment(user))
    row["issued_certificates"][0]["name"] = "changed"
    row["issued_certificates"].append({"name": "y"})
    assert read(tables, ENROLMENTS, enrolment(user), "issued_certificates") == [
        {"issued_certificates": [{"name": "x"}]}
    ]
    assert (
        write(tables, Update(ENROLMENTS, enrolment(user), {"issued_certificates": row["issued_certificates"]})) is None
    )
    assert read(tables, ENROLMENTS, enrolment(user), "issued_certificates") == [
        {"issued_certificates": [{"name": "changed"}, {"name": "y"}]}
    ]


def test_a_select_of_all_columns_that_does_not_fit_is_refused(tables):
    for where in ({"userid": ""}, {"status": 1}, {}):
        assert isinstance(tables.select([Select(ENROLMENTS, (), where)])[0], Refused)


@pytest.fixture
def table_of_its_own(cassandra: Cassandra) -> Iterator[tuple[str, Callable[[str], None]]]:
    """A table with columns of its own in the real server, and another client that runs statements in that server."""
    keyspace = f"contract_{uuid.uuid4().hex[:12]}"
    with Cluster([cassandra.host], port=cassandra.port, connect_timeout=60, control_connection_timeout=60) as cluster:
        session = cluster.connect()

        def run(statement: str) -> None:
            session.execute(statement, timeout=60)

        run(f"CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}")
        run(f"CREATE TABLE {keyspace}.t (id text, place int, m text, PRIMARY KEY (id, place))")
        yield f"{keyspace}.t", run
        run(f"DROP KEYSPACE {keyspace}")


@pytest.mark.stack
def test_all_columns_are_those_that_the_table_has_by_now(cassandra, table_of_its_own):
    """Another client may have prepared the same statement since, and then the server does not ask for it anew."""
    # This server names the columns of ``SELECT *`` with every answer; those before 4.0 only where they are asked to.
    asked: list[bool] = []
    table, run = table_of_its_own
    tables = replace(cassandra, request_timeout=20.0).open()
    tables._statements().session.add_request_init_listener(lambda future: asked.append(not future.message.skip_meta))
    select = Select(table, (), {"id": "a"})
    tables.write([[Update(table, {"id": "a", "place": n}, {"m": "m"})] for n in (1, 2)])
    assert tables.select([select]) == [[{"id": "a", "place": 1, "m": "m"}, {"id": "a", "place": 2, "m": "m"}]]

    with Cluster([cassandra.host], port=cassandra.port, connect_timeout=60, control_connection_timeout=60) as cluster:
        other = cluster.connect()

        def altered(change: str, prepared_by_another: bool) -> list[Any]:
            run(f"ALTER TABLE {table} {change}")
            if prepared_by_another:
                other.prepare(f"SELECT * FROM {table} WHERE id = ?")  # noqa: S608 - our own name
            # several at a time: only the first of them may find the statement forgotten
            asked.clear()
            first, *others = tables.select([select] * 20)
            assert others == [first] * 19
            assert asked == [True] * 20
            return first

        with_list = altered("ADD b list<frozen<map<text, text>>>", prepared_by_another=True)
        assert [row["b"] for row in with_list] == [None, None]
        assert [row["m"] for row in with_list] == ["m", "m"]
        tables.write([[Update(table, {"id": "a", "place": 1}, {"b": [{"x": "y"}]})]])
        for prepared_by_another, column in ((False, "c"), (True, "a1"), (True, "z"), (False, "a2")):
            [row, _] = altered(f"ADD {column} timestamp", prepared_by_another)
            assert (row["m"], row["b"], row[column]) == ("m", [{"x": "y"}], None)
        # a row that was made by an update is there as long as it holds something
        [row] = altered("DROP m", prepared_by_another=True)
        assert row == {"id": "a", "place": 1, "b": [{"x": "y"}], "c": None, "a1": None, "z": None, "a2": None}
    tables.close()


# --- what is refused


@pytest.mark.parametrize(
    "assign",
    [
        {"status": "1"},
        {"status": 1.0},
        {"status": 2**31},
        {"status": -(2**31) - 1},
        {"active": 1},
        {"active": "true"},
        {"completedon": "2024-01-01"},
        {"completedon": 1.5},
        {"completedon": True},
        {"completedon": 253_402_300_800_000},
        {"completedon": 2**63},
        {"lastreadcontentid": 5},
        {"lastreadcontentid": b"x"},
        {"lastreadcontentid": "\ud800"},
        {"contentstatus": {"a": "2"}},
        {"contentstatus": {"a": None}},
        {"contentstatus": {"a": 2**31}},
        {"contentstatus": {5: 2}},
        {"contentstatus": {None: 2}},
        {"contentstatus": {"\udc00": 2}},
        {"contentstatus": ["a"]},
        {"contentstatus": "a"},
        {"certificates": {"a": "b"}},
        {"certificates": "ab"},
        {"certificates": [["a"]]},
        {"nope": 1},
        {"userid": "other"},
        {"status; --": 1},
        {},
    ],
)
def test_a_value_or_column_that_does_not_fit_is_refused(tables, user, assign):
    assert isinstance(write(tables, Update(ENROLMENTS, enrolment(user), assign)), Refused)
    assert read(tables, ENROLMENTS, enrolment(user), "status") == []


@pytest.mark.parametrize(
    "where",
    [
        {"userid": "", "courseid": "c", "batchid": "b"},
        {"userid": None, "courseid": "c", "batchid": "b"},
        {"userid": "u", "courseid": None, "batchid": "b"},
        {"userid": TOO_LONG, "courseid": "c", "batchid": "b"},
        {"userid": "ü" * 32_768, "courseid": "c", "batchid": "b"},
        {"userid": "u", "courseid": TOO_LONG, "batchid": "b"},
        {"userid": "u", "courseid": "c" * 40_000, "batchid": "b" * 40_000},
        {"userid": "u\ud800", "courseid": "c", "batchid": "b"},
        {"userid": 5, "courseid": "c", "batchid": "b"},
        {"userid": "u", "courseid": "c"},
        {"courseid": "c", "batchid": "b"},
        {"userid": "u", "courseid": "c", "batchid": "b", "status": 1},
        {"userid": "u", "courseid": "c", "batchid": "b", "nope": 1},
    ],
)
def test_a_key_that_does_not_fit_is_refused(tables, where):
    refused = write(tables, Update(ENROLMENTS, where, {"status": 1}))
    assert isinstance(refused, Refused)
    assert str(refused)


def test_the_longest_keys_are_written_and_read(tables, user):
    longest = user + "x" * (65_535 - len(user))
    assert write(tables, Update(ENROLMENTS, enrolment(longest), {"status": 1})) is None
    assert read(tables, ENROLMENTS, enrolment(longest), "status") == [{"status": 1}]


def test_empty_parts_of_a_longer_key_are_keys_too(tables, user):
    assert write(tables, Update(ENROLMENTS, enrolment(user, "", ""), {"status": 1})) is None
    assert read(tables, ENROLMENTS, enrolment(user, "", ""), "status") == [{"status": 1}]
    assert write(tables, Update(AGGREGATES, aggregate(user, ""), {"agg_details": ["x"]})) is None
    assert read(tables, AGGREGATES, aggregate(user, ""), "agg_details") == [{"agg_details": ["x"]}]


@pytest.mark.parametrize("activity", [TOO_LONG, "x" * 65_530])
def test_a_key_of_several_parts_that_is_too_long_is_refused(tables, user, activity):
    update = Update(AGGREGATES, aggregate(user, activity), add={"aggregates": {"a": 1.0}})
    assert isinstance(write(tables, update), Refused)
    [found] = tables.select([Select(AGGREGATES, ("aggregates",), update.where)])
    assert isinstance(found, Refused)


@pytest.mark.parametrize(
    ("columns", "where"),
    [
        (("nope",), {"userid": "u"}),
        (("status",), {"nope": "u"}),
        (("status",), {"courseid": "c"}),
        (("status",), {"userid": "u", "batchid": "b"}),
        (("status",), {"userid": "u", "status": 1}),
        (("status",), {}),
        (("status",), {"userid": ""}),
        (("status",), {"userid": ["u", ""]}),
        (("status",), {"userid": None}),
        (("status",), {"userid": ["u", None]}),
        (("status",), {"userid": TOO_LONG}),
        (("status",), {"userid": ["u", TOO_LONG]}),
        (("status",), {"userid": "u", "courseid": None}),
        (("status",), {"userid": 5}),
        (("status",), {"userid": "\ud800"}),
        (("status FROM x; --",), {"userid": "u"}),
    ],
)
def test_a_select_that_does_not_fit_is_refused_and_the_others_are_not(tables, user, columns, where):
    write(tables, Update(ENROLMENTS, enrolment(user), {"status": 1}))
    good = Select(ENROLMENTS, ("status",), enrolment(user))
    first, refused, last = tables.select([good, Select(ENROLMENTS, columns, where), good])
    assert first == last == [{"status": 1}]
    assert isinstance(refused, Refused)
    assert str(refused)


def test_a_clustering_key_that_is_too_long_to_be_written_is_just_not_found(tables, user):
    assert read(tables, ENROLMENTS, enrolment(user, TOO_LONG), "status") == []


def test_adding_to_what_is_no_collection_is_refused(tables, user):
    assert isinstance(write(tables, Update(ENROLMENTS, enrolment(user), add={"status": {"a": 1}})), Refused)
    assert isinstance(write(tables, Update(AGGREGATES, aggregate(user), add={"aggregates": {"a": "x"}})), Refused)
    both = Update(AGGREGATES, aggregate(user), {"aggregates": {"a": 1.0}}, {"aggregates": {"b": 1.0}})
    assert isinstance(write(tables, both), Refused)


def test_a_table_that_does_not_exist_is_no_fault_of_the_data(tables):
    with pytest.raises(StoreUnavailable, match="nope"):
        tables.select([Select("sunbird_courses.nope", ("a",), {"b": "c"})])
    with pytest.raises(StoreUnavailable, match="nope"):
        tables.write([[Update("sunbird_courses.nope", {"b": "c"}, {"a": 1})]])
    with pytest.raises(StoreUnavailable, match="nope"):
        tables.write([[Delete("sunbird_courses.nope", {"b": "c"})]])
