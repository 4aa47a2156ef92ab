"""The acceptance cases of ml-user-delete §9, what else its spec says, and a worker that dies at any update."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st

from pipelines import ml_user_delete as job
from pipelines.configuration import load
from pipelines.settings import SettingsError
from schemas.event_schemas import validator
from schemas.mongo import OWNERS
from tests.pipelines.certificate_site import Death, Died
from tests.pipelines.ml_site import MlSite
from transforms.decode import id_at
from transforms.ml_documents import removed_user
from transforms.remove_ml_users import RemoveMlUsers
from transforms.stores import Refused, StoreUnavailable

USER, OTHER = "learner-1", "learner-2"
COLLECTIONS = [name for name in OWNERS if name not in ("programs", "userExtension")]
DELETED = "Deleted User"
# spec §3, part A
PERSONAL = (
    *("lastName", "dob", "email", "maskedEmail", "recoveryEmail", "prevUsedEmail", "encEmail"),
    *("phone", "maskedPhone", "recoveryPhone", "prevUsedPhone", "encPhone"),
)
# what the job must leave nothing of
SECRET = "told-by-learner-1"
STAYS = {"userName": "learner1", "profileUserTypes": [{"type": "teacher"}], "userLocations": [{"code": "29"}]}


def event(user_id: Any = USER, action: str = "delete-user") -> dict[str, Any]:
    """The sample of spec §2."""
    return {
        "eid": "BE_JOB_REQUEST",
        "ets": 1719196680963,
        "mid": "LP.1719196680963.0e6ac196-e57d-40bb-ab39-f5ec479da3e6",
        "actor": {"id": "Sunbird LMS Flink Job", "type": "System"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
        "object": {"type": "User", "id": user_id},
        "edata": {
            "action": action,
            "iteration": 1,
            "userId": user_id,
            "userName": f"{SECRET}-user-name",
            "organisationId": "01309282781705830427",
            "suggested_users": [],
            "managed_users": [],
        },
    }


def profile(of: str = SECRET) -> dict[str, Any]:
    personal = {field: f"{of}-{field}" for field in ("firstName", *PERSONAL)}
    return {"id": "stays", **personal, **STAYS, "rootOrg": {"email": "office@example.org"}}


def cleaned() -> dict[str, Any]:
    return {"id": "stays", "firstName": DELETED, **STAYS, "rootOrg": {"email": "office@example.org"}}


def document(collection: str, user: str = USER, of: str = SECRET) -> dict[str, Any]:
    body: dict[str, Any] = {OWNERS[collection]: user, "status": "active", "name": "Observation 1"}
    if collection == "solutions":
        license_ = {"author": f"{of}-author", "creator": f"{of}-creator", "type": "CC BY"}
        return {**body, "creator": f"{of}-creator", "license": license_}
    body["userProfile"] = profile(of)
    if collection == "observationSubmissions":
        body["observationInformation"] = {"title": "kept", "userProfile": profile(of)}
    return body


def without_person(collection: str, user: str = USER) -> dict[str, Any]:
    body = document(collection, user)
    if collection == "solutions":
        names = {"author": DELETED, "creator": DELETED}
        return {**body, "creator": DELETED, "license": {**body["license"], **names}}
    body["userProfile"] = cleaned()
    if collection == "observationSubmissions":
        body["observationInformation"]["userProfile"] = cleaned()
    return body


@pytest.fixture
def site() -> MlSite:
    return MlSite()


def fill(site: MlSite, *users: str) -> None:
    for collection in COLLECTIONS:
        site.mongo.insert(collection, *({"_id": user, **document(collection, user)} for user in users))


def find(site: MlSite, collection: str, id_: str = USER) -> dict[str, Any]:
    [found] = [dict(each) for each in site.mongo.documents(collection) if each["_id"] == id_]
    del found["_id"]
    return found


def counted(success: int = 0, skipped: int = 0, hits: int = 0) -> dict[str, int]:
    counts = {
        "total-transfer-events-count": success + skipped,
        "success-message-count": success,
        "skipped-message-count": skipped,
        "user-deletion-cleanup-hit": hits,
    }
    return {name: times for name, times in counts.items() if times}


def test_case_1_all_collections(site: MlSite) -> None:
    """§9 case 1"""
    validator("ml-user-delete").validate(event())
    fill(site, USER, OTHER)
    site.run(job, event())
    for collection in COLLECTIONS:
        assert find(site, collection) == without_person(collection)
        assert find(site, collection, OTHER) == document(collection, OTHER)
    assert site.counts == counted(success=1, hits=8)


def test_case_2_two_observations(site: MlSite) -> None:
    """§9 case 2"""
    for id_ in ("a", "b"):
        site.mongo.insert("observations", {"_id": id_, **document("observations")})
    site.run(job, event())
    assert [find(site, "observations", id_) for id_ in ("a", "b")] == [without_person("observations")] * 2
    assert site.counts == counted(success=1, hits=1)


def test_case_3_the_owner_counts_and_not_who_made_it(site: MlSite) -> None:
    """§9 case 3"""
    body = {**document("projects", OTHER), "createdBy": USER}
    site.mongo.insert("projects", {"_id": "a", **body})
    site.run(job, event())
    assert find(site, "projects", "a") == body


SKIPPED: list[Any] = [
    event(""),
    event("  "),
    event(7),
    event(None),
    event(["learner-1"]),
    {"eid": "BE_JOB_REQUEST", "edata": {"action": "delete-user"}},
    {"edata": USER},
    b'{"eid":',
    b"",
    None,
    b"[1,2]",
]


def test_case_4_without_a_user_nothing_changes(site: MlSite) -> None:
    """§9 case 4, core §15 case 2"""
    assert not any(validator("ml-user-delete").is_valid(value) for value in SKIPPED if isinstance(value, dict))
    for number, owner in enumerate(("", "  ", None, 7, USER)):
        site.mongo.insert("observations", {"_id": number, **document("observations"), "createdBy": owner})
    before = copy.deepcopy(site.everything())
    site.run(job, *SKIPPED)
    assert site.everything() == before
    assert site.counts == counted(skipped=len(SKIPPED))


def test_case_5_a_profile_of_odd_shape(site: MlSite) -> None:
    """§9 case 5, §8.1"""
    odd = [None, [profile()], "text", 5, []]
    for number, value in enumerate(odd):
        site.mongo.insert("observations", {"_id": number, **document("observations"), "userProfile": value})
    site.mongo.insert("observations", {"_id": USER, **document("observations")})
    site.run(job, event())
    assert [find(site, "observations", number)["userProfile"] for number in range(len(odd))] == odd
    assert find(site, "observations") == without_person("observations")
    assert site.counts == counted(success=1, hits=1)


def test_case_6_a_license_that_is_text(site: MlSite) -> None:
    """§9 case 6"""
    site.mongo.insert("solutions", {"_id": USER, **document("solutions"), "license": "CC BY 4.0"})
    site.mongo.insert("solutions", {"_id": "none", "author": USER})
    site.run(job, event())
    assert find(site, "solutions") == {**without_person("solutions"), "license": "CC BY 4.0"}
    names = {"author": DELETED, "creator": DELETED}
    assert find(site, "solutions", "none") == {"author": USER, "creator": DELETED, "license": names}


def test_case_7_without_a_profile(site: MlSite) -> None:
    """§9 case 7"""
    site.mongo.insert("surveySubmissions", {"_id": USER, "createdBy": USER})
    site.mongo.insert("observationSubmissions", {"_id": USER, "createdBy": USER})
    site.run(job, event())
    first = {"firstName": DELETED}
    assert find(site, "surveySubmissions") == {"createdBy": USER, "userProfile": first}
    assert find(site, "observationSubmissions") == {
        "createdBy": USER,
        "userProfile": first,
        "observationInformation": {"userProfile": first},
    }


def test_case_8_the_same_event_twice(site: MlSite) -> None:
    """§9 case 8"""
    fill(site, USER)
    site.run(job, event(), event())
    assert all(find(site, collection) == without_person(collection) for collection in COLLECTIONS)
    assert site.counts == counted(success=2, hits=16)


def test_case_9_a_user_without_documents(site: MlSite) -> None:
    """§9 case 9"""
    site.run(job, event())
    assert site.everything() == {}
    assert site.counts == counted(success=1)


# --- §3, §5, §6, §8


@pytest.mark.parametrize(
    ("part", "value", "profile_changes", "inner_changes"),
    [
        ("observationInformation", None, True, False),
        ("observationInformation", [{"userProfile": {}}], True, False),
        ("observationInformation", {"userProfile": None}, True, False),
        ("observationInformation", {"userProfile": [{}]}, True, False),
        ("observationInformation", {"title": "kept"}, True, True),
        ("userProfile", None, False, True),
    ],
)
def test_each_part_is_guarded_by_itself(
    site: MlSite, part: str, value: Any, profile_changes: bool, inner_changes: bool
) -> None:
    """§3 guards"""
    body = {**document("observationSubmissions"), part: value}
    site.mongo.insert("observationSubmissions", {"_id": USER, **copy.deepcopy(body)})
    site.run(job, event())
    found = find(site, "observationSubmissions")
    assert (found["userProfile"] != body["userProfile"]) == profile_changes
    assert (found["observationInformation"] != body["observationInformation"]) == inner_changes
    if inner_changes:
        assert found["observationInformation"]["userProfile"]["firstName"] == DELETED


def test_the_updates_in_order() -> None:
    """§3"""
    order = ["observations", "surveySubmissions", *["observationSubmissions"] * 2]
    order += ["projects", "programUsers", "solutions", "solutions"]
    assert [update.collection for update in removed_user(USER)] == order
    assert all(USER in update.where.values() for update in removed_user(USER))


def test_the_action_is_not_looked_at_and_the_user_may_have_any_name(site: MlSite) -> None:
    """§8.3"""
    name = "Ä ' {} $x \u0000"
    site.mongo.insert("projects", {"_id": USER, **document("projects", name)})
    site.run(job, event(name, "anything"))
    assert find(site, "projects") == {**without_person("projects", name)}


def test_managed_users_stay(site: MlSite) -> None:
    """§8.4"""
    fill(site, OTHER)
    value = event()
    value["edata"]["managed_users"] = [{"id": OTHER, "userId": OTHER}]
    site.run(job, value)
    assert all(find(site, collection, OTHER) == document(collection, OTHER) for collection in COLLECTIONS)


def test_more_fields_by_configuration(site: MlSite) -> None:
    """§8.5"""
    fill(site, USER)
    site.run(job, event(), **{"ml.user.delete.extra_fields": ["userName", "userLocations", "email"]})
    left = {name: value for name, value in cleaned().items() if name not in ("userName", "userLocations")}
    found = find(site, "observationSubmissions")
    assert (found["userProfile"], found["observationInformation"]["userProfile"]) == (left, left)


@pytest.mark.parametrize("name", ["", "$x", "a.b", "firstName", "a\0"])
def test_what_is_no_name_of_a_member_is_told(name: str) -> None:
    with pytest.raises(SettingsError, match=r"ml\.user\.delete\.extra_fields .*names of members of userProfile"):
        load(job.Settings, [], [f"ml.user.delete.extra_fields={orjson.dumps([name]).decode()}"], {})


def test_settings_and_their_aliases(tmp_path: Any) -> None:
    """§5"""
    file = tmp_path / "ml-user-delete.conf"
    file.write_text(
        'job.env = "sb"\n'
        'kafka { input.topic = ${job.env}".delete.user", groupId = ${job.env}"-ml-user-delete-group" }\n'
        "ml-mongo { host = 10.0.0.1, port = 27018, database = ml-survey }\ntask.ml.user.delete.parallelism = 1\n"
    )
    loaded = load(job.Settings, [file], [], {})
    assert (loaded.unknown, loaded.warnings, loaded.beam_options) == ([], [], {"parallelism": 1})
    settings = loaded.settings
    assert (settings.kafka_input_topic, settings.kafka_group_id) == ("sb.delete.user", "sb-ml-user-delete-group")
    recipe = job.stores(settings).collections
    assert (recipe.addresses, recipe.database, recipe.at_once) == (["10.0.0.1:27018"], "ml-survey", 16)
    defaults = job.Settings()
    assert (defaults.ml_mongo_host, defaults.ml_mongo_port, defaults.ml_mongo_database) == (
        "localhost",
        27017,
        "ml-service",
    )
    with pytest.raises(SettingsError, match=r"ml-mongo.host"):
        job.stores(job.Settings(ml_mongo_host="mongodb://mongo"))


def test_a_collection_that_refuses_does_not_keep_the_others(site: MlSite, caplog: pytest.LogCaptureFixture) -> None:
    """§6"""
    fill(site, USER)
    operate = site.mongo._operate

    def refusing(name: str, subject: Any) -> None:
        if subject[0] in ("surveySubmissions", "solutions"):
            raise Refused("a reason of the server")
        operate(name, subject)

    site.mongo._operate = refusing  # type: ignore[method-assign]
    site.run(job, event())
    for collection in COLLECTIONS:
        unchanged = collection in ("surveySubmissions", "solutions")
        assert find(site, collection) == (document(collection) if unchanged else without_person(collection))
    assert site.counts == counted(success=1, hits=5)
    assert "documents of surveySubmissions are left as they are: a reason of the server" in caplog.text
    assert "3 of its updates were refused" in caplog.text


def test_a_store_that_stays_away_fails_the_bundle(site: MlSite) -> None:
    """§6"""
    fill(site, USER)
    site.mongo.unavailable = True
    with pytest.raises(Exception, match="stays away"):
        site.run(job, event())
    site.mongo.unavailable = False
    site.run(job, event())
    assert all(find(site, collection) == without_person(collection) for collection in COLLECTIONS)


@pytest.mark.parametrize("level", [logging.INFO])
def test_no_trace_of_the_person_is_left(site: MlSite, caplog: pytest.LogCaptureFixture, level: int) -> None:
    """§8.5, §8.6: but for the user's id and what the spec says stays, and neither in the log"""
    caplog.set_level(level)
    fill(site, USER)
    site.mongo.insert("observations", {"_id": "odd", "createdBy": USER, "userProfile": None})
    site.run(job, event(), event(""), b'{"edata": {"userName": "told-by-learner-1', event(7))
    assert SECRET not in repr(site.everything())
    assert SECRET not in caplog.text
    assert caplog.records


