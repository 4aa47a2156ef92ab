"""The acceptance cases of auto-creator-v2 §9, its failures of §6, and a worker that dies at any step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import orjson
import pytest

from io_connectors.content_services import ContentWritingService, JsonDocuments
from io_connectors.downloads import WebFiles
from pipelines import auto_creator_v2 as job
from schemas.event_schemas import validator
from tests.pipelines.certificate_site import Death, Died
from tests.pipelines.content_site import SERVICES, ContentSite
from tests.pipelines.object_source import COLLECTION, DIRECT, IN_SECTION, SCHEMAS, SET, UNIT, Source
from transforms.import_objects import ImportObjects, ObjectStores

FAILED = "dev.auto.creation.job.request.failed"
SETS, QUESTIONS = "dev_hierarchy_store.questionset_hierarchy", "dev_question_store.question_data"
OWN = "https://memory.example.org/contents"


class Site(ContentSite):
    """With the source of a question set with a section, and a collection."""

    def __init__(self) -> None:
        super().__init__()
        self.source = Source(SERVICES)
        self.there.schemas.update(SCHEMAS)
        self.there.collections[COLLECTION] = {UNIT: []}
        self.settings: dict[str, Any] = {
            "job.env": "dev",
            "service.content.basePath": SERVICES,
            "source.baseUrl": SERVICES,
            "schema.basePath": f"{SERVICES}/schemas",
            "cloud_storage_container": "contents",
        }

    def stores(self) -> ObjectStores:
        return ObjectStores(
            documents=JsonDocuments(self.http),
            web=WebFiles(5, self.http),
            hierarchies=ContentWritingService(SERVICES, "service.content.basePath", self.http),
            objects=self.store,
            directories=self.workspace,
            tables=self.cassandra,
            graph=self.graph,
            calls=self.calls,
        )

    def prepare(self) -> None:
        self.there.files.update(self.source.files)
        self.there.sources.update(self.source.reads)

    def handle(self, *values: Any, **options: Any) -> Site:
        self.prepare()
        self.run(job, job.Settings(**self.settings), self.stores(), *values, **options)
        for letter in self.failed:
            validator("dead-letter").validate(letter)
        return self

    def step(self) -> ImportObjects:
        """The step by itself, as a worker has it."""
        self.prepare()
        rules = job.rules(job.Settings(**self.settings))
        step = ImportObjects(job.NAME, self.stores(), rules, size=8, wait=lambda _: None, clock=lambda: 0)
        step.setup()
        return step

    @property
    def failed(self) -> list[dict[str, Any]]:
        return self.events(FAILED)

    @property
    def linked(self) -> list[str]:
        return self.there.collections[COLLECTION][UNIT]

    def rows(self, table: str) -> dict[str, dict[str, Any]]:
        return {row["identifier"]: row for row in self.tables.rows(table)}

    def hierarchy(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.rows(SETS)[SET]["hierarchy"])
        return found

    def answers(self, to: str, status: int, body: Any = b"{}") -> None:
        """Let the calls with this in their path be answered so."""
        serve = self.http.open().handler
        assert serve is not None
        text = body if isinstance(body, bytes | str) else orjson.dumps(body)
        self.http.serve(lambda *call: (status, text) if to in call[1] else serve(*call))

    def end_state(self) -> Any:
        return self.rows(SETS), self.rows(QUESTIONS), self.nodes.nodes(), self.objects.objects(), self.linked


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.end()


def test_the_events_are_those_of_the_schema(site: Site) -> None:
    for identifier in (SET, DIRECT):
        validator("object-import").validate(site.source.event(identifier))
    assert not validator("object-import").is_valid(site.source.event(objectType="Content"))


def own_variants(kind: str, identifier: str, size: int) -> dict[str, Any]:
    return {
        "full": {"ecarUrl": f"{OWN}/{kind}/{identifier}/{identifier}.ecar", "size": size},
        "spine": {"ecarUrl": f"{OWN}/{kind}/{identifier}/x_spine.ecar", "size": 0},
    }


# --- §9


def test_case_1_a_set_with_a_section(site: Site) -> None:
    site.handle(site.source.event())
    assert site.failed == []
    assert site.counts == {"total-events-count": 1, "success-events-count": 1}
    rows = site.rows(QUESTIONS)
    assert rows.keys() == {IN_SECTION, DIRECT}
    for row in rows.values():
        assert row["body"] == "<p>1 + 1 ✓</p>".encode()
        assert row["answer"] == b"<p>2</p>"
        assert row["editorstate"] == '{"question":"1 + 1"}'
    assert site.rows(SETS)[SET]["instructions"] == '{"default":"Read well"}'
    hierarchy = site.hierarchy()
    section, direct = hierarchy["children"]
    size = len(site.source.files[f"{SET}.ecar"])
    assert hierarchy["variants"] == own_variants("questionset", SET, size)
    assert hierarchy["downloadUrl"] == f"{OWN}/questionset/{SET}/{SET}.ecar"
    assert hierarchy["appIcon"] == f"{OWN}/questionset/{SET}/icon.png"
    (in_section,) = section["children"]
    for entry, identifier in ((in_section, IN_SECTION), (direct, DIRECT)):
        size = len(site.source.files[f"{identifier}.ecar"])
        assert entry == {
            "identifier": identifier,
            "objectType": "Question",
            "visibility": "Parent",
            "name": "entry",
            "downloadUrl": f"{OWN}/question/{identifier}/{identifier}.ecar",
            "variants": own_variants("question", identifier, size),
            "appIcon": f"{OWN}/question/{identifier}/icon.png",
            "index": 1,
        }
    assert {name: value for name, value in section.items() if name != "children"} == {
        "identifier": "do_section",
        "objectType": "QuestionSet",
        "visibility": "Parent",
        "name": "Section",
    }
    nodes = site.nodes.nodes()
    assert nodes.keys() == {SET, IN_SECTION, DIRECT}
    node = nodes[SET]
    read_url = f"{SERVICES}/questionset/v1/read/{SET}"
    assert node == {
        "IL_UNIQUE_ID": SET,
        "IL_FUNC_OBJECT_TYPE": "QuestionSet",
        "IL_SYS_NODE_TYPE": "DATA_NODE",
        "processId": "process-1",
        "name": "Algebra test",
        "author": "SCERT",
        "mimeType": "application/vnd.sunbird.questionset",
        "status": "Live",
        "pkgVersion": 1,
        "origin": SET,
        "originData": f'{{"identifier": "{SET}","repository":"{read_url}"}}',
        "appIcon": f"{OWN}/questionset/{SET}/icon.png",
        "downloadUrl": f"{OWN}/questionset/{SET}/{SET}.ecar",
        "variants": orjson.dumps(hierarchy["variants"]).decode(),
        "timeLimits": '{"maxTime":"60"}',
        "subject": ["Maths", "Science"],
    }
    assert not {"questionSet", "body", "answer", "editorState"} & nodes[DIRECT].keys()
    assert nodes[DIRECT]["lastPublishedBy"] == "learner-1", "an entry without a value takes none away (§8.5)"
    assert nodes[DIRECT]["choices"] == '[{"value":1},{"value":2}]'
    assert site.linked == [SET]
    assert site.asked("/hierarchy/add") == ["PATCH /content/v3/hierarchy/add"]
    assert site.waits == [5]
    assert site.objects.get(f"questionset/{SET}/icon.png") == b"icon"
    fields = "name,identifier,appIcon,body,status,subject,variants,timeLimits,editorState,answer,responseDeclaration"
    assert f"GET /question/v1/read/{DIRECT}?fields={fields}" in site.asked()


def test_case_2_a_set_of_its_own_inside_is_left_alone(site: Site) -> None:
    inside = {"identifier": "do_other", "objectType": "QuestionSet", "visibility": "Default"}
    inside["children"] = [site.source.entry(DIRECT)]  # type: ignore[assignment]
    site.source.hierarchy["children"] = [inside]
    site.source.pack()
    site.handle(site.source.event())
    assert site.hierarchy()["children"] == [inside]
    assert site.rows(QUESTIONS) == {}
    assert site.asked("/question/") == []


def test_case_3_accepted_contributions(site: Site) -> None:
    site.source.set_metadata["acceptedContributions"] = [DIRECT]
    site.handle(site.source.event())
    assert site.rows(QUESTIONS).keys() == {DIRECT}
    assert site.nodes.nodes().keys() == {SET, DIRECT}
    section, direct = site.hierarchy()["children"]
    assert section["children"] == [site.source.entry(IN_SECTION)]
    assert direct["downloadUrl"].startswith(OWN)


def test_case_4_a_question_by_itself(site: Site) -> None:
    variants = site.source.variants(DIRECT)
    site.source.add_question(DIRECT, downloadUrl=site.source.url(f"{DIRECT}.ecar"), variants=variants)
    site.handle(site.source.event(DIRECT))
    assert site.failed == []
    node = site.nodes.nodes()[DIRECT]
    size = len(site.source.files[f"{DIRECT}.ecar"])
    assert orjson.loads(node["variants"]) == own_variants("question", DIRECT, size)
    assert site.rows(QUESTIONS).keys() == {DIRECT}
    assert site.rows(SETS) == {}
    # §8.7: the package, and each of its files once
    assert site.web.count(f"/files/{DIRECT}.ecar") == 2


def test_case_5_the_source_has_the_last_word(site: Site) -> None:
    site.source.add_question(DIRECT, name="B", downloadUrl="")
    site.handle(site.source.event(DIRECT))
    node = site.nodes.nodes()[DIRECT]
    assert (node["name"], node["only"], node["downloadUrl"]) == ("B", "in the manifest", "")
    assert node["variants"] == "{}"


def test_case_6_addresses_with_a_prefix(site: Site) -> None:
    site.settings |= {
        "cloudstorage.metadata.replace_absolute_path": True,
        "cloudstorage.write_base_path": ["https://other.example.org", "https://memory.example.org"],
    }
    site.handle(site.source.event())
    own = f"CONTENT_STORAGE_BASE_PATH/questionset/{SET}"
    assert site.nodes.nodes()[SET]["appIcon"] == f"{own}/icon.png"
    assert site.hierarchy()["appIcon"] == f"{own}/icon.png"
    assert site.hierarchy()["variants"]["full"]["ecarUrl"] == f"{own}/{SET}.ecar"
    assert "memory.example.org" not in str(site.nodes.nodes()) + str(site.rows(SETS))


def test_case_7_lists_and_objects(site: Site) -> None:
    changed = {"subject": ["b", "a", "b"], "scores": [1, 2.5, 1], "mixed": ["a", 1], "flags": [True, True], "none": []}
    site.source.set_metadata |= {**changed, "huge": {"a": {"b": 1}}, "gone": None}
    site.nodes.merge_node(SET, {"gone": 1, "stays": 2})
    site.handle(site.source.event())
    node = site.nodes.nodes()[SET]
    assert node["subject"] == ["b", "a"]
    assert node["scores"] == [1.0, 2.5]
    assert node["mixed"] == '["a",1]'
    assert node["flags"] == [True]
    assert node["none"] == []
    assert node["huge"] == '{"a":{"b":1}}'
    assert node["timeLimits"] == '{"maxTime":"60"}'
    assert "gone" not in node
    assert node["stays"] == 2


def test_case_8_a_source_that_is_gone(site: Site) -> None:
    site.answers(f"/questionset/v1/read/{SET}", 404)
    site.source.add_question(DIRECT, downloadUrl="")
    site.handle(site.source.event(), site.source.event(DIRECT))
    (letter,) = site.failed
    assert letter["failInfo"]["error"].startswith(f"The source of {SET} can not be read")
    assert site.nodes.nodes().keys() == {DIRECT}
    assert site.rows(SETS) == {}
    assert site.counts == {"total-events-count": 2, "failed-events-count": 1, "success-events-count": 1}


def test_case_9_what_is_not_for_this_job(site: Site) -> None:
    source = site.source
    site.handle(
        source.event(metadata={"downloadUrl": "http://services/files/do_set.zip"}),
        source.event(objectType="Content"),
        source.event(metadata={"identifier": " "}),
        source.event(repository=None),
        source.event(action="x"),
        b"[]",
    )
    assert site.counts == {"total-events-count": 6, "skipped-events-count": 5, "failed-events-count": 1}
    assert site.web.calls == []
    assert [letter["rawEvent"] for letter in site.failed] == ["[]"]


def test_case_10_variants_as_text(site: Site) -> None:
    text = orjson.dumps({"full": site.source.url(f"{DIRECT}.ecar"), "online": ""}).decode()
    site.source.hierarchy["children"] = [site.source.entry(DIRECT, variants=text)]
    site.source.pack()
    site.handle(site.source.event())
    size = len(site.source.files[f"{DIRECT}.ecar"])
    expected = {"full": own_variants("question", DIRECT, size)["full"]}
    assert orjson.loads(site.nodes.nodes()[DIRECT]["variants"]) == expected
    assert site.hierarchy()["children"][0]["variants"] == expected


def test_case_11_a_place_that_is_refused(site: Site) -> None:
    site.answers("/hierarchy/add", 400)
    event = site.source.event()
    site.handle(event)
    assert site.counts == {"total-events-count": 1, "success-events-count": 1, "failed-events-count": 1}
    (letter,) = site.failed
    assert letter.pop("failInfo")["error"].startswith(f"Hierarchy Update Failed For : {COLLECTION}.")
    assert letter.pop("jobName") == "auto-creator-v2"
    assert letter == event
    assert site.nodes.nodes().keys() == {SET, IN_SECTION, DIRECT}


def test_case_13_the_same_event_twice(site: Site) -> None:
    once = Site()
    once.handle(once.source.event())
    site.handle(site.source.event(), site.source.event())
    assert site.end_state() == once.end_state()
    assert site.counts["success-events-count"] == 2
    once.end()


# --- §6, §8


@pytest.mark.parametrize(
    ("to", "status", "says"),
    [
        ("/schemas/questionset", 404, "The definition of QuestionSet can not be read"),
        ("/schemas/question/", 404, "The definition of Question can not be read"),
        (f"/files/{SET}.ecar", 404, f"Invalid fileUrl received : {SERVICES}/files/{SET}.ecar"),
        (f"/files/{DIRECT}.ecar", 403, f"Invalid fileUrl received : {SERVICES}/files/{DIRECT}.ecar"),
        (f"/question/v1/read/{DIRECT}", 500, f"The source of {DIRECT} can not be read"),
        ("/files/icon.png", 503, f"Invalid fileUrl received : {SERVICES}/files/icon.png"),
    ],
)
def test_failures_before_the_object_is_stored(site: Site, to: str, status: int, says: str) -> None:
    site.answers(to, status)
    site.handle(site.source.event())
    (letter,) = site.failed
    assert letter["failInfo"]["error"].startswith(says)
    assert SET not in site.nodes.nodes()
    assert site.linked == []
    assert site.counts == {"total-events-count": 1, "failed-events-count": 1}


@pytest.mark.parametrize("which", ["tables", "nodes", "objects", "web"])
def test_a_store_that_is_away_fails_the_event_alone(site: Site, which: str) -> None:
    if which == "web":
        site.web.refuse(99)
    else:
        getattr(site, which).unavailable = True
    site.handle(site.source.event(), b"{")
    assert site.counts == {"total-events-count": 2, "failed-events-count": 2}
    if which != "web":
        getattr(site, which).unavailable = False
    site.web.clear()
    site.handle(site.source.event())
    assert site.failed == []
    assert site.nodes.nodes().keys() == {SET, IN_SECTION, DIRECT}


def test_a_column_that_the_table_lacks(site: Site) -> None:
    """§4"""
    config = orjson.loads(orjson.dumps(SCHEMAS["questionset/1.0/config.json"]))
    config["external"]["properties"]["outcome"] = {"type": "string"}
    site.there.schemas["questionset/1.0/config.json"] = config
    site.source.set_metadata["outcome"] = "x"
    site.handle(site.source.event())
    assert site.failed[0]["failInfo"]["error"].startswith(f"{SET} can not be stored")
    assert SET not in site.nodes.nodes()


def test_definitions_are_remembered(site: Site) -> None:
    site.handle(*(site.source.event(collection=[]) for _ in range(3)))
    assert len(site.asked("/schemas/")) == 4


def test_a_newer_definition(site: Site) -> None:
    site.settings["schema.supportedVersion.question"] = "1.1"
    site.there.schemas |= {
        name.replace("1.0", "1.1"): document for name, document in SCHEMAS.items() if "question/" in name
    }
    site.handle(site.source.event())
    assert site.failed == []
    assert len(site.asked("/schemas/question/1.1/")) == 2


@pytest.mark.parametrize("name", ["../evil", "..", "a/../../evil", ""])
def test_files_whose_names_lead_elsewhere(site: Site, name: str) -> None:
    site.source.set_metadata["appIcon"] = f"{SERVICES}/files/{name}"
    site.handle(site.source.event())
    assert all(key.startswith(("question/", "questionset/")) and ".." not in key for key in site.objects.objects())


def test_the_id_of_a_child_is_one_part_of_the_path(site: Site) -> None:
    site.source.hierarchy["children"] = [{**site.source.entry(DIRECT), "identifier": "../../private?x=#"}]
    site.source.pack()
    site.handle(site.source.event())
    (asked,) = site.asked("/question/v1/read/")
    assert asked.startswith("GET /question/v1/read/..%2F..%2Fprivate%3Fx%3D%23?fields=")


def test_killed_between_any_two_steps(site: Site) -> None:
    payload = orjson.dumps(site.source.event())
    assert site.step().handle([payload]) == []
    died = 0
    for at in count(1):
        other = Site()
        step = other.step()
        death = Death(at).behind(other.http).among(other.objects, other.tables, other.nodes)
        try:
            assert step.handle([payload]) == []
        except Died:
            died += 1
            death.is_over()
            assert other.step().handle([payload]) == [], f"died at {at}"
        else:
            other.end()
            break
        assert other.end_state() == site.end_state(), f"died at {at}"
        other.end()
    assert died > 40
