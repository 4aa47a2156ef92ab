"""The acceptance cases of ml-transfer-ownership §9, what else its spec says, a worker that dies at any step, and any
transfers in any batches like a plain reference."""

from __future__ import annotations

import copy
import logging
from typing import Any

import orjson
import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st

from pipelines import ml_transfer_ownership as job
from pipelines.configuration import load
from schemas.event_schemas import validator
from tests.pipelines.certificate_site import Death, Died
from tests.pipelines.ml_site import MlSite, without_ids
from transforms.ml_ownership import Transfer, transfer_of
from transforms.stores import Refused, StoreUnavailable
from transforms.transfer_ml_ownership import ATTEMPTS, TransferMlOwnership

FROM, TO, OTHER, ADMIN = "learner-1", "learner-2", "learner-3", "learner-9"
NAME, USER_NAME = "new-first-name", "new-user-name"
PM, PD, HM = "PROGRAM_MANAGER", "PROGRAM_DESIGNER", "HM"
# …bca6, …bca7, …bca8
A, B, C = (ObjectId(f"5f34e44681871d939950bca{digit}") for digit in "678")
ROLE_IDS = {PM: ObjectId("5f34e44681871d939950b001"), PD: ObjectId("5f34e44681871d939950b002")}
PROGRAM = {"objectType": "program", "identifier": str(A)}
ODD_LICENSES: list[Any] = [None, "CC BY 4.0", ["x"], 5]


def event(asset: Any = ..., giver: Any = FROM, taker: Any = TO, roles: Any = (PM, PD), **edata: Any) -> dict[str, Any]:
    """The sample of spec §2 with another asset; without, everything."""
    edata = {
        "action": "ownership-transfer",
        "organisationId": "01269934121990553633",
        "context": "User Deletion",
        "iteration": 1,
        "actionBy": {"userId": ADMIN, "userName": "orgadmin"},
        "fromUserProfile": {"userId": giver, "userName": "old-user-name", "channel": "", "roles": [PM]},
        "toUserProfile": {"userId": taker, "userName": USER_NAME, "firstName": NAME, "lastName": "x", "roles": roles},
        **({} if asset is ... else {"assetInformation": asset}),
        **edata,
    }
    return {
        "eid": "BE_JOB_REQUEST",
        "ets": 1719527882745,
        "mid": "LP.1719527882745.32dc378a-430f-49f6-83b5-bd73b767ad36",
        "actor": {"id": "ownership-transfer", "type": "System"},
        "context": {"pdata": {"id": "org.sunbird.platform", "ver": "1.0"}},
        "object": {"id": giver, "type": "User"},
        "edata": edata,
    }


def entry(code: Any, *programs: Any, **more: Any) -> dict[str, Any]:
    return {"roleId": ROLE_IDS.get(code, ObjectId("5f34e44681871d939950b009")), "code": code, "programs": [*programs]}


def extension(user: str, *entries: Any, **more: Any) -> dict[str, Any]:
    return {"userId": user, "externalId": f"{user}-name", "status": "active", ROLES: list(entries), **more}


ROLES = "platformRoles"
NEW = {
    "userId": TO,
    "externalId": USER_NAME,
    "status": "active",
    "isDeleted": False,
    "devices": [],
    "createdBy": ADMIN,
    "updatedBy": ADMIN,
}


def solution(author: str = FROM, **more: Any) -> dict[str, Any]:
    names = {"author": "old", "creator": "old", "type": "CC BY"}
    return {"author": author, "creator": "old", "license": names, "name": "Solution", **more}


def given_solution(**more: Any) -> dict[str, Any]:
    names = {"author": NAME, "creator": NAME, "type": "CC BY"}
    return {"author": TO, "creator": NAME, "license": names, "name": "Solution", **more}


class Site(MlSite):
    """An installation that knows two roles."""

    def __init__(self, *known: str) -> None:
        super().__init__()
        for code in known or (PM, PD):
            self.mongo.insert("userRoles", {"_id": ROLE_IDS[code], "code": code, "title": code})

    def roles(self, user: str) -> Any:
        """The user's platformRoles as {code: programs}; ... when there are none."""
        [found] = [each for each in self.mongo.documents("userExtension") if each["userId"] == user]
        return {one["code"]: one["programs"] for one in found[ROLES]} if ROLES in found else ...

    def owners(self, collection: str = "programs") -> dict[Any, str]:
        owner = "owner" if collection == "programs" else "author"
        return {each["_id"]: each[owner] for each in self.mongo.documents(collection)}

    def own(self, *programs: ObjectId, owner: str = FROM) -> None:
        self.mongo.insert("programs", *({"_id": program, "owner": owner, "name": "kept"} for program in programs))


