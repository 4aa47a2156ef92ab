"""The CQL texts and what is read from them."""

from __future__ import annotations

import re

import pytest

from schemas.cassandra import Table, create_statements, tables, user_types


def test_a_table_with_a_key_of_several_parts():
    table = tables("dev")["sunbird_courses.user_activity_agg"]
    assert table == Table(
        "sunbird_courses",
        "user_activity_agg",
        {
            "activity_type": "text",
            "activity_id": "text",
            "user_id": "text",
            "context_id": "text",
            "agg": "map<text,int>",
            "agg_details": "list<text>",
            "agg_last_updated": "map<text,timestamp>",
            "aggregates": "map<text,double>",
        },
        ("activity_type", "activity_id", "user_id"),
        ("context_id",),
    )


@pytest.mark.parametrize(
    ("name", "partition_key", "clustering_key", "columns"),
    [
        ("sunbird_courses.user_content_consumption", ("userid",), ("courseid", "batchid", "contentid"), 17),
        ("sunbird_courses.user_enrolments", ("userid",), ("courseid", "batchid"), 19),
        ("sunbird_courses.course_batch", ("courseid",), ("batchid",), 21),
        (
            "sunbird_courses.assessment_aggregator",
            ("user_id", "course_id"),
            ("batch_id", "content_id", "attempt_id"),
            12,
        ),
        ("dev_hierarchy_store.content_hierarchy", ("identifier",), (), 3),
        ("dev_hierarchy_store.questionset_hierarchy", ("identifier",), (), 4),
        ("dev_question_store.question_data", ("identifier",), (), 12),
        ("sunbird.user", ("id",), (), 40),
        ("sunbird.user_organisation", ("userid",), ("organisationid",), 18),
        ("sunbird.usr_external_identity", ("userid",), ("idtype", "provider"), 11),
        ("sunbird.user_lookup", ("type", "value"), (), 3),
        ("sunbird.cert_registry", ("id",), (), 13),
        ("sunbird.organisation", ("id",), (), 26),
        ("sunbird.location", ("id",), (), 5),
        ("sunbird_programs.program_enrollment", ("program_id",), ("user_id",), 12),
    ],
)
def test_the_keys_of_every_table(name, partition_key, clustering_key, columns):
    table = tables("dev")[name]
    assert (table.partition_key, table.clustering_key, len(table.columns)) == (partition_key, clustering_key, columns)
    assert {*partition_key, *clustering_key} <= table.columns.keys()
    assert f"{table.keyspace}.{table.name}" == name


def test_no_table_is_left_out():
    assert len(tables("dev")) == 16


def test_the_fields_of_a_user_type():
    assert user_types("dev")["sunbird_courses.question"] == {
        "id": "text",
        "assess_ts": "timestamp",
        "max_score": "double",
        "score": "double",
        "type": "text",
        "title": "text",
        "resvalues": "list<frozen<map<text,text>>>",
        "params": "list<frozen<map<text,text>>>",
        "description": "text",
        "duration": "decimal",
    }


def test_statements_can_be_run_in_their_order():
    made: set[str] = set()
    for statement in create_statements("dev"):
        kind, name = re.match(r"CREATE (\w+) IF NOT EXISTS ([\w.]+)", statement).groups()
        if kind != "KEYSPACE":
            on = re.search(r" ON ([\w.]+)", statement)
            assert (on[1] if on else name.split(".")[0]) in made
        made.add(name)
        assert ";" not in statement
        assert "--" not in statement
    assert {"sunbird", "sunbird_courses", "sunbird_programs", "dev_hierarchy_store", "dev_question_store"} <= made


def test_the_environment_names_its_keyspaces():
    assert "staging_1_hierarchy_store.content_hierarchy" in tables("Staging_1")
    assert not any("{{" in statement or "dev_" in statement for statement in create_statements("staging"))


@pytest.mark.parametrize("env", ["", "1dev", "dev-1", "dev; DROP", "dév", "dev\n"])
def test_what_is_no_name_of_an_environment(env):
    with pytest.raises(ValueError, match="environment"):
        create_statements(env)