# --- a worker that dies, any batches


def step_on(site: MlSite, size: int = 500) -> RemoveMlUsers:
    step = RemoveMlUsers(job.NAME, site.stores, size=size, extra_fields=[])
    step.setup()
    return step


def payload(value: dict[str, Any]) -> bytes:
    return orjson.dumps(["events:0:0:0", id_at(value, "edata.userId")])


@pytest.mark.parametrize("at", range(1, 9))
def test_killed_before_any_update_and_handled_again(site: MlSite, at: int) -> None:
    """§6"""
    fill(site, USER, OTHER)
    death = Death(at).among(site.mongo)
    with pytest.raises(Died):
        step_on(site).handle([payload(event())])
    death.is_over()
    changed = [update[0] for update in site.updates()]
    assert changed == [update.collection for update in removed_user(USER)][: at - 1]
    step_on(site).handle([payload(event())])
    for collection in COLLECTIONS:
        assert find(site, collection) == without_person(collection)
        assert find(site, collection, OTHER) == document(collection, OTHER)


@pytest.mark.parametrize("failing", range(8))
def test_away_in_the_middle_and_handled_again(site: MlSite, failing: int) -> None:
    fill(site, USER)
    left = iter([False] * failing + [True])
    operate = site.mongo._operate

    def away(name: str, subject: Any) -> None:
        if next(left, False):
            raise StoreUnavailable("away")
        operate(name, subject)

    site.mongo._operate = away  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        step_on(site).handle([payload(event())])
    step_on(site).handle([payload(event())])
    assert all(find(site, collection) == without_person(collection) for collection in COLLECTIONS)