@pytest.fixture
def site() -> Site:
    return Site()


def counted(success: int = 0, skipped: int = 0, hits: int = 0) -> dict[str, int]:
    counts = {
        "total-transfer-events-count": success + skipped,
        "success-message-count": success,
        "skipped-message-count": skipped,
        "transfer-ownership-cleanup-hit": hits,
    }
    return {name: times for name, times in counts.items() if times}


def test_case_1_one_solution(site: Site) -> None:
    """§9 case 1"""
    site.mongo.insert("solutions", {"_id": A, **solution()}, {"_id": B, **solution()}, {"_id": C, **solution(OTHER)})
    site.own(A)
    site.mongo.insert("userExtension", extension(FROM, entry(PM, A)), extension(TO, entry(PM)))
    before = site.everything()
    value = event({"objectType": "solution", "identifier": str(A), "name": "x"})
    validator("ml-transfer-ownership").validate(value)
    site.run(job, value)
    assert site.mongo.documents("solutions") == [
        {"_id": A, **given_solution()},
        {"_id": B, **solution()},
        {"_id": C, **solution(OTHER)},
    ]
    assert {**site.everything(), "solutions": 0} == {**before, "solutions": 0}
    assert site.counts == counted(success=1, hits=1)


def sample(site: Site) -> None:
    """The documents of §9 case 2."""
    site.own(A, B)
    site.mongo.insert("userExtension", extension(FROM, entry(PM, A, B)), extension(TO, entry(PM), entry(PD)))


def test_case_2_one_program(site: Site) -> None:
    """§9 case 2"""
    validator("ml-transfer-ownership").validate(event(PROGRAM))
    sample(site)
    site.run(job, event(PROGRAM))
    assert site.owners() == {A: TO, B: FROM}
    assert site.roles(TO) == {PM: [A], PD: []}
    assert site.roles(FROM) == {PM: [B]}
    assert site.counts == counted(success=1, hits=3)


def test_case_3_a_new_document() -> None:
    """§9 case 3"""
    site = Site(PM)
    site.own(A)
    site.mongo.insert("userExtension", extension(FROM, entry(PM, A)))
    site.run(job, event(PROGRAM))
    [_, made] = without_ids(site.mongo.documents("userExtension"))
    assert made == {**NEW, ROLES: [{"roleId": ROLE_IDS[PM], "code": PM, "programs": [A]}]}
    assert isinstance(made[ROLES][0]["programs"][0], ObjectId)
    assert site.roles(FROM) == {PM: []}
    assert site.owners() == {A: TO}


def test_case_4_the_same_again(site: Site) -> None:
    """§9 case 4"""
    sample(site)
    site.run(job, event(PROGRAM))
    after = site.everything()
    site.run(job, event(PROGRAM), event(PROGRAM))
    assert site.everything() == after
    assert site.counts == counted(success=2)


def test_case_5_everything_to_an_unknown_user(site: Site) -> None:
    """§9 case 5"""
    site.own(A, B)
    site.own(C, owner=OTHER)
    site.mongo.insert("solutions", {"_id": A, **solution()}, {"_id": B, **solution(OTHER)})
    roles = [entry(PM, A, B), {**entry(HM, C), "more": 1}, {"code": "X"}]
    site.mongo.insert("userExtension", extension(FROM, *roles, devices=["kept"]))
    validator("ml-transfer-ownership").validate(event())
    site.run(job, event())
    given, made = without_ids(site.mongo.documents("userExtension"))
    assert made == {**NEW, ROLES: roles}
    kept = extension(FROM, devices=["kept"])
    del kept[ROLES]
    assert given == kept
    assert site.owners() == {A: TO, B: TO, C: OTHER}
    assert site.mongo.documents("solutions") == [{"_id": A, **given_solution()}, {"_id": B, **solution(OTHER)}]
    assert site.counts == counted(success=1, hits=4)
    after = site.everything()
    site.run(job, event())
    assert site.everything() == after


