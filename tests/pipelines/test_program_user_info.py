"""The acceptance cases of program-user-info §9, and what it does with bad data and an absent store."""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import Iterator
from copy import deepcopy
from datetime import date
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from io_connectors.cassandra import Cassandra
from io_connectors.memory import Crashed, MemoryCassandra, MemoryTables
from pipelines import program_user_info as job
from pipelines.in_memory import InMemory
from schemas.counters import COUNTERS
from schemas.event_schemas import validator
from transforms.decode import Record
from transforms.program_users import date_of
from transforms.store_program_users import SelectProgramUsers, StoreProgramUsers
from transforms.stores import Opens, Row, Select, Tables

TABLE = "sunbird_programs.program_enrollment"
USER = "learner-1"
STATE, DISTRICT = "bc75cc99-9205-463e-a722-5326857838f8", "2f76dcf5-e43b-4f71-a3f2-c8f19e1fce03"

# §2
EVENT: dict[str, Any] = {
    "_id": "65f1c0de65f1c0de65f1c0de",
    "deleted": False,
    "programName": "Mission Maths",
    "programExternalId": "MM-2024",
    "requestForPIIConsent": True,
    "userId": USER,
    "userRoleInformation": {"role": "HM,DEO", "state": "bc75cc99"},
    "appInformation": {"appName": "Diksha", "appVersion": "7.0"},
    "userProfile": {
        "userLocations": [
            {"type": "state", "code": "28", "name": "Andhra Pradesh", "id": STATE, "parentId": None},
            {"type": "district", "code": "2822", "name": "ANANTAPUR", "id": DISTRICT, "parentId": STATE},
            {"type": "school", "code": "28226200816", "name": "UP SCHOOL AGALI", "id": "0133", "parentId": ""},
        ],
        "profileUserTypes": [
            {"type": "administrator", "subType": "hm"},
            {"type": "administrator", "subType": "crp"},
        ],
        "framework": {"board": ["CBSE"]},
        "rootOrg": {"id": "0126796199493140480", "orgName": "Custodian Organization"},
    },
    "noOfResourcesStarted": 3,
    "createdAt": "2024-03-01T18:40:09.476Z",
    "updatedAt": "2024-03-12T06:30:56.829Z",
    "__v": 0,
}
ROW: Row = {
    "user_id": USER,
    "program_externalid": "MM-2024",
    "program_name": "Mission Maths",
    "pii_consent_required": True,
    "user_locations": {
        "state_name": "Andhra Pradesh",
        "state_id": STATE,
        "state_code": "28",
        "district_name": "ANANTAPUR",
        "district_id": DISTRICT,
        "district_code": "2822",
        "school_name": "UP SCHOOL AGALI",
        "school_id": "0133",
        "school_code": "28226200816",
    },
    "organisation_id": "0126796199493140480",
    "organisation_name": "Custodian Organization",
    "user_sub_type": "HM,CRP",
    "user_type": "administrator",
    "created_at": date(2024, 3, 1),
    "updated_at": date(2024, 3, 12),
}

numbers = itertools.count()


class Site:
    """Cassandra with a program that no other test has, and the job upon it."""

    def __init__(self, cassandra: Opens[Tables] | None = None) -> None:
        self.cassandra = cassandra or MemoryCassandra(f"program-users-{next(numbers)}")
        self.tables = self.cassandra.open()
        self.program = f"program-{uuid.uuid4()}"
        self.counts: dict[str, int] = {}

    def event(self, **members: Any) -> bytes:
        """The sample event with other members; with ``...`` a member is not there."""
        event = {**deepcopy(EVENT), "programId": self.program, **members}
        return orjson.dumps({name: value for name, value in event.items() if value is not ...})

    def profile(self, **members: Any) -> bytes:
        profile = {**deepcopy(EVENT["userProfile"]), **members}
        return self.event(userProfile={name: value for name, value in profile.items() if value is not ...})

    def run(self, *values: bytes | None, batch_size: int = 500) -> Site:
        ran = InMemory(job, job.Settings(), self.cassandra)
        try:
            ran.run(*values, batch_size=batch_size)
        finally:
            self.counts = ran.counted
        assert ran.written == {}
        assert self.counts.keys() <= set(COUNTERS[job.NAME])
        return self

    def rows(self) -> list[Row]:
        [rows] = self.tables.select([Select(TABLE, (), {"program_id": self.program})])
        assert isinstance(rows, list)
        return [{name: value for name, value in row.items() if name != "program_id"} for row in rows]

    def row(self) -> Row:
        [row] = self.rows()
        return row

    def expected(self, success: int = 0, skipped: int = 0, failed: int = 0) -> bool:
        counts = dict.fromkeys(COUNTERS[job.NAME], 0) | self.counts
        return list(counts.values()) == [success + skipped + failed, success, skipped, failed]


