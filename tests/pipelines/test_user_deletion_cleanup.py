"""The acceptance cases of user-deletion-cleanup §9, what else its spec says, and a worker that dies at any step."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.stub_behaviour import StubServices
from io_connectors.keycloak import Keycloak
from io_connectors.memory import MemoryRedis
from io_connectors.services import AccountService
from pipelines import user_deletion_cleanup as job
from schemas.counters import COUNTERS
from schemas.event_schemas import validator
from tests.pipelines.certificate_site import SERVICES, CertificateSite, Death, Died
from transforms.clean_up_users import AUDIT as AUDIT_TAG
from transforms.clean_up_users import CleanUpUsers, DeletionStores, UserTables

USERS, LOOKUPS = "sunbird.user", "sunbird.user_lookup"
EXTERNAL_IDS, MEMBERSHIPS = "sunbird.usr_external_identity", "sunbird.user_organisation"
AUDIT = "dev.telemetry.raw"
USER, CHILD, OTHER = "learner-1", "learner-2", "learner-9"
ORGANISATION = "0140222222222222220"
NOW = 1_717_401_000_042  # 2024-06-03T07:50:00.042Z
READ = "/private/user/v1/read/"
TOKEN = "/auth/realms/sunbird/protocol/openid-connect/token"
ADMIN = "/auth/admin/realms/sunbird/users/"
UUID = "6f5c6a1e-5d0a-4d7b-9a39-0a5b6c7d8e9f"

BLANK_TEXTS = (
    *("maskedemail", "maskedphone", "recoveryemail", "recoveryphone", "prevusedemail", "prevusedphone"),
    *("username", "firstname", "lastname", "dob", "email", "phone"),
)


def event(user: Any = USER, organisation: Any = ORGANISATION, **edata: Any) -> dict[str, Any]:
    given = {
        "action": "delete-user",
        "iteration": 1,
        "organisationId": organisation,
        "userId": user,
        "userName": f"name of {user}",
        "suggested_users": [{"role": "ORG_ADMIN", "users": [OTHER]}],
        "managed_users": [CHILD],
        **edata,
    }
    return {"eid": "BE_JOB_REQUEST", "mid": "LP.1717401000000.1", "object": {"id": "x", "type": "user"}, "edata": given}


def keycloak_id(user: str = USER) -> str:
    return f"f:provider:{user}"


class Site(CertificateSite):
    """An installation with one user, who manages a child, and somebody else."""

    def __init__(self) -> None:
        super().__init__()
        self.stubs = StubServices(self.services)
        self.http.serve(self.stubs.in_memory)
        self.services.keycloak_client = "client:client-secret"
        self.meta, self.main = (MemoryRedis(f"{self.name}-{server}", 12) for server in ("meta", "main"))
        self.profiles = [self.meta.open(), self.main.open()]
        self.settings: dict[str, Any] = {
            "job.env": "dev",
            "kafka.output.audit.topic": "dev.telemetry.raw",
            "service.userorg.basePath": SERVICES,
        }
        for user in (USER, CHILD, OTHER):
            self.register(user)
        self.tables.insert(
            EXTERNAL_IDS, {"userid": USER, "idtype": "school", "provider": "school", "externalid": "roll-7"}
        )
        self.tables.insert(LOOKUPS, {"type": "externalid", "value": "roll-7@school", "userid": USER})
        self.tables.insert(MEMBERSHIPS, {"userid": USER, "organisationid": ORGANISATION, "isdeleted": False})

    def register(self, user: str) -> None:
        texts = {name: f"{name} of {user}" for name in (*BLANK_TEXTS, "profiledetails", "loginid")}
        row = {"id": user, "userid": user, "rootorgid": ORGANISATION, "status": 1, "isdeleted": False, **texts}
        self.tables.insert(USERS, row)
        for kind in ("email", "phone", "username"):
            self.tables.insert(LOOKUPS, {"type": kind, "value": f"{kind} of {user}", "userid": user})
        for profiles in self.profiles:
            profiles.set_hash(f"user:{user}", {"firstname": f"firstname of {user}"})
        self.services.users[user] = {"rootOrgId": ORGANISATION, "email": "le****@x.in", "phone": "******21"}
        self.services.keycloak_users[keycloak_id(user)] = {
            "username": f"username of {user}",
            "email": f"email of {user}",
            "emailVerified": True,
            "enabled": True,
            "firstName": f"firstname of {user}",
            "lastName": f"lastname of {user}",
        }

    # --- the job

    @property
    def stores(self) -> DeletionStores:
        return DeletionStores(
            tables=self.cassandra,
            profiles=(self.meta, self.main),
            accounts=AccountService(SERVICES, READ, self.http),
            identities=self.keycloak,
            calls=self.calls,
        )

    @property
    def keycloak(self) -> Keycloak:
        return Keycloak(f"{SERVICES}/auth/", "sunbird", "client", "client-secret", "provider", self.http)

    def delete(self, *values: Any, stores: DeletionStores | None = None, **options: Any) -> Site:
        self.web.clear()
        options.setdefault("clock", lambda: NOW)
        self.run(job, job.Settings(**self.settings), stores or self.stores, *values, **options)
        assert self.counts.keys() <= set(COUNTERS[job.NAME])
        return self

    def step(self, *, dry_run: bool = False) -> CleanUpUsers:
        """The step by itself, open."""
        names = UserTables(USERS, LOOKUPS, EXTERNAL_IDS, MEMBERSHIPS)
        step = CleanUpUsers(
            job.NAME, self.stores, names, size=50, dry_run=dry_run, clock=lambda: NOW, new_id=lambda: UUID
        )
        step.setup()
        return step

    # --- what is there

    def user(self, user: str = USER) -> dict[str, Any]:
        return next(row for row in self.tables.rows(USERS) if row["id"] == user)

    def lookups(self, user: str = USER) -> list[str]:
        return [row["value"] for row in self.tables.rows(LOOKUPS) if row["userid"] == user]

    def external_ids(self) -> list[dict[str, Any]]:
        return self.tables.rows(EXTERNAL_IDS)

    def membership(self) -> tuple[Any, Any]:
        (row,) = self.tables.rows(MEMBERSHIPS)
        return row["isdeleted"], row["orgleftdate"]

    def cached(self, user: str = USER) -> list[bool]:
        return [profiles.exists([f"user:{user}"])[0] for profiles in self.profiles]

    def state(self) -> Any:
        """All that the stores hold."""
        tables = {table: self.tables.rows(table) for table in (USERS, LOOKUPS, EXTERNAL_IDS, MEMBERSHIPS)}
        caches = [
            {key: profiles.hash_map(key, all_fields=True) for key in profiles.scan("")} for profiles in self.profiles
        ]
        return copy.deepcopy((tables, caches, self.services.keycloak_users))

    def calls_of(self, path: str) -> list[str]:
        return [call.method for call in self.web.calls if call.path.startswith(path)]

    def is_blank(self, user: str = USER) -> bool:
        row = self.user(user)
        kept = (row["profiledetails"], row["loginid"], row["rootorgid"])
        assert kept == (f"profiledetails of {user}", f"loginid of {user}", ORGANISATION)
        return {row[name] for name in BLANK_TEXTS} == {""} and (row["status"], row["isdeleted"]) == (2, True)

    def all_of(self, user: str) -> Any:
        return self.user(user), self.lookups(user), self.cached(user), self.services.keycloak_users[keycloak_id(user)]

    def outcomes(self) -> dict[str, bool]:
        (audit,) = self.events(AUDIT)
        (text,) = audit["edata"]["props"]
        return {name: value == "true" for name, value in (part.split(":") for part in text[1:-1].split(", "))}

    def child_is_gone(self) -> bool:
        return self.is_blank(CHILD) and self.lookups(CHILD) == [] and self.cached(CHILD) == [False, False]


@pytest.fixture
def site() -> Site:
    return Site()


ALL_TRUE = dict.fromkeys(("keycloakCredentials", "userLookUpTable", "userExternalIdTable", "userTable"), True) | {
    "redisCache": True
}
LEFT = (True, "2024-06-03 07:50:00:042+0000")


def test_an_active_user(site: Site):
    """§9 case 1"""
    others = (
        site.user(OTHER),
        site.lookups(OTHER),
        site.cached(OTHER),
        site.services.keycloak_users[keycloak_id(OTHER)],
    )
    site.delete(event())
    assert site.is_blank()
    assert (site.lookups(), site.external_ids(), site.cached()) == ([], [], [False, False])
    assert site.membership() == LEFT
    assert list(site.services.keycloak_users) == [keycloak_id(CHILD), keycloak_id(OTHER)]
    assert site.child_is_gone()
    assert site.all_of(OTHER) == others
    assert [(call.method, call.path) for call in site.web.calls] == [
        ("GET", f"{READ}{USER}?identifier,rootOrgId"),
        ("POST", TOKEN),
        ("DELETE", f"{ADMIN}{keycloak_id()}"),
    ]
    assert site.counts == {
        "total-delete-events-count": 1,
        "api-read-success-count": 1,
        "success-message-count": 1,
        "db-update-success-count": 2,
        "keycloak-found-count": 1,
        "keycloak-changed-count": 1,
        "user-lookup-found-count": 7,
        "user-lookup-changed-count": 7,
        "external-id-found-count": 1,
        "external-id-changed-count": 1,
        "membership-found-count": 1,
        "membership-changed-count": 1,
        "profile-cache-found-count": 4,
        "profile-cache-changed-count": 4,
        "user-row-found-count": 2,
        "user-row-changed-count": 2,
    }


def test_the_audit_event(site: Site):
    """spec §3.10"""
    validator("delete-user").validate(event())
    site.delete(event(), new_id=lambda: UUID)
    (audit,) = site.events(AUDIT)
    validator("delete-user-audit").validate(audit)
    assert site.outcomes() == ALL_TRUE
    audit["edata"]["props"] = ["…"]
    assert audit == {
        "actor": {"id": USER, "type": "User"},
        "eid": "AUDIT",
        "edata": {"props": ["…"], "type": "DeleteUserStatus", "status": "Delete"},
        "ver": "3.0",
        "syncts": NOW,
        "ets": NOW,
        "context": {
            "channel": ORGANISATION,
            "env": "User",
            "sid": UUID,
            "did": UUID,
            "pdata": {"ver": "3.0", "id": "org.sunbird.learning.platform", "pid": "user-delete"},
            "cdata": [{"type": "User", "id": USER}],
        },
        "mid": f"LP.AUDIT.{UUID}",
        "object": {"id": USER, "type": "User"},
        "tags": [],
    }


def test_keycloak_does_not_let_a_user_go(site: Site):
    """§9 case 2"""
    site.stubs.faults = [{"path": ADMIN, "method": "DELETE", "status": 500}]
    site.delete(event())
    assert site.calls_of(ADMIN) == ["DELETE", "GET", "PUT"]
    user = site.services.keycloak_users[keycloak_id()]
    assert user["username"] == f"username of {USER}"
    assert {name: value for name, value in user.items() if name not in ("username", "id")} == {
        "email": "",
        "emailVerified": False,
        "enabled": False,
        "firstName": "",
        "lastName": "",
    }
    assert site.outcomes() == ALL_TRUE
    assert site.is_blank()
    assert site.child_is_gone()


@pytest.mark.parametrize(
    "fault",
    [
        {"path": TOKEN, "status": 401},
        {"path": TOKEN, "status": 200, "body": "html"},
        {"path": TOKEN, "no_answer": "broken"},
        {"path": ADMIN, "status": 503},
        {"path": ADMIN, "no_answer": "broken"},
        {"path": ADMIN, "status": 200, "method": "GET", "body": "wrong"},
        {"path": ADMIN, "status": 403, "method": "PUT"},
    ],
)
def test_keycloak_fails_in_any_way(site: Site, fault: dict[str, Any], caplog: pytest.LogCaptureFixture):
    """spec §3.5, §6: it never fails the event."""
    is_deleted = fault["path"] == ADMIN and fault.get("method")
    site.stubs.faults = [fault, *([{"path": ADMIN, "method": "DELETE", "status": 500}] if is_deleted else [])]
    if fault.get("body") == "wrong":
        fault["body"] = "html"
    site.delete(event())
    assert site.outcomes() == {**ALL_TRUE, "keycloakCredentials": False}
    assert site.counts["keycloak-failed-count"] == 1
    assert site.is_blank()
    assert "the credentials stay: " in caplog.text


@pytest.mark.parametrize("missing", ["base", "realm", "client_id", "client_secret", "provider_id"])
def test_without_keycloak(site: Site, missing: str):
    """§9 case 3"""
    stores = replace(site.stores, identities=replace(site.keycloak, **{missing: ""}))
    site.delete(event(), stores=stores)
    assert site.outcomes() == {**ALL_TRUE, "keycloakCredentials": False}
    assert site.is_blank()
    assert site.child_is_gone()
    assert site.calls_of("/auth") == []


def test_a_token_serves_many_users_and_is_renewed(site: Site):
    """spec §3.5 step 1"""
    site.delete(event(managed_users=[]), event(CHILD, managed_users=[]), batch_size=1)
    assert site.calls_of(TOKEN) == ["POST"]
    site.register(USER)
    site.services.keycloak_tokens.clear()
    site.delete(event(managed_users=[]))
    assert (site.calls_of(ADMIN), site.calls_of(TOKEN)) == (["DELETE", "DELETE"], ["POST"])
    assert site.outcomes() == ALL_TRUE


@pytest.mark.parametrize("userid", [USER, None])
def test_deleted_already(site: Site, userid: str | None):
    """§9 case 4"""
    site.put(USERS, {"id": USER}, {"userid": userid})
    site.services.users[USER] = "blocked"
    before = (site.user(), site.lookups(), site.external_ids())
    site.delete(event())
    assert (site.user(), site.lookups(), site.external_ids()) == before
    assert site.membership() == LEFT
    assert site.cached() == [False, False]
    assert site.child_is_gone()
    assert site.calls_of("/auth") == []
    assert site.events(AUDIT) == []
    assert (site.counts["success-message-count"], site.counts["db-update-success-count"]) == (1, 1)


@pytest.mark.parametrize("body", ["error", "html", "empty"])
def test_any_400_is_deleted_already(site: Site, body: str):
    """spec §3.3, §8.10"""
    site.stubs.faults = [{"path": READ, "status": 400, "body": body}]
    site.delete(event())
    assert site.membership() == LEFT
    assert site.lookups()
    assert site.counts["api-read-success-count"] == 1


def test_another_organisation(site: Site):
    """§9 case 5"""
    before = site.state()
    site.delete(event(organisation="another"))
    assert (site.state(), site.counts["skipped-message-count"]) == (before, 1)
    assert "success-message-count" not in site.counts
    site.services.users[USER] = "blocked"
    site.delete(event(organisation="another"))
    assert (site.state(), site.counts["skipped-message-count"]) == (before, 1)
    site.put(USERS, {"id": USER}, {"rootorgid": None})
    before = site.state()
    site.delete(event())
    assert (site.state(), site.counts["skipped-message-count"]) == (before, 1)


@pytest.mark.parametrize("answer", [{"identifier": "somebody"}, {"identifier": None}, {"rootOrgId": 7}])
def test_another_user_in_the_answer(site: Site, answer: dict[str, Any]):
    """spec §3.2"""
    site.services.users[USER] |= answer  # type: ignore[operator]
    before = site.state()
    site.delete(event())
    assert (site.state(), site.counts["skipped-message-count"]) == (before, 1)


def test_case_does_not_count(site: Site):
    """spec §3.2"""
    site.services.users[USER] |= {"identifier": USER.upper()}  # type: ignore[operator]
    assert site.delete(event()).counts["success-message-count"] == 1


def test_deleted_already_and_no_row(site: Site):
    """spec §3.3 step 1"""
    site.services.users["learner-5"] = "blocked"
    before = site.state()
    site.delete(event("learner-5"))
    assert (site.state(), site.counts["skipped-message-count"]) == (before, 1)


def test_nobody_knows_the_user(site: Site):
    """§9 case 6"""
    del site.services.users[USER]
    before = site.state()
    site.delete(event())
    assert site.state() == before
    assert site.counts == {"total-delete-events-count": 1, "api-read-miss-count": 1, "skipped-message-count": 1}


@pytest.mark.parametrize("status", [503, 500, 401, 403, 408, 429, 409, 204, 301])
def test_the_user_service_is_away_for_a_moment(site: Site, status: int):
    """§9 case 6, spec §6"""
    site.stubs.faults = [{"path": READ, "status": status, "times": 2}]
    site.delete(event())
    assert site.calls_of(READ) == ["GET"] * 3
    assert site.is_blank()


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 403}, {"status": 200, "body": "html"}, {"no_answer": "broken"}]
)
def test_the_user_service_stays_away(site: Site, fault: dict[str, Any]):
    """spec §6: the bundle fails, and nothing is lost."""
    before = site.state()
    site.stubs.faults = [{"path": READ, **fault}]
    with pytest.raises(Exception, match=r"answer"):
        site.delete(event())
    assert site.state() == before
    site.stubs.faults = []
    assert site.delete(event()).is_blank()


def test_status_deleted_and_the_service_says_active(site: Site):
    """§9 case 7"""
    site.put(USERS, {"id": USER}, {"status": 2})
    before = (site.user(), site.lookups(), site.external_ids())
    site.delete(event())
    assert (site.user(), site.lookups(), site.external_ids()) == before
    assert site.membership() == LEFT
    assert site.cached() == [False, False]
    assert site.child_is_gone()
    assert site.calls_of("/auth") == []
    assert site.events(AUDIT) == []
    assert site.counts["success-message-count"] == 1


def test_no_status_is_not_deleted(site: Site):
    """spec §3.2 b"""
    site.put(USERS, {"id": USER}, {"status": None})
    assert site.delete(event()).is_blank()


def test_active_without_a_row(site: Site):
    """spec §3.2: no user row is made"""
    site.services.users["learner-5"] = {
        "rootOrgId": ORGANISATION,
        "encEmail": "encrypted e-mail",
        "phone": "plain phone",
        "externalId": "id@org",
    }
    for kind, value in (("email", "encrypted e-mail"), ("phone", "plain phone"), ("externalid", "id@org")):
        site.tables.insert(LOOKUPS, {"type": kind, "value": value, "userid": "learner-5"})
    users = site.tables.rows(USERS)
    site.delete(event("learner-5", managed_users=[]))
    assert site.tables.rows(USERS) == users
    assert site.lookups("learner-5") == []
    assert site.outcomes() == {**ALL_TRUE, "userTable": False}
    assert "db-update-success-count" not in site.counts


@pytest.mark.parametrize("managed", [None, [], [None, " ", "nobody"], "text", {"a": 1}])
def test_managed_users(site: Site, managed: Any):
    """§9 case 9"""
    site.delete(event(managed_users=managed))
    assert len(site.tables.rows(USERS)) == 3
    assert site.user(CHILD)["status"] == 1
    assert site.counts["success-message-count"] == 1


def test_managed_users_of_all_kinds(site: Site):
    """spec §2, §3.11: texts of what is none, each once, also those of status deleted; not the user itself"""
    site.register("5")
    site.put(USERS, {"id": "5"}, {"status": 2})
    site.delete(event(managed_users=[5, CHILD, CHILD, "5", None, USER, {"a": 1}]))
    assert site.is_blank("5")
    assert site.child_is_gone()
    assert site.counts["db-update-success-count"] == 3


def test_bad_input(site: Site):
    """§9 case 10, and other ids that are none"""
    before = site.state()
    site.delete(
        *(b"not JSON", None, b"[]", {"eid": "x"}, event(" "), event(7), event(organisation=""), event("..")),
        event("x" * 9_000),  # no server takes such an address, and none would ever answer
        batch_size=1,
    )
    assert site.state() == before
    assert site.web.calls == []
    assert site.counts == {"total-delete-events-count": 9, "skipped-message-count": 9}


def test_a_lookup_of_somebody_else(site: Site):
    """§9 case 11; one of nobody goes"""
    site.put(LOOKUPS, {"type": "email", "value": f"email of {USER}"}, {"userid": OTHER})
    site.put(LOOKUPS, {"type": "phone", "value": f"phone of {USER}"}, {"userid": ""})
    site.delete(event(managed_users=[]))
    values = {row["value"] for row in site.tables.rows(LOOKUPS)}
    assert f"email of {USER}" in values
    assert f"phone of {USER}" not in values
    assert (site.counts["user-lookup-found-count"], site.counts["user-lookup-changed-count"]) == (4, 3)


def test_an_external_id_of_another_type(site: Site):
    """spec §3.6, §3.7: it goes; its look-up would be of the form of a provider's own"""
    site.tables.insert(EXTERNAL_IDS, {"userid": USER, "idtype": "state", "provider": "school", "externalid": "s-1"})
    site.tables.insert(EXTERNAL_IDS, {"userid": OTHER, "idtype": "school", "provider": "school", "externalid": "r"})
    site.tables.insert(LOOKUPS, {"type": "externalid", "value": "s-1@school", "userid": USER})
    site.delete(event())
    assert [row["userid"] for row in site.external_ids()] == [OTHER]
    assert site.lookups() == ["s-1@school"]


