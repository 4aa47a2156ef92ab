"""The main acceptance cases of ml-user-delete and ml-transfer-ownership §9 on the local stack's server of MongoDB's
protocol: from a file through the command, and through Kafka and Flink, both jobs side by side."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from deploy.local.stack import Stack
from schemas.mongo import OWNERS
from tests.e2e.installation import Installation, RunningJob, from_file
from tests.pipelines import test_ml_transfer_ownership as transfer
from tests.pipelines import test_ml_user_delete as delete

DELETE, TRANSFER = "ml-user-delete", "ml-transfer-ownership"
OTHERS = "told-by-learner-2"


class Mongo:
    """A database of the stack's server that no other test has."""

    def __init__(self, stack: Stack, client: MongoClient[dict[str, Any]]) -> None:
        found = stack.environment()
        self.name = f"ml-{uuid.uuid4().hex[:12]}"
        self.settings = {**found, "ml-mongo.database": self.name}
        self.database: Database[dict[str, Any]] = client[self.name]

    def documents(self, collection: str) -> list[dict[str, Any]]:
        return list(self.database[collection].find({}))

    def everything(self) -> str:
        """All that the server has of this database, as text."""
        return repr([self.documents(name) for name in self.database.list_collection_names()])


@pytest.fixture(scope="module")
def mongo(stack_of: Callable[..., Stack]) -> Iterator[Mongo]:
    stack = stack_of("mongo")
    found = stack.environment()
    with MongoClient(found["ml-mongo.host"], found["ml-mongo.port"], directConnection=True) as client:
        mongo = Mongo(stack, client)
        yield mongo
        client.drop_database(mongo.name)


@pytest.fixture(autouse=True)
def empty(mongo: Mongo) -> None:
    for name in mongo.database.list_collection_names():
        mongo.database[name].delete_many({})


def run(mongo: Mongo, directory: Path, job: str, *values: Any) -> tuple[dict[str, int], str]:
    """Run a job over values: what it counted, and what it told."""
    configuration = directory / "site.yaml"
    configuration.write_text(yaml.safe_dump(mongo.settings))
    raw = (value if isinstance(value, bytes) else orjson.dumps(value) for value in values)
    return from_file(job, configuration, directory, *raw)


# --- ml-user-delete


def fill(mongo: Mongo) -> None:
    for collection in delete.COLLECTIONS:
        mongo.database[collection].insert_many(
            [
                {"_id": delete.USER, **delete.document(collection)},
                {"_id": "second", **delete.document(collection)},
                {"_id": delete.OTHER, **delete.document(collection, delete.OTHER, OTHERS)},
            ]
        )
    mongo.database.observations.insert_one(
        {"_id": "odd", **delete.document("observations", of=OTHERS), "userProfile": None}
    )
    mongo.database.solutions.insert_one({"_id": "odd", "author": delete.USER, "license": "CC BY 4.0"})
    mongo.database.surveySubmissions.insert_one({"_id": "odd", "createdBy": delete.USER})
    project = delete.document("projects", delete.OTHER, OTHERS)
    mongo.database.projects.insert_one({"_id": "odd", **project, "createdBy": delete.USER})


def check_that_the_user_is_gone(mongo: Mongo) -> None:
    """ml-user-delete §9 cases 1, 2, 3, 5, 6, 7; nothing of the person is anywhere in the database"""
    for collection in delete.COLLECTIONS:
        found = {each.pop("_id"): each for each in mongo.documents(collection)}
        assert found[delete.USER] == found["second"] == delete.without_person(collection)
        assert found[delete.OTHER] == delete.document(collection, delete.OTHER, OTHERS)
    odd = {name: mongo.database[name].find_one({"_id": "odd"}, {"_id": 0}) for name in delete.COLLECTIONS}
    assert odd["observations"] == {**delete.document("observations"), "userProfile": None}
    assert odd["solutions"] == {"author": delete.USER, "creator": "Deleted User", "license": "CC BY 4.0"}
    assert odd["surveySubmissions"] == {"createdBy": delete.USER, "userProfile": {"firstName": "Deleted User"}}
    assert odd["projects"] == {**delete.document("projects", delete.OTHER, OTHERS), "createdBy": delete.USER}
    assert OTHERS in mongo.everything()
    assert delete.SECRET not in mongo.everything()


