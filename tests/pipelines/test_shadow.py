"""Jobs in the shadow: all is computed, nothing is written, and what differs is told."""

from __future__ import annotations

import inspect
import logging
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from io_connectors.memory import MemoryCollectionStatuses, MemoryRedis
from io_connectors.memory_documents import MemoryElasticsearch
from io_connectors.memory_http import MemoryHttp
from io_connectors.memory_mongo import MemoryMongo
from io_connectors.memory_objects import MemoryObjectStore
from pipelines import activity_aggregate_updater as progress
from pipelines import enrolment_reconciliation as reconciliation
from pipelines import jobs
from pipelines.configuration import Loaded, load
from pipelines.runtime import RunRequest, run
from pipelines.settings import UsageError
from pipelines.shadow import (
    CALLS,
    DIFFERS,
    SAME,
    Comparison,
    ShadowCollections,
    ShadowDocuments,
    ShadowKeyValues,
    ShadowMails,
    ShadowObjects,
    ShadowTables,
    in_the_shadow,
    shadowed,
)
from tests.pipelines.test_enrolment_reconciliation import Site, consumed, event
from tests.unit.test_step_labels import SECRETS, SITE
from transforms.counters import counted_in_this_process, forget_counts
from transforms.reconcile_progress import ReconciliationStores
from transforms.services import Documents, Mails, Objects, ServiceRefused
from transforms.stores import Collections, Delete, HashChange, KeyValues, Tables, Update

JOB = "some-job"


@pytest.fixture
def site() -> Site:
    site = Site()
    site.relate(leafnodes={"C": "abc", "U2": "c"})
    site.enrol(1)
    consumed(site, "abc")
    return site


@pytest.fixture
def comparison() -> Comparison:
    forget_counts(JOB)
    return Comparison(JOB)


def counts() -> dict[str, int]:
    return counted_in_this_process(JOB)


def loaded(job: Any) -> Loaded:
    return load(job.Settings, [], ["job.env=dev"], {}, job_name=job.NAME)


def in_shadow(site: Site, directory: Path, *values: bytes) -> dict[str, int]:
    """Run enrolment-reconciliation in the shadow, as the command does; its counters."""
    stores = ReconciliationStores(site.cassandra, MemoryRedis(site.name, 10), MemoryCollectionStatuses(site.name))
    members = {name: getattr(reconciliation, name) for name in ("NAME", "Settings", "build", "beam_options")}
    job: Any = SimpleNamespace(**members, stores=lambda settings: stores)
    (directory / "events.jsonl").write_bytes(b"".join(value + b"\n" for value in values))
    request = RunRequest(input=directory / "events.jsonl", output=directory / "out", shadow=True)
    assert run(job, loaded(reconciliation), request) == 0
    return counted_in_this_process(reconciliation.NAME)