def test_case_6_everything_role_by_role(site: Site) -> None:
    """§9 case 6"""
    site.mongo.insert("userExtension", extension(FROM, entry(PM, A, B)), extension(TO, entry(PM, B)))
    site.run(job, event(roles=[]))
    assert (site.roles(TO), site.roles(FROM)) == ({PM: [B, A]}, ...)


def test_case_7_a_role_that_is_not_there_stays(site: Site) -> None:
    """§9 case 7, §8.3"""
    site.mongo.insert("userExtension", extension(FROM, entry(PM, A), entry(HM, C)), extension(TO, entry(PM)))
    site.run(job, event())
    assert (site.roles(TO), site.roles(FROM)) == ({PM: [A], PD: []}, {HM: [C]})


SKIPPED: list[Any] = [
    event({"objectType": "QuestionSet", "identifier": "do_1"}),
    event({"objectType": "Program", "identifier": str(A)}),
    event({"objectType": "solution"}),
    event({"objectType": "solution", "identifier": ""}),
    event({"objectType": "program", "identifier": None}),
    event({"identifier": str(A)}),
    event({"objectType": "", "identifier": str(A)}),
    event({"objectType": "program", "identifier": "do_1"}),
    event({"objectType": "program", "identifier": 7}),
    event({"objectType": " ", "identifier": " "}),
    event("program"),
    event([]),
    event(PROGRAM, taker=FROM),
    event(PROGRAM, taker=" "),
    event(PROGRAM, giver=""),
    event(taker=FROM),
    event(taker=None),
    event(giver=7),
    event(giver=["x"]),
    {"edata": {}},
    {},
    b'{"eid":',
    b"[1,2]",
    b"",
    None,
]


def test_case_8_what_is_not_for_this_job_changes_nothing(site: Site) -> None:
    """§9 case 8, §8.1, §8.5, §8.7, §8.8"""
    sample(site)
    site.mongo.insert("solutions", *({**solution(owner)} for owner in (FROM, "", " ")))
    before = site.everything()
    site.run(job, *SKIPPED)
    assert site.everything() == before
    assert site.counts == counted(skipped=len(SKIPPED))


@pytest.mark.parametrize("value", [value for value in SKIPPED if isinstance(value, dict)])
def test_the_schema_of_the_event(value: dict[str, Any]) -> None:
    """§2: all but that both users are the same one"""
    profile = value.get("edata", {}).get("toUserProfile", {})
    assert validator("ml-transfer-ownership").is_valid(value) == (profile.get("userId") == FROM)


def test_case_9_without_documents_of_the_users(site: Site) -> None:
    """§9 case 9"""
    site.own(A)
    site.mongo.insert("solutions", {"_id": A, **solution()})
    site.run(job, event())
    assert (site.owners(), site.owners("solutions")) == ({A: TO}, {A: TO})
    assert "userExtension" not in site.everything()
    assert site.counts == counted(success=1, hits=2)


@pytest.mark.parametrize("asset", [..., {"objectType": "solution", "identifier": str(A)}])
@pytest.mark.parametrize("license_", ODD_LICENSES)
def test_case_10_a_license_that_is_no_object(site: Site, license_: Any, asset: Any) -> None:
    """§9 case 10, §8.6"""
    site.mongo.insert("solutions", {"_id": A, **solution(license=license_)})
    site.run(job, event(asset))
    assert site.mongo.documents("solutions") == [{"_id": A, **given_solution(license=license_)}]


def test_a_solution_without_license_gets_one(site: Site) -> None:
    """§3.1"""
    site.mongo.insert("solutions", {"_id": A, "author": FROM})
    site.run(job, event())
    names = {"author": NAME, "creator": NAME}
    assert site.mongo.documents("solutions") == [{"_id": A, "author": TO, "creator": NAME, "license": names}]


def test_case_11_a_broken_record_and_a_good_one(site: Site) -> None:
    """§9 case 11"""
    sample(site)
    site.run(job, b'{"eid":', event(PROGRAM))
    assert site.owners() == {A: TO, B: FROM}
    assert site.counts == counted(success=1, skipped=1, hits=3)


# --- §2, §3, §5, §6, §8


@pytest.mark.parametrize("asset", [..., None, {}, {"objectType": "", "identifier": ""}, {"objectType": None}])
def test_what_means_everything(site: Site, asset: Any) -> None:
    """§2"""
    validator("ml-transfer-ownership").validate(event(asset))
    site.own(A)
    site.run(job, event(asset))
    assert site.owners() == {A: TO}