def test_without_an_audit_topic_nothing_is_written(site: Site):
    """spec §3.10"""
    site.settings["kafka.output.audit.topic"] = ""
    site.delete(event())
    assert site.written == {}
    assert site.is_blank()


def test_the_same_event_again(site: Site):
    """The userorg service may not know yet that the user is deleted, or know it."""
    site.delete(event())
    after = site.state()
    site.delete(event(), clock=lambda: NOW)
    assert site.state() == after
    assert site.events(AUDIT) == []
    site.services.users[USER] = "blocked"
    site.delete(event())
    assert site.state() == after


def test_the_same_user_twice_in_a_batch_is_done_in_turn(site: Site):
    site.delete(event(), event(), event(CHILD, managed_users=[]))
    assert len(site.events(AUDIT)) == 1, "the second finds the user deleted, the third the child"
    assert site.calls_of(ADMIN) == ["DELETE"]
    assert site.counts["success-message-count"] == 3


def test_a_store_that_is_away_fails_the_bundle(site: Site):
    for away in (site.tables, *site.profiles):
        away.unavailable = True
        with pytest.raises(Exception, match="stays away"):
            site.delete(event())
        away.unavailable = False
    assert site.user()["status"] == 1
    assert site.delete(event()).is_blank()


def test_users_are_cleaned_up_side_by_side(site: Site):
    users = [f"learner-{number}" for number in range(100, 124)]
    for user in users:
        site.register(user)
    site.stubs.delay_ms = 20
    site.delete(*(event(user, managed_users=[]) for user in users))
    assert 2 <= site.web.most_in_flight <= 8, "bounded"
    assert all(site.is_blank(user) for user in users)
    assert site.counts["success-message-count"] == len(users)