@pytest.fixture(params=["twin", pytest.param("server", marks=pytest.mark.stack)])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Every test on the twin and on the real Cassandra."""
    if request.param == "twin":
        yield Site()
        return
    at = request.getfixturevalue("stack_of")("cassandra").environment()
    recipe = Cassandra(at["ml-cassandra.host"], at["ml-cassandra.port"])
    yield Site(recipe)
    recipe.open().close()


def test_case_01_a_row(site: Site) -> None:
    """§9 case 1, §8.1"""
    validator("program-user").validate(orjson.loads(site.event()))
    site.run(site.event())
    assert site.row() == ROW
    assert site.expected(success=1)


def test_case_02_what_an_event_does_not_have_stays(site: Site) -> None:
    """§9 case 2"""
    site.run(site.event())
    later = {"programName": "Other", "requestForPIIConsent": "true", "updatedAt": "2024-04-01"}
    site.run(site.profile(userLocations=..., rootOrg=...), site.event(userProfile=None, createdAt=None, **later))
    changed = {"program_name": "Other", "pii_consent_required": False, "updated_at": date(2024, 4, 1)}
    assert site.row() == {**ROW, **changed}


def test_case_03_sub_types(site: Site) -> None:
    """§9 case 3"""
    kinds = [{"type": "X", "subType": sub_type} for sub_type in ("hm", "HM", None, "chm", "")]
    site.run(site.profile(profileUserTypes=[*kinds, {"type": "Teacher"}, None, "x"]))
    assert (site.row()["user_sub_type"], site.row()["user_type"]) == ("HM,CHM", "teacher")


def test_case_04_no_user_types(site: Site) -> None:
    """§9 case 4"""
    site.run(site.event(), site.profile(profileUserTypes=...))
    assert site.row() == ROW
    site.run(site.profile(profileUserTypes=[]))
    assert site.row() == {**ROW, "user_type": None, "user_sub_type": None}
    site.run(site.event(), site.profile(profileUserTypes=[{"type": "teacher", "subType": "x"}, {"type": None}]))
    assert (site.row()["user_sub_type"], site.row()["user_type"]) == ("X", None)


def test_case_05_locations_with_gaps(site: Site) -> None:
    """§9 case 5, §3.2"""
    gaps = {"type": "block", "code": None, "name": " ", "id": "7"}
    site.run(site.profile(userLocations=[gaps]))
    assert site.row()["user_locations"] == {"block_id": "7"}
    twice = [{"type": "State", "name": "a", "code": 28}, {"type": "State", "name": "b", "id": 1.5}]
    odd = [{"type": " ", "name": "x"}, {"name": "x"}, None, "x", {"type": "y", "name": {}, "id": []}]
    site.run(site.profile(userLocations=[*twice, *odd]))
    assert site.row()["user_locations"] == {"State_name": "b", "State_code": "28", "State_id": "1.5"}
    site.run(site.profile(userLocations=[]))
    assert site.row()["user_locations"] is None


def test_case_06_empty_texts(site: Site) -> None:
    """§9 case 6, §8.3"""
    site.run(site.event())
    empty = {"rootOrg": {"id": None, "orgName": ""}}
    site.run(site.event(programName="", programExternalId=..., userProfile=empty))
    nothing = dict.fromkeys(["program_name", "program_externalid", "organisation_id", "organisation_name"])
    assert site.row() == {**ROW, **nothing}
    site.run(site.profile(rootOrg={"id": 126, "orgName": True}))
    assert (site.row()["organisation_id"], site.row()["organisation_name"]) == ("126", "true")


@pytest.mark.parametrize("missing", [None, ..., "", " ", 5, {}])
@pytest.mark.parametrize("name", ["programId", "userId"])
def test_case_07_no_program_or_user(name: str, missing: Any) -> None:
    """§9 case 7"""
    site = Site()
    bad = site.event(**{name: missing})
    site.run(bad)
    assert site.rows() == []
    assert site.expected(skipped=1)
    assert not validator("program-user").is_valid(orjson.loads(bad))


def test_case_08_dates(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """§9 case 8, §8.2"""
    site.run(site.event(createdAt=...))
    assert site.row() == {**ROW, "created_at": None}
    site.run(site.event(createdAt="2024-03-01T18:40:09+05:30", updatedAt="yesterday"))
    assert site.row() == ROW
    assert "updatedAt of document 65f1c0de65f1c0de65f1c0de is no date" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        *("2024-03-01", " 2024-03-01 ", "2024-03-01T18:40:09.476Z", "2024-03-01T23:59:59-11:00"),
        *("2024-03-01T00:00:00.123456789+0530", "2024-03-01T18:40:09", "2024-03-01 18:40", "2024-03-01T18:40Z"),
    ],
)
def test_what_is_a_date(text: str) -> None:
    assert date_of(text) == date(2024, 3, 1)


@pytest.mark.parametrize(
    "value",
    [None, "", "x", "2024-03", "2024-13-01", "2024-02-30T00:00:00Z", "01-03-2024", 1709318409476, {}, "20240301"],
)
def test_what_is_none(value: Any) -> None:
    assert date_of(value) is None


def test_case_09_broken_records(site: Site) -> None:
    """§9 case 9, core §15 case 2"""
    site.run(b'{"programId":', b"", None, b"[1]", site.event())
    assert site.row() == ROW
    assert site.expected(success=1, failed=4)


def test_case_10_quotes(site: Site) -> None:
    """§9 case 10, §8.4"""
    name = 'People\'s "Org" \\ \x00 🦜'
    site.run(site.profile(rootOrg={"id": "1", "orgName": name}))
    assert site.row()["organisation_name"] == name


@pytest.mark.parametrize(
    "odd", [{"userLocations": {}, "profileUserTypes": "x", "rootOrg": [1]}, dict.fromkeys(EVENT["userProfile"], 7)]
)
def test_a_part_of_another_type_counts_as_absent(site: Site, odd: dict[str, Any]) -> None:
    """§6"""
    site.run(site.event(), site.profile(**odd), site.event(userProfile=[]))
    assert site.row() == ROW
    assert site.expected(success=3)


def test_many_users_of_a_program_and_the_last_event_of_each(site: Site) -> None:
    users = [f"learner-{number}" for number in range(200)]
    first = [site.event(userId=user, programName="first") for user in users]
    second = [site.event(userId=user, programName=f"second {user}", userProfile=None) for user in users]
    site.run(*first, *second, batch_size=70)
    found = {row["user_id"]: row for row in site.rows()}
    assert found == {user: {**ROW, "user_id": user, "program_name": f"second {user}"} for user in users}
    assert site.expected(success=400)


def test_a_row_that_is_refused_stops_nothing(site: Site) -> None:
    site.run(site.event(userId="x" * 70_000), site.event())
    assert site.row() == ROW
    assert site.expected(success=1, failed=1)


def test_a_store_that_stays_away_fails_the_run() -> None:
    """§6"""
    site = Site()
    assert isinstance(site.tables, MemoryTables)
    site.tables.unavailable = True
    with pytest.raises(Exception, match="stays away"):
        site.run(site.event())
    assert "success-events-count" not in site.counts
    site.tables.unavailable = False
    assert site.run(site.event()).row() == ROW


def test_no_personal_data_in_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        site.run(
            site.event(), site.event(userId=""), site.event(userId="x" * 70_000), site.event(createdAt="ANANTAPUR")
        )
    assert "ANANTAPUR" not in caplog.text
    assert "AGALI" not in caplog.text


# --- any cut of batches, repetition, death


def steps(site: Site) -> tuple[SelectProgramUsers, StoreProgramUsers]:
    store = StoreProgramUsers(job.NAME, site.cassandra, TABLE, size=100)
    store.setup()
    return SelectProgramUsers(job.NAME, 10), store


def payloads(select: SelectProgramUsers, events: list[bytes]) -> list[bytes]:
    records = (Record(value, "topic", 0, offset, 1) for offset, value in enumerate(events))
    return [payload for record in records for _, payload in select.process(record)]


a_document = st.fixed_dictionaries(
    {"programId": st.sampled_from(["p", "q"]), "userId": st.sampled_from(["learner-1", "learner-2"])},
    optional={
        "programName": st.sampled_from(["x", "", None]),
        "requestForPIIConsent": st.booleans(),
        "createdAt": st.sampled_from(["2024-03-01", "2024-04-01T00:00:00Z", "x"]),
        "userProfile": st.fixed_dictionaries(
            {},
            optional={
                "userLocations": st.lists(st.just({"type": "state", "name": "x"}), max_size=1),
                "profileUserTypes": st.lists(st.just({"type": "t", "subType": "s"}), max_size=1),
                "rootOrg": st.sampled_from([{"id": "1"}, {"orgName": "x"}]),
            },
        ),
    },
)


@settings(max_examples=100, deadline=None)
@given(st.lists(a_document, max_size=12), st.lists(st.integers(1, 5), min_size=1))
def test_any_cut_of_batches_is_like_one_by_one(documents, sizes) -> None:
    found = []
    for cuts in (itertools.repeat(1), itertools.cycle(sizes)):
        site = Site()
        select, store = steps(site)
        changes = payloads(select, [orjson.dumps(document) for document in documents])
        while changes:
            size = next(cuts)
            assert store.handle(changes[:size]) == []
            del changes[:size]
        assert isinstance(site.tables, MemoryTables)
        found.append(site.tables.rows(TABLE))
    assert found[0] == found[1]


@pytest.mark.parametrize("at", [1, 2])
def test_a_worker_that_dies_at_any_step_and_the_events_again(at: int) -> None:
    site = Site()
    assert isinstance(site.tables, MemoryTables)
    select, store = steps(site)
    changes = payloads(select, [site.event(programName="first"), site.event(userId="learner-2"), site.event()])
    site.tables.crash_at(at)
    with pytest.raises(Crashed):
        store.handle(changes)
    for _ in range(2):
        store.handle(changes)
        assert site.rows() == [ROW, {**ROW, "user_id": "learner-2"}]
