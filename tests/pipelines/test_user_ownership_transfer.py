"""The acceptance cases of user-ownership-transfer §9, what else its spec says, and a worker that dies at any step."""

from __future__ import annotations

import copy
import logging
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.stub_behaviour import StubServices
from io_connectors.memory_documents import MemoryElasticsearch
from io_connectors.services import AccountService, BatchService
from pipelines import user_ownership_transfer as job
from schemas.counters import COUNTERS
from schemas.event_schemas import validator
from tests.pipelines.certificate_site import SERVICES, CertificateSite, Death, Died
from transforms.ownership_transfer import Transfer, document_changes, mentors_after
from transforms.transfer_ownership import TransferOwnership, TransferStores

BATCHES, USERS = "sunbird_courses.course_batch", "sunbird.user"
INDEX = "course-batch"
OLD, NEW, M2 = "teacher-1", "teacher-2", "teacher-3"
ORGANISATION = "0140333333333333330"
COURSE = "do_2140555"
READ, SEARCH = "/private/user/v1/read/", "/v1/course/batch/search"


def event(old: Any = OLD, new: Any = NEW, organisation: Any = ORGANISATION, **edata: Any) -> dict[str, Any]:
    given = {
        "action": "ownership-transfer",
        "iteration": 1,
        "context": "User Deletion",
        "organisationId": organisation,
        "fromUserProfile": {"userId": old, "userName": "name of the old one", "roles": ["CONTENT_CREATOR"]},
        "toUserProfile": {"userId": new, "userName": "name of the new one", "firstName": "first name of the new one"},
        "assetInformation": {"name": "Unit test", "identifier": "do_214", "objectType": "QuestionSet"},
    }
    kept = {name: value for name, value in {**given, **edata}.items() if value is not ...}
    return {"eid": "BE_JOB_REQUEST", "mid": "LP.1717402000000.1", "edata": kept}