def test_what_is_missing_has_its_default(site: Site) -> None:
    """§2"""
    site.mongo.insert("userExtension", extension(FROM, entry(PM, A)))
    site.mongo.insert("solutions", {"_id": A, **solution()})
    profiles = {"fromUserProfile": {"userId": FROM}, "toUserProfile": {"userId": TO, "firstName": 7}}
    site.run(job, {"edata": profiles})
    [_, made] = without_ids(site.mongo.documents("userExtension"))
    assert made == {**NEW, "externalId": "", "createdBy": "", "updatedBy": "", ROLES: [entry(PM, A)]}
    assert site.mongo.documents("solutions")[0]["creator"] == ""


@pytest.mark.parametrize("roles", [[PM, PM, PD, "unknown", 7, None, ""], [PM, PD]])
def test_missing_roles_come_once_and_in_order(site: Site, roles: list[Any]) -> None:
    """§3.2.2, §8.5"""
    site.mongo.insert("userExtension", extension(TO, entry(HM, C)))
    site.run(job, event(PROGRAM, roles=roles))
    assert list(site.roles(TO)) == [HM, PM, PD]


@pytest.mark.parametrize("roles", [None, "PROGRAM_MANAGER", {}, 7])
def test_roles_that_are_no_list_are_none(site: Site, roles: Any) -> None:
    site.mongo.insert("userExtension", extension(TO))
    site.run(job, event(PROGRAM, roles=roles))
    assert site.roles(TO) == {}


def test_a_program_comes_only_into_the_roles_in_which_it_was(site: Site) -> None:
    """§3.2.3-§3.2.5, §8.2: of the giver, it goes from all"""
    mine = [entry(PM, A, B), entry(PD, B), entry(HM, A), entry("X", A), {"programs": [A]}]
    theirs = [entry(PM, C), entry(PD, C), entry(HM), entry(PM, A), entry("Y")]
    site.mongo.insert("userExtension", extension(FROM, *mine), extension(TO, *theirs))
    site.run(job, event(PROGRAM, roles=[]))
    [given, taken] = [each[ROLES] for each in site.mongo.documents("userExtension")]
    assert [one["programs"] for one in given] == [[B], [B], [], [], []]
    assert [one["programs"] for one in taken] == [[C, A], [C], [A], [A], []]


def test_entries_without_programs_have_none(site: Site) -> None:
    """§3.3, §8.5"""
    mine = [entry(PM, A), {"code": PD, "programs": None}, {"code": HM}, None, "odd", {"code": 7, "programs": [C]}]
    theirs = [{"code": PM, "programs": None}, {"code": PD}, {"code": HM, "programs": "odd"}, 5]
    site.mongo.insert("userExtension", extension(FROM, *mine), extension(TO, *theirs))
    site.run(job, event(roles=[]))
    [given, taken] = [each[ROLES] for each in site.mongo.documents("userExtension")]
    # what can take no programs gets none, and nothing of it is taken
    assert given == [{"code": HM}, None, "odd", {"code": 7, "programs": [C]}]
    assert taken == [{"code": PM, "programs": [A]}, *theirs[1:]]


def test_one_program_and_an_entry_that_can_not_take_it(site: Site) -> None:
    """§6: what was not given is not taken"""
    theirs = [{"code": PM, "programs": "odd"}, {"code": HM, "programs": None}]
    site.mongo.insert("userExtension", extension(FROM, entry(PM, A), entry(HM, A)), extension(TO, *theirs))
    site.run(job, event(PROGRAM, roles=[]))
    [given, taken] = [each[ROLES] for each in site.mongo.documents("userExtension")]
    assert given == [entry(PM, A), entry(HM)]
    assert taken == [theirs[0], {"code": HM, "programs": [A]}]


