"""Whatever arrives, a record ends as work, as skipped or as a dead letter that keeps it.

Bytes of every kind, JSON with the right names and any values in them, broken and shuffled: decoding and the jobs'
rules must never raise anything but what they promise.
"""

from __future__ import annotations

import os
from datetime import timedelta

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from io_connectors.memory import MemoryCassandra
from pipelines import activity_aggregate_updater, program_user_info, relation_cache_updater, user_cache_updater
from transforms.consumption import InvalidEvent, SelectConsumption, Work, consumption_of
from transforms.counters import counted_in_this_process, forget_counts
from transforms.dead_letter import FAILED
from transforms.decode import NotAnObject, Record, parse_object
from transforms.store_program_users import SelectProgramUsers, StoreProgramUsers
from transforms.update_relation_cache import SelectRoots
from transforms.update_user_cache import SelectUserChanges
from transforms.user_cache import SignIn, change_of, profile_fields

TABLE = "sunbird_programs.program_enrollment"

# about a minute in all on a slow machine; more with FUZZ_EXAMPLES set
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "4000"))
fuzz = settings(max_examples=EXAMPLES, deadline=timedelta(seconds=5))
# of values that are large and slow to make
fuzz_few = settings(max_examples=EXAMPLES // 40, deadline=timedelta(seconds=5))

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True),
    st.text(max_size=20),
    st.sampled_from(
        ["batch-enrolment-update", "post-publish-process", "do_1", " ", "", "2", "\x00", "a|b", "🦜", "\u202e"]
    ),
    st.sampled_from([0, 1, 2, 2.0, 3, "2", "true", "application/vnd.ekstep.content-collection"]),
)
names = st.sampled_from(
    ["edata", "action", "contents", "contentId", "status", "userId", "courseId", "batchId", "mimeType", "identifier"]
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=5), inner, max_size=6),
    max_leaves=25,
)
progress_events = st.fixed_dictionaries(
    {
        "edata": st.fixed_dictionaries(
            {"action": st.sampled_from(["batch-enrolment-update", "BATCH-ENROLMENT-UPDATE"]) | values},
            optional={
                "contents": st.lists(st.fixed_dictionaries({"contentId": leaves, "status": leaves}) | values) | values,
                "userId": leaves,
                "courseId": leaves,
                "batchId": leaves,
            },
        )
    }
)
publish_events = st.fixed_dictionaries(
    {
        "edata": st.fixed_dictionaries(
            {},
            optional={
                "action": st.sampled_from(["post-publish-process", "relation-cache-update"]) | leaves,
                "mimeType": st.sampled_from(["application/vnd.ekstep.content-collection"]) | leaves,
                "identifier": leaves,
            },
        )
    }
)


def as_json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # an integer beyond 64 bits: what a producer in another language may still write
        return repr(value).encode("utf-8", "surrogatepass")


records = st.one_of(
    st.none(),
    st.binary(max_size=60),
    st.builds(as_json, values),
    st.builds(as_json, progress_events),
    st.builds(as_json, publish_events),
    st.builds(
        lambda event, at, junk: as_json(event)[:at] + junk, progress_events, st.integers(0, 200), st.binary(max_size=4)
    ),
    st.builds(lambda event: as_json(event).replace(b'"', b"\\'"), progress_events),
)


@fuzz
@given(records)
def test_decoding_gives_an_object_or_a_reason_of_one_line(value):
    reason = None
    try:
        parsed = parse_object(value)
    except NotAnObject as error:
        reason = str(error)
    if reason is None:
        assert isinstance(parsed, dict)
    else:
        assert reason
        assert "\n" not in reason


@fuzz
@given(records | st.builds(as_json, progress_events))
def test_a_consumption_record_is_work_or_skipped_or_a_dead_letter(value):
    record = Record(value, "topic", 0, 1, 2)
    outputs = list(SelectConsumption(activity_aggregate_updater.NAME, 8, consumption_of).process(record))
    assert len(outputs) <= 1
    try:
        consumption = consumption_of(parse_object(value))
    except (NotAnObject, InvalidEvent):
        [letter] = outputs
        assert letter.tag == FAILED
        written = orjson.loads(letter.value)
        assert written["failInfo"]["error"]
        assert "rawEvent" in written or written.items() >= {**parse_object(value), **written}.items()
        return
    if consumption is None:
        assert outputs == []
        return
    [(shard, payload)] = outputs
    assert 0 <= int(shard) < 8
    work = Work.from_bytes(payload)
    assert work.consumption == consumption
    assert work.value == value