def test_before_the_job_all_differs_and_nothing_is_written(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site.writes()
    counted = in_shadow(site, tmp_path, event())
    assert site.writes() == []
    assert (counted[DIFFERS], counted.get(SAME)) == (4, None)
    assert counted["enrolment-complete-count"] == 1
    assert "user_enrolments {'userid': 'learner-1', 'courseid': 'C', 'batchid': 'B'} differs: contentstatus" in (
        caplog.text
    )
    # what the job would have said can be looked at
    assert (tmp_path / "out" / "dev.issue.certificate.request.jsonl").read_bytes().count(b"\n") == 1


def test_after_the_job_all_is_the_same(site: Site, tmp_path: Path) -> None:
    site.settings["activity.filter.processed.enrolments"] = False
    site.sync(event())
    site.writes()
    counted = in_shadow(site, tmp_path, event())
    assert site.writes() == []
    assert (counted.get(DIFFERS), counted[SAME]) == (None, 3)  # the completed enrolment is left alone


def test_one_wrong_row_is_found(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site.sync(event())
    [wrong] = [row for row in site.tables.rows("sunbird_courses.user_activity_agg") if row["activity_id"] == "U1"]
    where = {name: wrong[name] for name in ("activity_type", "activity_id", "user_id", "context_id")}
    site.tables.write(
        [[Update("sunbird_courses.user_activity_agg", where, add={"aggregates": {"completedCount": 7.0}})]]
    )
    site.writes()
    caplog.set_level(logging.INFO)
    counted = in_shadow(site, tmp_path, event())
    assert (counted[DIFFERS], counted[SAME]) == (1, 2)
    assert "'activity_id': 'U1'" in caplog.text
    assert "differs: aggregates[completedCount]" in caplog.text


def test_the_group_is_another_one_and_checksums_are_not_looked_at() -> None:
    job, configured = shadowed(progress, loaded(progress))  # type: ignore[arg-type]
    settings: Any = configured.settings
    assert settings.kafka_group_id == "dev-activity-aggregate-updater-group-shadow"
    assert job.stores(settings).dedup is None


# Each of their steps needs what the one before it changed.
WITHOUT = {"auto-creator-v2", "content-auto-creator"}


def of_the_site(name: str) -> tuple[Any, Loaded]:
    module = jobs.load(name)
    return shadowed(module, load(module.Settings, [SITE], [], SECRETS, job_name=name))


@pytest.mark.parametrize("name", sorted(set(jobs.JOBS) - WITHOUT))
def test_a_job_s_stores_in_the_shadow_reach_the_workers(name: str) -> None:
    job, configured = of_the_site(name)
    pickle.dumps(job.stores(configured.settings))


@pytest.mark.parametrize("name", sorted(WITHOUT))
def test_a_job_without_a_shadow_says_so(name: str) -> None:
    with pytest.raises(UsageError, match=r"there is no shadow of .*: this job can not run in the shadow"):
        of_the_site(name)


@pytest.mark.parametrize(
    ("protocol", "shadow"),
    [
        (Tables, ShadowTables),
        (KeyValues, ShadowKeyValues),
        (Documents, ShadowDocuments),
        (Collections, ShadowCollections),
        (Objects, ShadowObjects),
        (Mails, ShadowMails),
    ],
)
def test_a_shadow_has_all_that_its_store_has(protocol: Any, shadow: Any, comparison: Comparison) -> None:
    asked = {name for name, _ in inspect.getmembers(protocol, inspect.isfunction) if not name.startswith("_")}
    store = SimpleNamespace(**{name: (lambda *_: None) for name in asked})
    assert asked <= set(dir(shadow(store, comparison)))


def test_tables(site: Site, comparison: Comparison) -> None:
    tables = in_the_shadow(site.cassandra, comparison).open()
    site.writes()
    table, where = "sunbird_courses.user_enrolments", {"userid": "learner-1", "courseid": "C", "batchid": "B"}
    nobody = {**where, "userid": "learner-9"}
    statements = [Update(table, where, {"status": 1}), Update(table, where, {"status": 2}), Delete(table, where)]
    statements += [Delete(table, nobody), Update(table, nobody, {"status": 1}, if_exists=True)]
    assert tables.write([[statement] for statement in statements]) == [None] * 5
    assert counts() == {SAME: 3, DIFFERS: 2}
    assert site.writes() == []


def test_a_key_that_is_no_id_is_not_logged(
    site: Site, comparison: Comparison, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lookup = {"type": "email", "value": "learner-1@example.org"}
    site.tables.insert("sunbird.user_lookup", {**lookup, "userid": "learner-1"})
    in_the_shadow(site.cassandra, comparison).open().write([[Delete("sunbird.user_lookup", lookup)]])
    assert "sunbird.user_lookup {'type': 'email'} differs: the row" in caplog.text


def test_collections(comparison: Comparison) -> None:
    recipe = MemoryMongo("shadow")
    recipe.open().insert("c", {"_id": 1, "p": {"first": "D"}}, {"_id": 2, "p": {"first": "x", "last": "y"}})
    before = recipe.open().documents("c")
    shadow = in_the_shadow(recipe, comparison).open()
    assert shadow.find("c", {"_id": 1}) == before[:1]
    assert shadow.update("c", {}, {"$set": {"p.first": "D"}, "$unset": {"p.last": ""}}) == (2, 0)
    assert shadow.insert_if_missing("c", {"_id": 1}, {"a": 1}) is False
    assert shadow.insert_if_missing("c", {"_id": 3}, {"a": 1}) is True
    assert counts() == {SAME: 2, DIFFERS: 2}
    assert recipe.open().documents("c") == before


def test_a_database_of_redis(comparison: Comparison) -> None:
    recipe = MemoryRedis("shadow", 3)
    store = recipe.open()
    store.set({"a": "1"})
    store.replace_sets({"s": {"x"}})
    store.set_hash("h", {"f": "1"})
    store.operations.clear()
    shadow = in_the_shadow(recipe, comparison).open()
    shadow.set({"a": "1", "b": "1"})
    shadow.replace_sets({"s": {"x"}})
    shadow.replace_sets({"s": {"x", "y"}})
    shadow.add_members("s", ["x"])
    shadow.set_hash("h", {"f": "1", "g": "1"})
    shadow.set_hash("h", {"f": "2"})
    shadow.delete_hash_fields("h", ["none"])
    assert shadow.hash_fields(["h"]) == [{"f"}]
    same = HashChange({"f": "1", "empty": ""}, ["none"])
    changes = {"h": same, "new": HashChange({"f": "1"})}
    assert shadow.change_hashes(changes) == [None, None]
    assert shadow.change_hashes({"h": HashChange({"f": "2"})}) == shadow.change_hashes({"h": HashChange({}, ["f"])})
    assert shadow.delete(["a", "none"]) == 1
    assert shadow.get(["a"]) == ["1"]
    assert counts() == {SAME: 6, DIFFERS: 8}
    assert {operation.name for operation in store.operations} <= {"get", "members", "exists", "hash_map", "hash_fields"}


def test_documents_and_objects(comparison: Comparison) -> None:
    documents, objects = MemoryElasticsearch("shadow"), MemoryObjectStore("shadow", "c")
    documents.open().index("i", {"1": {"a": 1, "b": 2}})
    objects.open().put("k", b"1", "text/plain")
    shadow = in_the_shadow(documents, comparison).open()
    shadow.update("i", {"1": {"a": 1}, "2": {"a": 1}})
    shadow.change("i", {"1": {"b": 3}, "2": {"a": 1}})
    assert shadow.delete("i", ["1", "3"]) == [True, False]
    store = in_the_shadow(objects, comparison).open()
    store.put("k", b"1", "text/plain")
    store.put("k", b"2", "text/plain")
    store.delete("k")
    assert counts() == {SAME: 3, DIFFERS: 5}
    assert documents.open().get("i", ["1", "2"]) == [{"a": 1, "b": 2}, None]
    assert objects.open().get("k") == b"1"


def test_services_are_asked_and_not_told(comparison: Comparison) -> None:
    http = MemoryHttp("shadow")
    twin = http.serve(lambda *call: (200, "{}"))
    calls = in_the_shadow(http, comparison).open()
    calls.call("GET", "http://service/private/user/v1/read/1")
    calls.call("POST", "http://service/v3/search", json={})
    # as the packaged files of user-deletion-cleanup and user-ownership-transfer have it (batch_search_api)
    calls.call("POST", "http://service/course/v1/batch/list", json={})
    with pytest.raises(ServiceRefused, match="is not called in the shadow"):
        calls.create("http://service/registry/api/v1/TrainingCertificate", json={})
    with pytest.raises(ServiceRefused, match="DELETE"):
        calls.call("DELETE", "http://service/registry/api/v1/TrainingCertificate/1")
    assert [call.method for call in twin.calls] == ["GET", "POST", "POST"]
    assert counts() == {CALLS: 2}


def test_what_nobody_knows_has_no_shadow(comparison: Comparison) -> None:
    class Odd:
        def open(self) -> None: ...

    with pytest.raises(UsageError, match="no shadow of Odd"):
        in_the_shadow(Odd(), comparison)