@pytest.mark.parametrize("asset", [..., PROGRAM])
@pytest.mark.parametrize("odd", ["odd", {"code": PM}, 5])
def test_roles_of_the_taker_that_are_no_list(
    site: Site, asset: Any, odd: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """§6, §8.5: all else is done, and nothing is taken"""
    site.own(A)
    site.mongo.insert("userExtension", extension(FROM, entry(PM, A)), extension(TO, **{ROLES: odd}))
    before = site.mongo.documents("userExtension")
    site.run(job, event(asset))
    assert site.mongo.documents("userExtension") == before
    assert site.owners() == {A: TO}
    assert site.counts == counted(success=1, hits=1)
    assert "events:0:0:0: the programs of both users by role stay as they are: platformRoles is no list" in caplog.text


@pytest.mark.parametrize("asset", [..., PROGRAM])
@pytest.mark.parametrize("odd", ["odd", {"code": PM}, None])
def test_roles_of_the_giver_that_are_no_list(site: Site, asset: Any, odd: Any) -> None:
    """§8.5"""
    site.mongo.insert("userExtension", extension(FROM, **{ROLES: odd}), extension(TO, entry(PM, B)))
    before = site.mongo.documents("userExtension")
    site.run(job, event(asset, roles=[]))
    assert site.mongo.documents("userExtension") == before


@pytest.mark.parametrize("asset", [..., PROGRAM])
def test_roles_of_the_taker_that_are_null_become_a_list(site: Site, asset: Any) -> None:
    site.mongo.insert("userExtension", extension(FROM, entry(PM, A)), extension(TO, **{ROLES: None}))
    site.run(job, event(asset, roles=[PM]))
    assert site.roles(TO) == {PM: [A]}


def test_an_empty_list_of_the_giver_is_copied_and_unset(site: Site) -> None:
    """§3.3"""
    site.mongo.insert("userExtension", extension(FROM))
    site.run(job, event())
    assert (site.roles(TO), site.roles(FROM)) == ({}, ...)


@pytest.mark.parametrize("refusing", ["solutions", "programs", "userExtension"])
def test_what_is_refused_does_not_keep_the_rest(site: Site, refusing: str, caplog: pytest.LogCaptureFixture) -> None:
    """§6: nothing is taken that was not given"""
    sample(site)
    site.mongo.insert("solutions", {"_id": A, **solution()})
    before = site.everything()
    operate = site.mongo._operate

    def refuse(name: str, subject: Any) -> None:
        if name != "find" and subject[0] == refusing:
            raise Refused("a reason of the server")
        operate(name, subject)

    site.mongo._operate = refuse  # type: ignore[method-assign]
    site.run(job, event())
    after = site.everything()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"solutions", "programs", "userExtension"} - {refusing}
    assert site.counts["success-message-count"] == 1
    assert "a reason of the server" in caplog.text


def test_the_names_of_people_are_not_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    site.mongo.insert("userExtension", extension(TO, **{ROLES: "odd"}))
    site.run(job, event(PROGRAM), event({"objectType": "solution"}), event(taker=FROM))
    assert len(caplog.records) >= 3
    assert not [name for name in (NAME, USER_NAME, "old-user-name", "orgadmin") if name in caplog.text]


def test_settings_of_the_deployed_file(tmp_path: Any) -> None:
    """§5: with the parallelism of another job in it"""
    file = tmp_path / "ml-transfer-ownership.conf"
    file.write_text(
        'job.env = "sb"\nkafka { input.topic = ${job.env}".user.ownership.transfer"\n'
        '  groupId = ${job.env}"-ml-transfer-ownership-group" }\n'
        "ml-mongo { host = 10.0.0.1, port = 27017, database = ml-survey }\ntask.ml.user.delete.parallelism = 1\n"
    )
    loaded = load(job.Settings, [file], [], {})
    assert (loaded.unknown, loaded.warnings) == ([], [])
    settings = loaded.settings
    assert settings.kafka_input_topic == "sb.user.ownership.transfer"
    assert settings.kafka_group_id == "sb-ml-transfer-ownership-group"
    assert load(job.Settings, [], [], {}).beam_options == {}


# --- somebody else at the same time, a worker that dies


def step_on(site: MlSite) -> TransferMlOwnership:
    step = TransferMlOwnership(job.NAME, site.stores, size=500)
    step.setup()
    return step


def payload(value: dict[str, Any]) -> bytes:
    transfer = transfer_of(orjson.loads(orjson.dumps(value)), "events:0:0:0")
    assert Transfer.from_bytes(transfer.to_bytes()) == transfer
    return transfer.to_bytes()