def test_a_user_is_removed_by_a_run_from_a_file(mongo: Mongo, tmp_path: Path) -> None:
    """ml-user-delete §9 cases 1-9; the log has nothing of the person"""
    fill(mongo)
    values = [delete.event(), delete.event(""), delete.event(7), b'{"eid":', delete.event(), delete.event("nobody")]
    counted, told = run(mongo, tmp_path, DELETE, *values)
    assert counted == delete.counted(success=3, skipped=3, hits=16)
    assert delete.SECRET not in told
    check_that_the_user_is_gone(mongo)


# --- ml-transfer-ownership


def sample(mongo: Mongo, *entries: Any, taker: bool = True) -> None:
    """The documents of ml-transfer-ownership §9 case 2."""
    database = mongo.database
    roles = [{"_id": id_, "code": code} for code, id_ in transfer.ROLE_IDS.items()]
    database.userRoles.insert_many(roles)
    database.programs.insert_many([{"_id": id_, "owner": transfer.FROM} for id_ in (transfer.A, transfer.B)])
    database.solutions.insert_many(
        [
            {"_id": 1, **transfer.solution()},
            {"_id": 2, **transfer.solution(license="CC BY 4.0")},
            {"_id": 3, **transfer.solution(license=None)},
            {"_id": 4, **transfer.solution(transfer.OTHER)},
        ]
    )
    given = entries or (transfer.entry(transfer.PM, transfer.A, transfer.B),)
    database.userExtension.insert_one({"_id": 1, **transfer.extension(transfer.FROM, *given)})
    if taker:
        theirs = (transfer.entry(transfer.PM), transfer.entry(transfer.PD))
        database.userExtension.insert_one({"_id": 2, **transfer.extension(transfer.TO, *theirs)})


def roles(mongo: Mongo, user: str) -> Any:
    [found] = [each for each in mongo.documents("userExtension") if each["userId"] == user]
    return {one["code"]: one["programs"] for one in found["platformRoles"]} if "platformRoles" in found else ...


def owners(mongo: Mongo, collection: str) -> dict[Any, str]:
    return {each["_id"]: each[OWNERS[collection]] for each in mongo.documents(collection)}


def test_one_program_by_a_run_from_a_file(mongo: Mongo, tmp_path: Path) -> None:
    """ml-transfer-ownership §9 cases 2, 4, 8, 11"""
    sample(mongo)
    skipped = [value for value in transfer.SKIPPED if isinstance(value, dict)]
    values = [*skipped, b'{"eid":', transfer.event(transfer.PROGRAM), transfer.event(transfer.PROGRAM)]
    counted, told = run(mongo, tmp_path, TRANSFER, *values)
    assert counted == transfer.counted(success=2, skipped=len(skipped) + 1, hits=3)
    assert owners(mongo, "programs") == {transfer.A: transfer.TO, transfer.B: transfer.FROM}
    assert set(owners(mongo, "solutions").values()) == {transfer.FROM, transfer.OTHER}
    assert roles(mongo, transfer.TO) == {transfer.PM: [transfer.A], transfer.PD: []}
    assert roles(mongo, transfer.FROM) == {transfer.PM: [transfer.B]}
    assert not [name for name in (transfer.NAME, transfer.USER_NAME, "orgadmin") if name in told]


def test_everything_to_a_new_user_by_a_run_from_a_file(mongo: Mongo, tmp_path: Path) -> None:
    """ml-transfer-ownership §9 cases 1, 3, 5, 10, and again"""
    odd = [transfer.entry(transfer.PM, transfer.A), {"code": "X", "programs": None, "n": 1.5}, "odd"]
    sample(mongo, *odd, taker=False)
    for hits in (5, 0):
        counted, _ = run(mongo, tmp_path, TRANSFER, transfer.event())
        assert counted == transfer.counted(success=1, hits=hits)
        [given, made] = mongo.documents("userExtension")
        assert isinstance(made.pop("_id"), ObjectId)
        assert made == {**transfer.NEW, "platformRoles": odd}
        assert "platformRoles" not in given
    assert set(owners(mongo, "programs").values()) == {transfer.TO}
    first, text, null, other = (
        {name: value for name, value in each.items() if name != "_id"} for each in mongo.documents("solutions")
    )
    assert first == transfer.given_solution()
    assert text == transfer.given_solution(license="CC BY 4.0")
    assert null == transfer.given_solution(license=None)
    assert other == transfer.solution(transfer.OTHER)