values = st.one_of(
    st.just(...),
    st.none(),
    st.just([]),
    st.just("text"),
    st.just({}),
    st.fixed_dictionaries({"lastName": st.just("x")}),
)


def reference(collection: str, body: dict[str, Any]) -> dict[str, Any]:
    """What becomes of a document, part by part. spec §3"""
    # one by one: two members may be the same object
    body = {name: copy.deepcopy(value) for name, value in body.items()}

    def clean(parent: dict[str, Any], name: str, fields: dict[str, Any], gone: tuple[str, ...]) -> None:
        if isinstance(parent.get(name, {}), dict):
            kept = {field: value for field, value in parent.get(name, {}).items() if field not in gone}
            parent[name] = {**kept, **fields}

    if collection == "solutions":
        body["creator"] = DELETED
        clean(body, "license", {"author": DELETED, "creator": DELETED}, ())
        return body
    clean(body, "userProfile", {"firstName": DELETED}, PERSONAL)
    if collection == "observationSubmissions" and isinstance(body.get("observationInformation", {}), dict):
        body.setdefault("observationInformation", {})
        inner = body["observationInformation"]
        clean(inner, "userProfile", {"firstName": DELETED}, PERSONAL)
    return body


def some_documents() -> Iterator[Any]:
    yield st.fixed_dictionaries(
        {
            "collection": st.sampled_from(COLLECTIONS),
            "user": st.sampled_from([USER, OTHER, "learner-3"]),
            "userProfile": values,
            "license": values,
            "observationInformation": values
            | st.fixed_dictionaries({"userProfile": values.filter(lambda v: v != ...)}),
        }
    )


@options(max_examples=60, deadline=None)
@given(
    st.lists(next(some_documents()), max_size=8),
    st.lists(st.sampled_from([USER, OTHER]), min_size=1, max_size=4),
    st.integers(1, 4),
)
def test_any_documents_in_any_batches_like_a_plain_reference(documents: Any, users: list[str], size: int) -> None:
    site = MlSite()
    expected = {}
    for number, described in enumerate(documents):
        collection, user = described["collection"], described["user"]
        parts = ("userProfile", "license", "observationInformation")
        body = {name: described[name] for name in parts if described[name] is not ...}
        body[OWNERS[collection]] = user
        site.mongo.insert(collection, {"_id": number, **copy.deepcopy(body)})
        expected[collection, number] = reference(collection, body) if user in users else body
    step = step_on(site)
    events = [payload(event(user)) for user in users]
    for start in range(0, len(events), size):
        step.handle(events[start : start + size])
    assert {
        (collection, found["_id"]): {name: value for name, value in found.items() if name != "_id"}
        for collection, listed in site.everything().items()
        for found in listed
    } == expected