def meanwhile(site: Site, change: Any, times: int) -> None:
    """Let somebody else do something before each of the next writes to users' documents."""
    operate = site.mongo._operate
    left = iter(range(times))

    def operated(name: str, subject: Any) -> None:
        if name != "find" and subject[0] == "userExtension" and next(left, None) is not None:
            change()
        operate(name, subject)

    site.mongo._operate = operated  # type: ignore[method-assign]


@pytest.mark.parametrize("asset", [..., PROGRAM])
@pytest.mark.parametrize("user", [FROM, TO])
def test_what_others_write_meanwhile_is_not_lost(site: Site, asset: Any, user: str) -> None:
    """§6"""
    sample(site)
    documents = site.mongo._collection("userExtension")
    meanwhile(site, lambda: documents.update_one({"userId": user}, {"$push": {f"{ROLES}.0.programs": C}}), 2)
    step_on(site).handle([payload(event(asset))])
    both = (site.roles(TO)[PM], [] if site.roles(FROM) is ... else site.roles(FROM)[PM])
    expected = {
        (TO, True): ([C, C, A], [B]),
        (TO, False): ([C, C, A, B], []),
        (FROM, True): ([A], [B, C, C]),
        (FROM, False): ([A, B, C], []),
    }
    assert both == expected[user, asset is PROGRAM]


def test_the_document_of_the_taker_is_made_meanwhile(site: Site) -> None:
    site.mongo.insert("userExtension", extension(FROM, entry(PM, A)))
    meanwhile(site, lambda: site.mongo.insert("userExtension", extension(TO, entry(PM, B))), 1)
    step_on(site).handle([payload(event(roles=[]))])
    assert (site.roles(TO), site.roles(FROM)) == ({PM: [B, A]}, ...)


def test_a_document_that_changes_all_the_time_fails_the_bundle(site: Site) -> None:
    sample(site)
    documents = site.mongo._collection("userExtension")
    meanwhile(site, lambda: documents.update_one({"userId": TO}, {"$push": {ROLES: {"code": "X"}}}), 10_000)
    with pytest.raises(StoreUnavailable, match=f"changed {ATTEMPTS} times"):
        step_on(site).handle([payload(event(PROGRAM))])
    assert site.roles(FROM) == {PM: [A, B]}


def test_a_store_that_stays_away_fails_the_bundle(site: Site) -> None:
    sample(site)
    site.mongo.unavailable = True
    with pytest.raises(Exception, match="stays away"):
        site.run(job, event(PROGRAM))
    site.mongo.unavailable = False
    site.run(job, event(PROGRAM))
    assert site.roles(TO) == {PM: [A], PD: []}


WORLDS: dict[str, list[dict[str, Any]]] = {
    "both have roles": [extension(FROM, entry(PM, A, B), entry(HM, C)), extension(TO, entry(PM, B), entry("X"))],
    "the taker is new": [extension(FROM, entry(PM, A, B), entry(HM, A))],
    "the taker has no roles": [extension(FROM, entry(PM, A)), {"userId": TO}],
    "the giver has none": [extension(TO, entry(PM, B))],
}


def world(name: str) -> Site:
    site = Site()
    site.own(A, B)
    site.mongo.insert("solutions", {"_id": A, **solution()}, {"_id": B, **solution(license="CC BY 4.0")})
    site.mongo.insert("userExtension", *copy.deepcopy(WORLDS[name]))
    return site


def state(site: MlSite) -> Any:
    return {name: without_ids(documents) for name, documents in site.everything().items()}


@pytest.mark.parametrize("asset", [..., PROGRAM, {"objectType": "solution", "identifier": str(B)}])
@pytest.mark.parametrize("name", WORLDS)
def test_killed_before_any_step_and_handled_again(name: str, asset: Any) -> None:
    """§6: the end is that of one whole handling, and so it is after one more"""
    whole = world(name)
    step_on(whole).handle([payload(event(asset))])
    steps = len(whole.mongo.operations)
    assert steps >= 2
    for at in range(1, steps + 1):
        site = world(name)
        death = Death(at).among(site.mongo)
        with pytest.raises(Died):
            step_on(site).handle([payload(event(asset))])
        death.is_over()
        step_on(site).handle([payload(event(asset))])
        assert state(site) == state(whole), f"killed at step {at}"
        step_on(site).handle([payload(event(asset))])
        assert state(site) == state(whole), f"killed at step {at}, and handled three times"


# --- any transfers