def test_one_of_many_fails_with_an_error_of_the_program(site: Site):
    class Broken:
        def open(self) -> Broken:
            return self

        def read(self, user_id: str) -> dict[str, Any]:
            if user_id == CHILD:
                raise LookupError("a fault of ours")
            return {"identifier": user_id, "rootOrgId": ORGANISATION}

    site.delete(event(CHILD), event(OTHER, managed_users=[]), stores=replace(site.stores, accounts=Broken()))
    assert site.user(CHILD)["status"] == 1
    assert site.is_blank(OTHER)
    assert (site.counts["success-message-count"], site.counts["skipped-message-count"]) == (1, 1)


# --- a dry run, and what is told


@pytest.mark.parametrize("known", ["active", "blocked", "unknown"])
def test_a_dry_run_changes_nothing(site: Site, known: str, caplog: pytest.LogCaptureFixture):
    if known == "blocked":
        site.services.users[USER] = "blocked"
    elif known == "unknown":
        del site.services.users[USER]
    site.settings["dry_run"] = True
    before = site.state()
    with caplog.at_level(logging.INFO):
        site.delete(event())
    assert site.state() == before
    assert site.events(AUDIT) == []
    assert {call.method for call in site.web.calls if call.path != TOKEN} == {"GET"}
    changed = {name: times for name, times in site.counts.items() if "-changed-" in name or "update" in name}
    assert changed == {}
    assert "success-message-count" not in site.counts
    expected = {
        "active": "active; changed: membership 0 of 1, keycloak 0 of 1, user-lookup 0 of 7, external-id 0 of 1, "
        "profile-cache 0 of 4, user-row 0 of 2 (dry run: nothing is changed)",
        "blocked": "deleted; changed: membership 0 of 1, profile-cache 0 of 4, user-lookup 0 of 3, user-row 0 of 1 "
        "(dry run: nothing is changed)",
        "unknown": "skipped: the user service knows no such user (dry run: nothing is changed)",
    }
    assert f"The deletion of {USER} (LP.1717401000000.1): {expected[known]}" in caplog.text