def test_everything_role_by_role_by_a_run_from_a_file(mongo: Mongo, tmp_path: Path) -> None:
    """ml-transfer-ownership §9 cases 6, 7, with entries of odd shape"""
    sample(mongo, transfer.entry(transfer.PM, transfer.A), transfer.entry(transfer.HM, transfer.C))
    odd = {"code": transfer.PM, "programs": None}
    mongo.database.userExtension.update_one({"userId": transfer.TO}, {"$set": {"platformRoles": [odd, 5]}})
    counted, _ = run(mongo, tmp_path, TRANSFER, transfer.event(roles=[transfer.PD]))
    assert counted == transfer.counted(success=1, hits=5)
    taken = mongo.database.userExtension.find_one({"userId": transfer.TO})
    assert taken
    assert taken["platformRoles"] == [{**odd, "programs": [transfer.A]}, 5, transfer.entry(transfer.PD)]
    assert roles(mongo, transfer.FROM) == {transfer.HM: [transfer.C]}


# --- through Kafka and Flink


@pytest.fixture(scope="module")
def site(
    flink_stack: Stack, mongo: Mongo, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Installation, dict[str, RunningJob]]]:
    """Both jobs, running on the test's database."""
    with Installation.on(flink_stack, tmp_path_factory.mktemp("site"), [DELETE, TRANSFER]) as site:
        own = {"ml-mongo__database": mongo.name}
        with site.running(DELETE, TRANSFER, settings={DELETE: own, TRANSFER: own}) as jobs:
            yield site, jobs


def handle(site: Installation, job: str, *values: Any) -> None:
    raw = [value if isinstance(value, bytes | None) else orjson.dumps(value) for value in values]
    site.send(site.topics.read_by(job), *raw, key=b"one")
    site.handled(job)


def test_both_jobs_on_flink(mongo: Mongo, site: tuple[Installation, dict[str, RunningJob]]) -> None:
    """ml-user-delete §9 cases 1-9, ml-transfer-ownership §9 cases 2, 4, 8, 11; bad input stops nothing"""
    installation, jobs = site
    fill(mongo)
    failures = {name: running.failures for name, running in jobs.items()}
    handle(installation, DELETE, delete.event(""), None, b"", b'{"eid":', delete.event(), delete.event())
    check_that_the_user_is_gone(mongo)

    mongo.database.solutions.delete_many({})
    sample(mongo)
    handle(installation, TRANSFER, *transfer.SKIPPED, *[transfer.event(transfer.PROGRAM)] * 2)
    assert owners(mongo, "programs") == {transfer.A: transfer.TO, transfer.B: transfer.FROM}
    assert roles(mongo, transfer.TO) == {transfer.PM: [transfer.A], transfer.PD: []}
    assert roles(mongo, transfer.FROM) == {transfer.PM: [transfer.B]}
    handle(installation, TRANSFER, transfer.event())
    assert set(owners(mongo, "programs").values()) == {transfer.TO}
    assert roles(mongo, transfer.TO) == {transfer.PM: [transfer.A, transfer.B], transfer.PD: []}
    assert roles(mongo, transfer.FROM) is ...
    assert {name: running.failures for name, running in jobs.items()} == failures


@pytest.mark.faults
def test_mongo_away_and_back_on_flink(mongo: Mongo, site: tuple[Installation, dict[str, RunningJob]]) -> None:
    """§6 of both: what comes while the server is away is done when it is back"""
    installation, _ = site
    users = [f"learner-{number}" for number in range(200)]
    for user in users:
        mongo.database.projects.insert_one({"_id": user, **delete.document("projects", user)})
    installation.stack.stop_service("mongo")
    values = [orjson.dumps(delete.event(user)) for user in users]
    installation.send(installation.topics.read_by(DELETE), *values)
    installation.stack.start_service("mongo")
    installation.handled(DELETE)
    assert mongo.database.projects.count_documents({"userProfile.firstName": "Deleted User"}) == len(users)
    assert delete.SECRET not in mongo.everything()