class Plain:
    """The statements of §3, one by one, on documents in which nothing is odd."""

    def __init__(self, programs: dict[ObjectId, str], roles: dict[str, list[dict[str, Any]]]) -> None:
        self.programs = dict(programs)
        self.roles: dict[str, list[dict[str, Any]] | None] = copy.deepcopy(dict(roles))
        self.made: set[str] = set()

    def missing_roles(self, user: str, roles: list[str]) -> None:
        entries = self.roles[user] or []
        for role in roles:
            if role in ROLE_IDS and role not in [one["code"] for one in entries]:
                entries.append(entry(role))
        self.roles[user] = entries or self.roles[user]

    def one(self, program: ObjectId, giver: str, taker: str, roles: list[str]) -> None:
        if self.programs.get(program) == giver:
            self.programs[program] = taker
        if taker not in self.roles:
            self.roles[taker] = []
            self.made.add(taker)
        self.missing_roles(taker, roles)
        codes = [one["code"] for one in self.roles.get(giver) or [] if program in one["programs"]]
        for one in self.roles[taker] or []:
            if one["code"] in codes and program not in one["programs"]:
                one["programs"].append(program)
        for one in self.roles.get(giver) or []:
            one["programs"] = [other for other in one["programs"] if other != program]

    def everything(self, giver: str, taker: str, roles: list[str]) -> None:
        self.programs = {program: taker if owner == giver else owner for program, owner in self.programs.items()}
        given = self.roles.get(giver)
        if taker not in self.roles:
            if given is not None:
                self.roles[taker], self.roles[giver] = given, None
                self.made.add(taker)
            return
        if taker in self.made and given in (None, self.roles[taker]):
            # as if it came again
            if giver in self.roles:
                self.roles[giver] = None
            return
        self.missing_roles(taker, roles)
        left = []
        for other in given or []:
            mine = [one for one in self.roles[taker] or [] if one["code"] == other["code"]]
            if not mine:
                left.append(other)
            for program in other["programs"] if mine else ():
                if program not in mine[0]["programs"]:
                    mine[0]["programs"].append(program)
        if given is not None:
            self.roles[giver] = left or None


users = st.sampled_from([FROM, TO, OTHER, "learner-4"])
some_programs = st.lists(st.sampled_from([A, B, C]), unique=True, max_size=3)
some_entries = st.lists(st.sampled_from([PM, PD, HM]), unique=True, max_size=3).flatmap(
    lambda codes: st.tuples(*(some_programs for _ in codes)).map(
        lambda listed: [entry(code, *programs) for code, programs in zip(codes, listed, strict=True)]
    )
)
transfers = st.tuples(
    st.sampled_from([None, A, B, C]),
    st.tuples(users, users).filter(lambda pair: pair[0] != pair[1]),
    st.lists(st.sampled_from([PM, PD, HM]), max_size=3),
)


@options(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from([A, B, C]), users),
    st.dictionaries(users, some_entries),
    st.lists(transfers, min_size=1, max_size=5),
    st.integers(1, 5),
    st.integers(0, 30),
)
def test_any_transfers_in_any_batches_like_one_by_one(
    programs: Any, roles: Any, moves: Any, size: int, die_at: int
) -> None:
    """A worker that dies on the way, and a batch that is handled again, too."""
    site, plain = Site(), Plain(programs, roles)
    for program, owner in programs.items():
        site.own(program, owner=owner)
    for user, entries in roles.items():
        site.mongo.insert("userExtension", extension(user, *copy.deepcopy(entries)))
    values = []
    for program, (giver, taker), wanted in moves:
        asset = ... if program is None else {"objectType": "program", "identifier": str(program)}
        values.append(event(asset, giver, taker, wanted))
        if program is None:
            plain.everything(giver, taker, wanted)
        else:
            plain.one(program, giver, taker, wanted)
    # killed within one transfer: what came before in a batch is handled again, which may take another way (§12)
    size = 1 if die_at else size
    death = Death(die_at).among(site.mongo)
    for start in range(0, len(values), size):
        batch = [payload(value) for value in values[start : start + size]]
        try:
            step_on(site).handle(batch)
        except Died:
            death.is_over()
            step_on(site).handle(batch)
    assert site.owners() == plain.programs
    found = {each["userId"]: each.get(ROLES) for each in site.mongo.documents("userExtension")}
    assert found == {user: entries for user, entries in plain.roles.items() if user in found or entries is not None}