def test_a_dry_run_counts_what_a_run_then_finds(site: Site):
    def counted(what: str) -> dict[str, int]:
        return {name.replace(what, ""): times for name, times in site.counts.items() if what in name}

    site.settings["dry_run"] = True
    site.delete(event())
    foreseen = counted("-found-")
    site.settings["dry_run"] = False
    site.delete(event())
    assert counted("-found-") == counted("-changed-") == foreseen


def test_a_dry_run_of_a_keycloak_that_is_away(site: Site):
    site.stubs.faults = [{"path": "/auth", "status": 503}]
    site.settings["dry_run"] = True
    site.delete(event())
    assert site.counts["keycloak-failed-count"] == 1


def test_a_dry_run_reads_kafka_with_a_group_of_its_own():
    assert job.Settings(**{"service.userorg.basePath": "x", "job.env": "dev"}).kafka_group_id == "dev-delete-user-group"
    given = {"service.userorg.basePath": "x", "job.env": "dev", "dry_run": "true"}
    assert job.Settings(**given).kafka_group_id == "dev-delete-user-group-dry-run"
    assert job.Settings(**given, **{"kafka.groupId": "mine"}).kafka_group_id == "mine-dry-run"


def test_the_profile_is_cleared_on_both_servers_once_each():
    """spec §3.8"""
    given = {"service.userorg.basePath": "x", "redis.host": "main", "user.redis.store": 3}
    found = job.stores(job.Settings(**given)).profiles
    assert [(server.host, server.port, server.database) for server in found] == [("main", 6379, 3)]
    found = job.stores(job.Settings(**given, **{"redis-meta.host": "meta", "redis-meta.port": 6380})).profiles
    assert [(server.host, server.port) for server in found] == [("meta", 6380), ("main", 6379)]