@fuzz
@given(records | st.builds(as_json, publish_events))
def test_a_publish_record_is_a_root_or_skipped(value):
    outputs = list(SelectRoots(relation_cache_updater.NAME, 8).process(Record(value, "topic", 0, 1, 2)) or [])
    assert len(outputs) <= 1
    for shard, root in outputs:
        assert 0 <= int(shard) < 8
        assert root.decode().strip()


def of_members(*members: str) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(members, values))


audits = st.fixed_dictionaries(
    {
        "object": st.fixed_dictionaries({"id": leaves, "type": st.just("User")}),
        "edata": st.fixed_dictionaries({"state": st.sampled_from(["Updated", "delete"]) | leaves}),
    },
    optional={
        "mid": leaves,
        "context": st.fixed_dictionaries(
            {
                "cdata": st.lists(
                    st.fixed_dictionaries({"type": st.sampled_from(["SignupType", "userrole"]), "id": leaves})
                )
            }
        )
        | values,
    },
)
users = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(["userId", "firstName", "encEmail", "rootOrg", "language", "status"], values),
        "framework": of_members("id", "board", "gradeLevel") | values,
        "profileUserTypes": st.lists(of_members("type", "subType") | values) | values,
        "userLocations": st.lists(of_members("type", "name", "code") | values) | values,
    },
)
documents = st.fixed_dictionaries(
    {"programId": leaves, "userId": leaves},
    optional={
        **dict.fromkeys(["programName", "programExternalId", "requestForPIIConsent"], values),
        **dict.fromkeys(["createdAt", "updatedAt"], leaves | st.dates().map(str) | st.datetimes().map(str)),
        "userProfile": st.fixed_dictionaries(
            {},
            optional={
                "userLocations": st.lists(of_members("type", "name", "id", "code") | values) | values,
                "profileUserTypes": st.lists(of_members("type", "subType") | values) | values,
                "rootOrg": of_members("id", "orgName") | values,
            },
        )
        | values,
    },
)


@fuzz_few
@given(records | st.builds(as_json, audits))
def test_an_audit_record_is_a_change_or_skipped(value):
    sign_in = SignIn(("do_1",), "self", ("2",), "valid")
    select = SelectUserChanges(user_cache_updater.NAME, 8, producer="2", sign_in=sign_in)
    outputs = list(select.process(Record(value, "topic", 0, 1, 2)))
    assert len(outputs) <= 1
    for shard, change in outputs:
        assert 0 <= int(shard) < 8
        user, _, registered, general = orjson.loads(change)
        assert user.strip()
        assert isinstance(registered, bool)
        assert all(isinstance(text, str) for text in general.values())


@fuzz_few
@given(st.builds(as_json, users))
def test_whatever_the_user_service_says_a_profile_is_made_of_texts(answer):
    try:
        user = parse_object(answer)
    except NotAnObject:
        return
    fields = profile_fields(user, ("board", "gradeLevel", "id"))
    assert all(isinstance(text, str) for item in fields.items() for text in item)
    for name in ("language", "framework_board", "framework_gradeLevel"):
        if fields.get(name, "").startswith("["):
            assert isinstance(orjson.loads(fields[name]), list)
    assert change_of([], [(True, fields)], ()).put == fields


@fuzz_few
@given(records | st.builds(as_json, documents))
def test_a_document_of_a_program_is_a_row_or_is_not(value):
    select = SelectProgramUsers(program_user_info.NAME, 8)
    outputs = list(select.process(Record(value, "topic", 0, 1, 2)))
    assert len(outputs) <= 1
    for _, row in outputs:
        store = StoreProgramUsers(program_user_info.NAME, MemoryCassandra("fuzz"), TABLE, size=1)
        store.setup()
        forget_counts(program_user_info.NAME)
        assert store.handle([row]) == []
        assert counted_in_this_process(program_user_info.NAME) == {"success-events-count": 1}, "the table takes it"