class Site(CertificateSite):
    """An installation with three teachers, whose LMS searches the index of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.stubs = StubServices(self.services)
        self.documents = MemoryElasticsearch(self.name).open()
        self.documents.index(INDEX, {"other": {"batchId": "other", "courseId": "C", "createdBy": M2, "status": 1}})
        self.extra: dict[str, dict[str, Any]] = {}
        self.http.serve(self._serve)
        for user in (OLD, NEW, M2):
            self.services.users[user] = {"rootOrgId": ORGANISATION}
        self.settings: dict[str, Any] = {
            "job.env": "dev",
            "service.userorg.basePath": f"{SERVICES}/",
            "service.lms.basePath": SERVICES,
        }

    def _serve(self, *call: Any) -> tuple[int, str]:
        if call[1] == SEARCH:
            self.services.batches = {**self.documents.documents(INDEX), **self.extra}
        return self.stubs.in_memory(*call)

    def batch(
        self,
        batch_id: str,
        creator: str = M2,
        mentors: Any = None,
        *,
        row: bool = True,
        document: bool = True,
        **more: Any,
    ) -> None:
        if row:
            columns = {"createdby": creator, "mentors": mentors, "name": "June batch", "status": more.get("status", 1)}
            self.tables.insert(BATCHES, {"courseid": COURSE, "batchid": batch_id, **columns})
        about = {
            "batchId": batch_id,
            "identifier": batch_id,
            "courseId": COURSE,
            "createdBy": creator,
            "createdFor": [ORGANISATION],
            "name": f"Batch of {OLD}",
            "status": 1,
            **({} if mentors is None else {"mentors": mentors}),
            **more,
        }
        if document:
            self.documents.index(INDEX, {batch_id: about})
        else:
            self.extra[batch_id] = about

    # --- the job

    @property
    def stores(self) -> TransferStores:
        return TransferStores(
            tables=self.cassandra,
            batches=BATCHES,
            users=USERS,
            accounts=AccountService(f"{SERVICES}/", READ, self.http),
            search=BatchService(SERVICES, SEARCH, self.http),
            documents=MemoryElasticsearch(self.name),
            calls=self.calls,
        )

    def transfer(self, *values: Any, **options: Any) -> Site:
        self.web.clear()
        self.run(job, job.Settings(**self.settings), self.stores, *values, **options)
        assert self.written == {}
        assert self.counts.keys() <= set(COUNTERS[job.NAME])
        return self

    def step(self) -> TransferOwnership:
        """The step by itself, open."""
        step = TransferOwnership(
            job.NAME, self.stores, size=50, statements_per_batch=10, accepts_deleted=True, dry_run=False
        )
        step.setup()
        return step

    # --- what is there

    def row(self, batch_id: str) -> tuple[Any, Any]:
        """createdby, mentors"""
        (row,) = (row for row in self.tables.rows(BATCHES) if row["batchid"] == batch_id)
        return row["createdby"], row["mentors"]

    def document(self, batch_id: str) -> tuple[Any, Any]:
        """createdBy, mentors"""
        found = self.documents.documents(INDEX)[batch_id]
        return found["createdBy"], found.get("mentors")

    def state(self) -> Any:
        return copy.deepcopy((self.tables.rows(BATCHES), self.documents.documents(INDEX)))

    def skipped(self) -> bool:
        return (self.counts.get("skipped-message-count"), self.counts.get("success-message-count")) == (1, None)


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_batch_that_was_created(site: Site):
    """§9 case 1"""
    validator("ownership-transfer").validate(event())
    site.batch("b-1", OLD)
    (row,), documents = site.state()
    site.transfer(event())
    after = site.state()
    assert after[0] == [{**row, "createdby": NEW}]
    assert after[1] == {**documents, "b-1": {**documents["b-1"], "createdBy": NEW}}
    assert site.counts == {
        "total-transfer-events-count": 1,
        "api-read-success-count": 2,
        "db-update-success-count": 1,
        "success-message-count": 1,
        "batch-row-found-count": 1,
        "batch-row-changed-count": 1,
        "batch-document-found-count": 1,
        "batch-document-changed-count": 1,
    }


def test_what_is_asked(site: Site):
    """spec §3.1, §3.2"""
    site.transfer(event())
    assert [(call.method, call.path) for call in site.web.calls] == [
        ("GET", f"{READ}{OLD}?identifier,rootOrgId"),
        ("GET", f"{READ}{NEW}?identifier,rootOrgId"),
        ("POST", SEARCH),
        ("POST", SEARCH),
    ]
    fields = ["identifier", "createdFor", "batchId", "courseId", "startDate", "enrollmentType"]
    assert [orjson.loads(call.body)["request"] for call in site.web.calls[2:]] == [
        {"filters": {"createdBy": OLD, "status": [0, 1]}, "fields": fields},
        {"filters": {"mentors": [OLD], "status": [0, 1]}, "fields": [*fields, "mentors"]},
    ]
    assert (site.counts["success-message-count"], site.counts.get("db-update-success-count")) == (1, None)


@pytest.mark.parametrize(
    ("mentors", "after"),
    [
        ([OLD, M2, OLD], [M2, NEW]),  # §9 case 2
        ([NEW, OLD], [NEW]),  # §9 case 4
        ([OLD], [NEW]),
        ([NEW, M2, OLD], [NEW, M2]),
        ([OLD, NEW, NEW], [NEW]),
    ],
)
def test_mentors(site: Site, mentors: list[str], after: list[str]):
    site.batch("b-1", M2, mentors)
    site.transfer(event())
    assert site.row("b-1") == site.document("b-1") == (M2, after)


def test_creator_and_mentor(site: Site):
    """§9 case 3"""
    site.batch("b-1", OLD, [OLD])
    site.transfer(event())
    assert site.row("b-1") == site.document("b-1") == (NEW, [NEW])
    assert site.counts["db-update-success-count"] == 2
    assert site.counts["batch-document-changed-count"] == 1


@pytest.mark.parametrize(("user", "reads"), [(OLD, 1), (NEW, 2)])
@pytest.mark.parametrize("what", ["another organisation", "another id", "unknown"])
def test_a_user_who_is_not_of_the_organisation(site: Site, user: str, reads: int, what: str):
    """§9 case 5, spec §3.1"""
    site.batch("b-1", OLD)
    if what == "unknown":
        del site.services.users[user]
    else:
        site.services.users[user] = {"rootOrgId": "another"} if "organ" in what else {"identifier": "another"}
    before = site.state()
    assert site.transfer(event()).skipped()
    assert site.state() == before
    assert site.web.count(SEARCH) == 0
    assert site.web.count(READ) == reads


@pytest.mark.parametrize(
    ("organisation", "accepts", "moves"),
    [(ORGANISATION, True, True), ("another", True, False), (ORGANISATION, False, False)],
)
def test_the_old_user_is_deleted(site: Site, organisation: str, accepts: bool, moves: bool):
    """§9 case 6"""
    site.services.users[OLD] = "blocked"
    site.tables.insert(USERS, {"id": OLD, "status": 2, "rootorgid": organisation})
    site.settings["ownership.transfer.accept.deleted.from.user"] = accepts
    site.batch("b-1", OLD)
    site.transfer(event())
    assert site.row("b-1")[0] == (NEW if moves else OLD)
    assert site.skipped() is not moves
    assert site.counts.get("api-read-success-count", 0) == int(moves)


def test_the_old_user_is_deleted_without_a_row_and_the_new_one_is_deleted(site: Site):
    """spec §3.1"""
    site.services.users[OLD] = "blocked"
    assert site.transfer(event()).skipped()
    site.services.users |= {OLD: {"rootOrgId": ORGANISATION}, NEW: "blocked"}
    site.tables.insert(USERS, {"id": NEW, "rootorgid": ORGANISATION})
    assert site.transfer(event()).skipped()


@pytest.mark.parametrize(("blocked", "accepts"), [(NEW, True), (OLD, False)])
def test_users_are_read_only_where_the_answer_counts(site: Site, blocked: str, accepts: bool):
    """spec §3.1: no row lets the new user pass, nor, with the switch off, the old one"""
    site.services.users[blocked] = "blocked"
    site.settings["ownership.transfer.accept.deleted.from.user"] = accepts
    site.tables.unavailable = True
    assert site.transfer(event()).skipped()


def test_pages(site: Site):
    """§9 case 7"""
    for number in range(3):
        site.batch(f"b-{number}", OLD)
    site.services.batch_page = 2
    site.transfer(event())
    assert [site.row(f"b-{number}")[0] for number in range(3)] == [NEW] * 3
    asked = [orjson.loads(call.body)["request"] for call in site.web.calls if call.path == SEARCH]
    assert [(request.get("offset"), request.get("limit")) for request in asked] == [
        (None, None),
        (2, 1000),
        (None, None),
    ]


def test_the_search_gives_less_than_it_says(site: Site, caplog: pytest.LogCaptureFixture):
    """spec §3.2"""
    site.batch("b-1", OLD)
    answer = {"count": 3, "content": [{"batchId": "b-1", "courseId": COURSE}]}
    empty = {"count": 3, "content": []}
    given = [answer, empty, {"count": 0}]
    serve = site.web.handler
    assert serve is not None
    site.http.serve(
        lambda *call: (
            (200, orjson.dumps({"result": {"response": given.pop(0)}}).decode()) if call[1] == SEARCH else serve(*call)
        )
    )
    site.transfer(event())
    assert site.row("b-1")[0] == NEW
    assert "found 3 batches and gave 1" in caplog.text


@pytest.mark.parametrize(
    "response", [None, {}, {"count": None, "content": [{"batchId": "b-1", "courseId": COURSE}]}, []]
)
def test_a_search_that_counts_nothing(site: Site, response: Any):
    """spec §3.2"""
    site.batch("b-1", OLD)
    serve = site.web.handler
    assert serve is not None
    answer = orjson.dumps({"result": {"response": response}}).decode()
    site.http.serve(lambda *call: (200, answer) if call[1] == SEARCH else serve(*call))
    site.transfer(event())
    assert site.row("b-1")[0] == OLD
    assert site.counts["success-message-count"] == 1


def test_many_batches(site: Site):
    """§9 case 8"""
    for number in range(23):
        site.batch(f"b-{number}", OLD)
    site.transfer(event())
    assert site.counts["db-update-success-count"] == 3
    assert {site.row(f"b-{number}")[0] for number in range(23)} == {NEW}


def test_a_batch_without_document_or_row(site: Site):
    """§9 case 9, spec §3.3"""
    site.batch("b-1", OLD, document=False)
    site.batch("b-2", OLD, row=False)
    site.batch("b-3", OLD)
    site.transfer(event())
    assert (site.row("b-1")[0], site.row("b-3")[0], site.document("b-3")[0]) == (NEW, NEW, NEW)
    assert site.document("b-2")[0] == NEW
    assert len(site.tables.rows(BATCHES)) == 2
    assert site.documents.documents(INDEX).keys() == {"other", "b-2", "b-3"}


def test_entries_without_ids_are_left_out(site: Site):
    """spec §3.2"""
    site.extra = {"x": {"createdBy": OLD, "status": 1, "courseId": COURSE}, "y": {"createdBy": OLD, "status": 1}}
    site.batch("b-1", OLD)
    site.transfer(event())
    assert site.row("b-1")[0] == NEW


def test_batches_that_are_over_stay(site: Site):
    """spec §3.2"""
    site.batch("b-1", OLD, [OLD], status=2)
    before = site.state()
    site.transfer(event())
    assert site.state() == before


def test_bad_input(site: Site):
    """§9 case 10"""
    site.batch("b-1", OLD)
    values = (
        *(event(toUserProfile=...), event(new=OLD), b"no JSON", None, event(fromUserProfile=None)),
        *(event(old=" "), event(organisation=7), event(fromUserProfile=..., fromUserId=OLD)),
    )
    site.transfer(*values)
    assert site.web.calls == []
    assert site.counts == {"total-transfer-events-count": 8, "skipped-message-count": 8}


def test_the_same_event_twice(site: Site):
    """§9 case 11"""
    site.batch("b-1", OLD, [OLD, M2])
    site.transfer(event(), event())
    assert site.counts["db-update-success-count"] == 2
    assert site.counts["success-message-count"] == 2
    after = site.state()
    site.transfer(event())
    assert site.state() == after
    assert site.counts.get("db-update-success-count") is None


@pytest.mark.parametrize("batch_size", [1, 50])
def test_a_chain_of_transfers_is_done_in_turn(site: Site, batch_size: int):
    site.batch("b-1", OLD, [OLD])
    site.transfer(event(OLD, NEW), event(NEW, M2), event(M2, OLD), event(OLD, "nobody"), batch_size=batch_size)
    assert site.row("b-1") == site.document("b-1") == (OLD, [OLD])
    assert site.document("other")[0] == OLD, "which was the third one's"


def test_transfers_of_others_are_done_side_by_side(site: Site):
    pairs = [(f"from-{number}", f"to-{number}") for number in range(16)]
    for number, (old, new) in enumerate(pairs):
        site.services.users |= {old: {"rootOrgId": ORGANISATION}, new: {"rootOrgId": ORGANISATION}}
        site.batch(f"b-{number}", old)
    site.stubs.delay_ms = 20
    site.transfer(*(event(old, new) for old, new in pairs))
    assert 2 <= site.web.most_in_flight <= 8, "bounded"
    assert [site.row(f"b-{number}")[0] for number in range(16)] == [new for _, new in pairs]


def test_the_row_decides_who_created_and_mentors(site: Site):
    """spec §8.7: the index may be late"""
    site.batch("b-1", OLD, [OLD])
    site.batch("b-2", OLD, [OLD, M2])
    site.put(BATCHES, {"courseid": COURSE, "batchid": "b-1"}, {"createdby": "somebody", "mentors": [M2]})
    site.put(BATCHES, {"courseid": COURSE, "batchid": "b-2"}, {"mentors": ["teacher-7", OLD]})
    site.transfer(event())
    assert site.row("b-1") == ("somebody", [M2])
    assert site.row("b-2") == (NEW, ["teacher-7", NEW])


def test_a_row_without_mentors_takes_those_of_the_search(site: Site):
    """spec §3.3"""
    site.batch("b-1", M2, [OLD, M2])
    site.put(BATCHES, {"courseid": COURSE, "batchid": "b-1"}, {"mentors": None})
    site.transfer(event())
    assert site.row("b-1")[1] == [M2, NEW]


def test_every_text_of_a_document_that_is_the_old_user(site: Site):
    """spec §3.4: at any depth, and none that only holds the id"""
    nested = {"a": {"b": [OLD, f"{OLD}x", {"c": OLD}]}, OLD: "key"}
    site.batch("b-1", OLD, updatedBy=OLD, cert_templates=nested, description=f"made by {OLD}")
    site.transfer(event())
    found = site.documents.documents(INDEX)["b-1"]
    assert (found["createdBy"], found["updatedBy"], found["description"]) == (NEW, NEW, f"made by {OLD}")
    assert found["cert_templates"] == {"a": {"b": [NEW, f"{OLD}x", {"c": NEW}]}, OLD: "key"}
    assert found["name"] == f"Batch of {OLD}"


# --- services and stores that are away


@pytest.mark.parametrize("path", [READ, SEARCH])
@pytest.mark.parametrize("status", [503, 500, 401, 403, 408, 429, 404])
def test_a_service_is_away_for_a_moment(site: Site, path: str, status: int):
    """spec §6"""
    if (path, status) == (READ, 404):
        status = 502
    site.batch("b-1", OLD)
    site.stubs.faults = [{"path": path, "status": status, "times": 2}]
    assert site.transfer(event()).row("b-1")[0] == NEW


@pytest.mark.parametrize("path", [READ, SEARCH])
@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 200, "body": "html"}, {"no_answer": "broken"}])
def test_a_service_stays_away(site: Site, path: str, fault: dict[str, Any]):
    """spec §6: the bundle fails, and nothing is lost"""
    site.batch("b-1", OLD)
    before = site.state()
    site.stubs.faults = [{"path": path, **fault}]
    with pytest.raises(Exception, match="answer"):
        site.transfer(event())
    assert site.state() == before
    site.stubs.faults = []
    assert site.transfer(event()).row("b-1")[0] == NEW


def test_a_search_that_is_refused(site: Site, caplog: pytest.LogCaptureFixture):
    """spec §6"""
    site.batch("b-1", OLD)
    before = site.state()
    site.stubs.faults = [{"path": SEARCH, "status": 400, "times": 1}]
    assert site.transfer(event()).skipped()
    assert site.state() == before
    assert "the LMS answers 400" in caplog.text


def test_stores_that_are_away(site: Site):
    """spec §6"""
    site.batch("b-1", OLD)
    for away in (site.tables, site.documents):
        away.unavailable = True
        with pytest.raises(Exception, match="stays away"):
            site.transfer(event())
        away.unavailable = False
    assert site.transfer(event()).document("b-1")[0] == NEW


def test_an_elasticsearch_without_the_index(site: Site):
    """spec §6, §8.5"""
    site.batch("b-1", OLD, document=False)
    site.documents.clear()
    with pytest.raises(Exception, match="has no index course-batch"):
        site.transfer(event())
    assert site.row("b-1")[0] == OLD


# --- a dry run, and what is told


def test_a_dry_run_changes_nothing(site: Site, caplog: pytest.LogCaptureFixture):
    site.batch("b-1", OLD, [OLD])
    site.batch("b-2", OLD)
    site.settings["dry_run"] = True
    before = site.state()
    with caplog.at_level(logging.INFO):
        site.transfer(event())
    assert site.state() == before
    assert site.counts == {
        "total-transfer-events-count": 1,
        "api-read-success-count": 2,
        "batch-row-found-count": 3,
        "batch-document-found-count": 2,
    }
    told = "changed: batch-row 0 of 3, batch-document 0 of 2 (dry run: nothing is changed)"
    assert f"The transfer from {OLD} to {NEW} (LP.1717402000000.1): {told}" in caplog.text


def test_nothing_personal_is_logged(site: Site, caplog: pytest.LogCaptureFixture):
    site.batch("b-1", OLD)
    with caplog.at_level(logging.DEBUG, "transforms"), caplog.at_level(logging.DEBUG, "io_connectors"):
        site.transfer(event(), event(new=OLD), b'{"edata": {"userName": "name of the old one"')
    assert "name of the" not in caplog.text


# --- a worker that dies


def furnished() -> Site:
    site = Site()
    site.services.users[OLD] = "blocked"
    site.tables.insert(USERS, {"id": OLD, "status": 2, "rootorgid": ORGANISATION})
    site.batch("b-1", OLD, [OLD, M2])
    site.batch("b-2", OLD)
    site.batch("b-3", M2, [NEW, OLD])
    return site


def test_killed_at_any_step_and_sent_again():
    site = furnished()
    site.transfer(event())
    expected = site.state()
    assert OLD not in str(expected).replace(f"Batch of {OLD}", "")
    payload = orjson.dumps(event())
    for die_at in range(1, 60):
        site = furnished()
        death = Death(die_at).among(site.tables, site.documents).behind(site.http)
        try:
            site.step().handle([payload])
        except Died:
            death.is_over()
            site.step().handle([payload])
            assert site.state() == expected, f"died at step {die_at}"
            continue
        death.is_over()
        assert site.state() == expected
        assert die_at > 15, "all steps were tried"
        return
    raise AssertionError("the transfer never came to its end")


# --- any batch is like one event after the other

TEACHERS = [OLD, NEW, M2]


@given(
    st.lists(st.tuples(st.sampled_from(TEACHERS), st.sampled_from([*TEACHERS, "nobody"])), min_size=2, max_size=6),
    st.lists(st.tuples(st.sampled_from(TEACHERS), st.lists(st.sampled_from(TEACHERS), max_size=3)), max_size=4),
)
@settings(deadline=None, max_examples=40)
def test_any_batch_is_like_one_by_one(pairs: list[tuple[str, str]], batches: list[tuple[str, list[str]]]):
    payloads = [orjson.dumps(event(old, new)) for old, new in pairs if old != new]

    def handled(together: list[list[bytes]]) -> Any:
        site = Site()
        for number, (creator, mentors) in enumerate(batches):
            site.batch(f"b-{number}", creator, mentors)
        step = site.step()
        for payload in together:
            step.handle(payload)
        return site.state()

    after = handled([payloads])
    assert after == handled([[payload] for payload in payloads])
    rows, documents = after
    for row in rows:
        document = documents[row["batchid"]]
        assert (document["createdBy"], document["mentors"]) == (row["createdby"], row["mentors"] or [])


# --- the rules, for any list

USER_LISTS = st.lists(st.sampled_from([OLD, NEW, M2, "teacher-4"]), max_size=8)
TRANSFER = Transfer(OLD, NEW, ORGANISATION, "-")


@given(USER_LISTS)
@settings(deadline=None)
def test_mentors_for_any_list(mentors: list[str]):
    after = mentors_after(mentors, TRANSFER)
    assert OLD not in after
    assert after.count(NEW) == 1
    others = [mentor for mentor in mentors if mentor not in (OLD, NEW)]
    assert [mentor for mentor in after if mentor != NEW] == others
    assert mentors_after(after, TRANSFER) == after
    changes = document_changes({"mentors": mentors}, TRANSFER)
    assert changes == ({"mentors": after} if OLD in mentors else {})