def test_nothing_personal_is_logged(site: Site, caplog: pytest.LogCaptureFixture):
    """spec §6"""
    site.stubs.faults = [{"path": ADMIN, "status": 500}]
    with caplog.at_level(logging.DEBUG, "transforms"), caplog.at_level(logging.DEBUG, "io_connectors"):
        site.delete(event(), b'{"edata": {"userName": "name of learner-1"')
    assert " of learner-" not in caplog.text.replace("deletion of learner-", "")
    assert "client-secret" not in caplog.text


# --- a worker that dies


def undisturbed() -> Any:
    site = Site()
    site.delete(event())
    return site.state()


@pytest.mark.parametrize("becomes", ["active", "blocked"])
def test_killed_at_any_step_and_sent_again(becomes: str):
    """§9 case 8, for every step; once the row says so, the service may answer that the user is deleted."""
    expected = undisturbed()
    payload = orjson.dumps(event())
    for die_at in range(1, 60):
        site = Site()
        death = Death(die_at).among(site.tables, *site.profiles).behind(site.http)
        try:
            outputs = site.step().handle([payload])
        except Died:
            death.is_over()
            is_marked = site.user()["status"] == 2
            if is_marked and becomes == "blocked":
                site.services.users[USER] = "blocked"
            outputs = site.step().handle([payload])
            assert site.state() == expected, f"died at step {die_at}"
            audits = [output for output in outputs if output.tag == AUDIT_TAG]
            assert len(audits) == (not is_marked), f"died at step {die_at}"
            assert all(b"false" not in output.value for output in audits), f"died at step {die_at}"
            continue
        death.is_over()
        assert len(outputs) == 1
        assert site.state() == expected
        assert die_at > 20, "all steps were tried"
        return
    raise AssertionError("the deletion never came to its end")


def test_killed_at_any_step_after_the_service_has_deleted_the_user():
    def deleted() -> Site:
        site = Site()
        site.services.users[USER] = "blocked"
        return site

    site = deleted()
    site.delete(event())
    expected = site.state()
    payload = orjson.dumps(event())
    for die_at in range(1, 60):
        site = deleted()
        death = Death(die_at).among(site.tables, *site.profiles).behind(site.http)
        try:
            site.step().handle([payload])
        except Died:
            death.is_over()
            site.step().handle([payload])
            assert site.state() == expected, f"died at step {die_at}"
            continue
        assert die_at > 12, "all steps were tried"
        return
    raise AssertionError("the deletion never came to its end")


# --- any batch is like one event after the other

EVENTS = st.lists(
    st.tuples(
        st.sampled_from([USER, CHILD, OTHER, "nobody"]),
        st.sampled_from([ORGANISATION, ORGANISATION, "another"]),
        st.lists(st.sampled_from([USER, CHILD, OTHER, "nobody"]), max_size=2),
    ),
    min_size=2,
    max_size=6,
)


@given(EVENTS, st.sampled_from([USER, CHILD, None]))
@settings(deadline=None, max_examples=40)
def test_any_batch_is_like_one_by_one(events: list[tuple[str, str, list[str]]], blocked: str | None):
    payloads = [
        orjson.dumps(event(user, organisation, managed_users=managed)) for user, organisation, managed in events
    ]

    def handled(batches: list[list[bytes]]) -> Any:
        site = Site()
        if blocked:
            site.services.users[blocked] = "blocked"
        step = site.step()
        audits = [output.value for batch in batches for output in step.handle(batch) if output.tag == AUDIT_TAG]
        return site.state(), sorted(audits)

    assert handled([payloads]) == handled([[payload] for payload in payloads])
