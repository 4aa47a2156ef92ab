"""The acceptance cases of content-auto-creator §9, its failures of §6, and a worker that dies at any step."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from email import message_from_bytes
from itertools import count
from typing import Any

import orjson
import pytest

from io_connectors.content_services import ContentSearchService, ContentWritingService
from io_connectors.downloads import GoogleDrive, WebFiles
from pipelines import content_auto_creator as job
from schemas.event_schemas import validator
from tests.pipelines.certificate_site import Death, Died
from tests.pipelines.content_site import SERVICES, ContentSite
from transforms.create_contents import CreateContents, CreationStores

FAILED = "dev.auto.creation.job.request.failed"
ID = "do_2140000111122223333"
COLLECTION, UNIT = "do_2139999000000001", "do_2139999000000042"
ICON, ARTIFACT = f"{SERVICES}/files/icon.png", f"{SERVICES}/files/light.pdf"
OWN = f"https://memory.example.org/contents/content/{ID}/artifact"
METADATA = {
    "name": "Light and Shadow",
    "code": "4b5c",
    "mimeType": "application/pdf",
    "primaryCategory": "eTextbook",
    "contentType": "eTextBook",
    "framework": "ekstep_ncert_k-12",
    "processId": "be4d7bf6-364c-42e7-bc0d-adea66117458",
    "artifactUrl": ARTIFACT,
    "appIcon": ICON,
    "lastPublishedBy": "learner-1",
    "pkgVersion": 1,
    "status": "Live",
    "channel": "another",
    "subject": ["Science"],
}


def event(metadata: dict[str, Any] | None = None, **edata: Any) -> dict[str, Any]:
    """An approval; members that are None are left out."""
    whole = {**METADATA, **(metadata or {})}
    body: dict[str, Any] = {
        "action": "auto-create",
        "iteration": 1,
        "objectType": "Content",
        "stage": "",
        "repository": f"https://dock.example.org/api/content/v1/read/{ID}",
        "originData": {},
        "collection": [{"identifier": COLLECTION, "unitId": UNIT}],
        "metadata": {name: value for name, value in whole.items() if value is not None},
        **edata,
    }
    return {
        "eid": "BE_JOB_REQUEST",
        "ets": 1718000000123,
        "mid": "LP.1718000000123.6d0d3a1e",
        "context": {"channel": "0134567890123456"},
        "object": {"id": ID, "ver": "1717990000000"},
        "edata": {name: value for name, value in body.items() if value is not None},
    }


def bulk(metadata: dict[str, Any] | None = None, **edata: Any) -> dict[str, Any]:
    """A row of a bulk upload: no source."""
    return event(metadata, repository=None, identifier=ID, **edata)


class Site(ContentSite):
    """With the source's files, and a collection."""

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "job.env": "dev",
            "service.content_service.basePath": SERVICES,
            "service.search.basePath": SERVICES,
            "cloud_storage_container": "contents",
        }
        self.there.files |= {"icon.png": b"icon", "light.pdf": b"%PDF light"}
        self.there.collections[COLLECTION] = {UNIT: []}

    def stores(self) -> CreationStores:
        return CreationStores(
            contents=ContentWritingService(SERVICES, "service.content_service.basePath", self.http),
            search=ContentSearchService(SERVICES, self.http),
            graph=self.graph,
            web=WebFiles(5, self.http),
            drive=GoogleDrive(SERVICES, "drive-download", None, 5, self.http),
            objects=self.store,
            directories=self.workspace,
            calls=self.calls,
        )

    def handle(self, *values: Any, **options: Any) -> Site:
        self.run(job, job.Settings(**self.settings), self.stores(), *values, **options)
        for letter in self.failed:
            validator("dead-letter").validate(letter)
        return self

    def step(self) -> CreateContents:
        """The step by itself, as a worker has it."""
        settings = job.Settings(**self.settings)
        step = CreateContents(job.NAME, self.stores(), job.rules(settings), size=8, wait=lambda _: None)
        step.setup()
        return step

    @property
    def failed(self) -> list[dict[str, Any]]:
        return self.events(FAILED)

    @property
    def content(self) -> dict[str, Any]:
        (content,) = self.there.objects.values()
        return content

    @property
    def linked(self) -> list[str]:
        return self.there.collections[COLLECTION][UNIT]

    def has(self, **members: Any) -> None:
        """A content of the source that is here already."""
        source = {"identifier": ID, "repository": "https://dock.example.org"}
        self.there.objects["do_here"] = {
            "identifier": "do_here",
            "origin": ID,
            "originData": source,
            "versionKey": "v",
            "status": "Draft",
            **members,
        }

    def steps(self) -> list[str]:
        """The calls by their names: ``create``, ``system/update``, ``hierarchy/add`` …"""
        return [step(call) for call in self.asked()]

    def answers(self, to: str, status: int, body: Any = b"{}") -> None:
        """Let the calls with this in their path be answered so."""
        serve = self.http.open().handler
        assert serve is not None
        text = body if isinstance(body, bytes | str) else orjson.dumps(body)
        self.http.serve(lambda *call: (status, text) if to in call[1] else serve(*call))


def step(call: str) -> str:
    path = call.split(" ")[1].partition("?")[0].split("/")[1:]
    if path[:2] == ["content", "v3"]:
        return "hierarchy/add" if path[3] == "add" else "hierarchy"
    if path[:2] == ["content", "v4"]:
        return "system/update" if path[2] == "system" else path[2]
    return {"v3": "search", "drive": "drive"}[path[0]]


ALL = ["search", "create", "read", "update", "upload", "review", "publish", "hierarchy", "hierarchy/add"]


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.end()


def test_the_events_are_those_of_the_schema() -> None:
    for sent in (event(), bulk(), event({"pkgVersion": 2.0}, stage="review", iteration=1.0)):
        validator("content-import").validate(sent)
    assert not validator("content-import").is_valid(event(action="auto-delete"))


# --- §9


def test_case_1_a_new_content_all_the_way(site: Site) -> None:
    site.handle(event())
    assert site.steps() == ALL
    search = site.body("/v3/search")["request"]
    assert search["filters"] == {"objectType": "Content", "status": [], "origin": ID}
    assert search["exists"] == ["originData"]
    created = site.body("/create")["request"]["content"]
    assert created == {
        **{name: METADATA[name] for name in ("name", "code", "mimeType", "framework", "processId", "primaryCategory")},
        "identifier": ID,
        "origin": ID,
        "originData": {"identifier": ID, "repository": f"https://dock.example.org/api/content/v1/read/{ID}"},
    }
    updated = site.body("/content/v4/update")["request"]["content"]
    version = updated.pop("versionKey")
    assert version
    assert updated == {"artifactUrl": ARTIFACT, "appIcon": f"{OWN}/icon.png", "subject": ["Science"]}
    (upload,) = [call for call in site.web.calls if "/upload/" in call.path]
    assert upload.path.endswith(f"/{ID}?validation=false")
    assert upload.headers["X-Channel-Id"] == "0134567890123456"
    form = message_from_bytes(f"Content-Type: {upload.headers['Content-Type']}\r\n\r\n".encode() + upload.body)
    (part,) = form.get_payload()  # type: ignore[misc]
    assert part.get_param("name", header="content-disposition") == "fileUrl"
    assert part.get_filename() is None
    assert part.get_payload() == f"{OWN}/light.pdf"
    assert site.body("/review/") == {"request": {"content": {}}}
    assert site.body("/publish/") == {"request": {"content": {"lastPublishedBy": "learner-1"}}}
    assert site.body("/hierarchy/add") == {"request": {"rootId": COLLECTION, "unitId": UNIT, "children": [ID]}}
    assert site.counts == {"total-message-count": 1, "success-message-count": 1}
    assert site.objects.get(f"content/{ID}/artifact/light.pdf") == b"%PDF light"
    assert (site.content["status"], site.content["pkgVersion"], site.linked) == ("Live", 1, [ID])
    assert site.waits == [1, 1]
    assert site.failed == []
    channels = {call.headers.get("X-Channel-Id") for call in site.web.calls if "/content/v4/" in call.path}
    assert channels == {"0134567890123456"}
    assert not any("X-Channel-Id" in call.headers for call in site.web.calls if "/hierarchy" in call.path)


def test_case_2_a_bulk_row_of_stage_create(site: Site) -> None:
    site.handle(bulk(stage="create"))
    assert site.steps() == ["search", "create", "read", "update"]
    created = site.body("/create")["request"]["content"]
    assert created["identifier"] == ID
    assert not {"origin", "originData"} & created.keys()
    assert site.linked == []


def test_case_3_a_draft_without_file_up_to_review(site: Site) -> None:
    site.has()
    site.handle(event(stage="Review "))
    assert site.steps() == ["search", "read", "update", "upload", "review", "hierarchy", "hierarchy/add"]
    assert site.linked == ["do_here"]
    assert site.content["status"] == "Review"


@pytest.mark.parametrize("version", [2, 2.0, "2"])
def test_case_4_the_same_version_is_live_and_then_a_newer_one(site: Site, version: Any) -> None:
    site.has(status="Live", pkgVersion=version, artifactUrl="https://own/light.pdf")
    site.handle(event({"pkgVersion": 2.0}))
    assert site.steps() == ["search", "hierarchy", "hierarchy/add"]
    site.there.objects["do_here"]["pkgVersion"] = 2
    site.web.clear()
    site.handle(event({"pkgVersion": 3}))
    assert site.steps() == ["search", *ALL[2:]]


def test_case_5_a_content_that_came_from_here(site: Site) -> None:
    origin = {"identifier": "do_A"}
    site.nodes.merge_node(ID, {"name": "x"})
    site.handle(event(originData=origin))
    assert site.steps() == ["hierarchy", "hierarchy/add"]
    assert site.linked == ["do_A"]


def test_case_5_without_the_node_the_search_runs(site: Site) -> None:
    site.handle(event(originData={"identifier": "do_A"}))
    assert site.steps() == ALL


def test_case_6_a_content_that_the_search_does_not_know_yet(site: Site) -> None:
    site.handle(event(stage="create"))
    site.there.searchable = False
    site.web.clear()
    site.handle(event())
    assert site.steps() == ALL
    assert site.content["identifier"] == ID
    assert site.linked == [ID]


@pytest.mark.parametrize(
    ("iteration", "counter"), [(0, "error-message-count"), (1, "error-message-count"), (3, "failed-message-count")]
)
def test_case_7_a_review_that_is_refused(site: Site, iteration: int, counter: str) -> None:
    site.settings["content_auto_creator.maxIteration"] = 3
    site.answers("/review/", 500)
    sent = event(iteration=iteration)
    site.handle(sent)
    (letter,) = site.failed
    assert letter.pop("jobName") == "content-auto-creator"
    error = letter.pop("failInfo")["error"]
    assert error.startswith(f"Invalid Response received while sending content for review for :{ID}")
    assert " : : List(" in error
    expected = copy.deepcopy(sent)
    expected["edata"]["iteration"] = iteration + 1
    assert letter == expected
    assert site.counts == {"total-message-count": 1, counter: 1}
    failed = site.body("/system/update")["request"]["content"]
    assert failed["status"] == "Failed"
    assert failed["importError"].startswith("Invalid Response received while sending content for review")
    assert site.linked == []


def test_case_8_large_files(site: Site) -> None:
    site.settings["content_auto_creator.artifact_upload_max_size"] = 5
    site.handle(event())
    assert "upload" not in site.steps()
    assert site.content["status"] == "Failed"
    assert site.failed[0]["failInfo"]["error"].startswith(
        f"File Size is larger than allowed file size allowed in upload api for : {ID} | File Size (MB): "
    )


def test_case_8_large_videos(site: Site) -> None:
    site.settings["content_auto_creator.artifact_upload_max_size"] = 5
    site.handle(event({"mimeType": "video/mp4"}))
    assert site.content["status"] == "Live"


def test_no_file_is_larger_than_the_disk_may_take(site: Site) -> None:
    site.settings["content_auto_creator.download_max_size"] = 5
    site.handle(event({"mimeType": "video/mp4"}))
    assert site.content["status"] == "Failed"


def test_case_9_no_place_for_a_published_content(site: Site) -> None:
    del site.there.collections[COLLECTION]
    site.handle(event())
    assert "system/update" not in site.steps()
    assert site.content["status"] == "Live"
    (letter,) = site.failed
    assert letter["failInfo"]["error"].startswith(
        f"Unable to fetch collection hierarchy for : {COLLECTION} | Response Code : 404"
    )
    assert site.counts["failed-message-count"] == 1
    site.there.collections[COLLECTION] = {UNIT: []}
    site.settings["content_auto_creator.maxIteration"] = 2
    site.web.clear()
    site.handle(letter)
    assert site.steps() == ["search", "hierarchy", "hierarchy/add"]
    assert site.linked == [ID]


def test_case_10_what_is_not_for_this_job(site: Site) -> None:
    without_channel = event()
    del without_channel["context"]["channel"]
    site.handle(
        event(action="auto-delete"),
        without_channel,
        event(stage="retire"),
        event({"lastPublishedBy": None}),
        event(iteration=2),
        b'{"eid":',
        event(),
    )
    assert site.steps() == ALL
    assert site.counts == {
        "total-message-count": 7,
        "skipped-message-count": 5,
        "failed-message-count": 1,
        "success-message-count": 1,
    }
    (letter,) = site.failed
    assert letter["rawEvent"] == '{"eid":'


@pytest.mark.parametrize(
    ("name", "query"), [("quiz.h5p", ""), ("quiz.H5P", ""), ("quiz.zip", "&fileFormat=composed-h5p-zip")]
)
def test_case_11_h5p(site: Site, name: str, query: str) -> None:
    site.there.files[name] = b"PK"
    site.handle(
        event(
            {"mimeType": "application/vnd.ekstep.H5P-archive", "artifactUrl": f"{SERVICES}/files/{name}"},
            stage="upload",
        )
    )
    assert site.asked("/upload/") == [f"POST /content/v4/upload/{ID}?validation=false{query}"]
    assert site.waits == [6]


DRIVE = "https://drive.google.com/uc?export=download&id=file-1"


def test_case_12_drive_does_not_have_the_file(site: Site) -> None:
    site.handle(event({"artifactUrl": DRIVE, "appIcon": None}))
    assert site.waits == []
    assert site.content["status"] == "Failed"
    assert site.failed[0]["failInfo"]["error"].startswith(f"Invalid fileUrl received : {DRIVE}")


# --- §3.6, §8.6: Drive


def on_drive(site: Site, mime_type: str = "application/pdf", name: str = "Light & Shadow.PDF") -> None:
    site.there.drive["file-1"] = {"name": name, "mimeType": mime_type, "content": "light.pdf"}


def test_a_file_of_drive(site: Site) -> None:
    on_drive(site)
    site.handle(event({"artifactUrl": DRIVE}))
    assert site.objects.get(f"content/{ID}/artifact/light-shadow.pdf") == b"%PDF light"
    assert site.content["status"] == "Live"


def test_a_file_of_drive_of_another_type(site: Site) -> None:
    on_drive(site, "text/plain")
    site.handle(event({"artifactUrl": DRIVE}))
    assert site.failed[0]["failInfo"]["error"].startswith(
        "Invalid File Url! File MimeType Is Not Same As Object MimeType for File Id : file-1 "
        "| File MimeType is : text/plain | Node MimeType is : application/pdf"
    )


def test_drive_is_waited_for_and_other_contents_go_on(site: Site) -> None:
    on_drive(site)
    site.there.drive_limits = 2
    site.handle(event({"artifactUrl": DRIVE, "appIcon": None}))
    assert site.waits == [120, 240, 1, 1]
    assert site.content["status"] == "Live"


def test_drive_is_not_waited_for_without_end(site: Site) -> None:
    on_drive(site)
    site.there.drive_limits = 99
    site.settings["content_auto_creator.backoff_limit"] = 4_000_000
    site.handle(event({"artifactUrl": DRIVE, "appIcon": None}))
    assert site.waits == [120, 240, 480, 960]
    assert "(status 403)" in site.failed[0]["failInfo"]["error"]
    assert site.content["status"] == "Failed"


# --- §3.2, §8


def test_hits_that_do_not_fit_are_none(site: Site) -> None:
    """§8.5"""
    hits = [{"identifier": "a"}, {"identifier": "b", "originData": "no JSON"}, {"identifier": "c", "originData": "[]"}]
    hits += [{"identifier": "d", "originData": '{"identifier": "other", "repository": "r"}'}]
    hits += [{"identifier": "e", "originData": orjson.dumps({"identifier": ID}).decode()}]
    site.answers("/v3/search", 200, {"result": {"count": 5, "content": hits}})
    site.handle(event())
    assert site.steps() == ALL


@pytest.mark.parametrize(("stage", "steps"), [("create", []), ("upload", ["hierarchy", "hierarchy/add"])])
def test_a_repeated_event_goes_no_further_than_asked(site: Site, stage: str, steps: list[str]) -> None:
    """§8.4"""
    site.has(artifactUrl="https://own/light.pdf", uploaded=1)
    site.handle(event(stage=stage))
    assert site.steps() == ["search", *steps]


def test_a_content_without_icon_keeps_its_icon(site: Site) -> None:
    """§8.8"""
    site.handle(event({"appIcon": "  "}))
    assert "appIcon" not in site.body("/content/v4/update")["request"]["content"]


def test_an_icon_with_the_name_of_the_artifact(site: Site) -> None:
    """§8.10"""
    site.there.files |= {"पानी.pdf": b"artifact", "जल.pdf": b"icon"}
    icon, artifact = (f"{SERVICES}/files/{name}" for name in ("जल.pdf", "पानी.pdf"))
    site.handle(event({"appIcon": icon, "artifactUrl": artifact}))
    assert site.objects.get(f"content/{ID}/artifact/.pdf") == b"artifact"
    assert site.objects.get(f"content/{ID}/artifact/icon-.pdf") == b"icon"


def test_sources_that_are_not_allowed(site: Site) -> None:
    site.settings["content_auto_creator.artifact_upload_allowed_source"] = "drive.google.com, dock.example.org"
    site.handle(event())
    assert site.failed[0]["failInfo"]["error"].startswith(f"Artifact Source is not from allowed one for : {ID} | ")
    assert site.content["status"] == "Failed"


@pytest.mark.parametrize("url", ["", " ", "ftp://x/a.pdf", "http://services/files/", "http://services/files/..", "x"])
def test_addresses_without_a_file(site: Site, url: str) -> None:
    site.handle(event({"artifactUrl": url}))
    error = site.failed[0]["failInfo"]["error"]
    assert error.startswith(("Invalid fileUrl received : ", "Artifact Source is not available for content : "))
    assert site.content["status"] == "Failed"
    assert "upload" not in site.steps()


@pytest.mark.parametrize(
    ("to", "status", "body", "says"),
    [
        ("/v3/search", 500, {}, f"Invalid Response received while searching content for : {ID}"),
        ("/v3/search", 200, "no JSON", f"Invalid Response received while searching content for : {ID}"),
        ("/v4/create", 400, {}, f"Invalid Response received while creating content for :{ID}"),
        ("/v4/create", 200, {"result": {}}, f"Invalid Response received while creating content for :{ID}"),
        ("/v4/read", 404, {}, f"Invalid Response received while reading content for : {ID}"),
        ("/v4/read", 200, "no JSON", f"Invalid Response received while reading content for : {ID}"),
        (
            "/v4/read",
            200,
            {"result": {"content": {"identifier": ID}}},
            f"Invalid Response received while reading content for : {ID}",
        ),
        (
            "/v4/read",
            200,
            {"result": {"content": {"identifier": "do_1", "versionKey": "1"}}},
            f"Invalid Response received while reading content for : {ID}",
        ),
        ("/v4/update", 400, {}, f"Invalid Response received while updating content for :{ID}"),
        ("/v4/update", 200, "no JSON", f"Invalid Response received while updating content for :{ID}"),
        ("/v4/upload", 400, {}, f"Invalid Response received while uploading source file for content :{ID}"),
        ("/v4/publish", 400, {}, f"Invalid Response received while publishing content for :{ID}"),
        ("/v4/publish", 200, {"result": {"publishStatus": ""}}, f"Content Publish Call Failed For : {ID}"),
        ("/hierarchy/add", 400, {}, f"Hierarchy Update Failed For : {COLLECTION}. "),
        ("/hierarchy/add", 200, "no JSON", f"Hierarchy Update Failed For : {COLLECTION}. "),
        ("/files/light.pdf", 404, {}, f"Invalid fileUrl received : {ARTIFACT}"),
        ("/files/icon.png", 404, {}, f"Invalid fileUrl received : {ICON}"),
    ],
)
def test_the_messages_that_operators_search_for(site: Site, to: str, status: int, body: Any, says: str) -> None:
    """§6"""
    site.answers(to, status, body)
    site.handle(event(), event())
    assert [letter["failInfo"]["error"].startswith(says) for letter in site.failed] == [True, True]
    assert site.counts["failed-message-count"] == 2
    is_marked = any(call == "system/update" for call in site.steps())
    assert is_marked == (to not in ("/v3/search", "/v4/create", "/hierarchy/add"))


@pytest.mark.parametrize("to", ["/v3/search", "/content/v4/create", "/content/v4/review", "/files/", "/content/v3"])
def test_a_service_that_is_away_fails_the_event_alone(site: Site, to: str) -> None:
    """§8.7"""
    other = event()
    other["object"] = {"id": "do_2"}
    site.web.refuse(99, to)
    site.handle(event(), b"{", other)
    assert site.counts == {"total-message-count": 3, "failed-message-count": 3}
    assert len(site.failed) == 3


def test_a_graph_and_a_store_that_are_away_fail_the_event_alone(site: Site) -> None:
    site.objects.unavailable = True
    site.handle(event())
    assert site.failed[0]["failInfo"]["error"].startswith("Error while uploading the File.")
    site.nodes.unavailable = True
    site.handle(event(originData={"identifier": "do_A"}))
    assert site.failed[0]["failInfo"]["error"].startswith("Unable to read the graph for : ")


def test_marking_as_failed_hides_nothing(site: Site) -> None:
    """§8.13"""
    serve = site.http.open().handler
    assert serve is not None
    bad = ("/review/", "/system/")
    site.http.serve(lambda *call: (500, b"") if any(part in call[1] for part in bad) else serve(*call))
    site.handle(event())
    assert "content for review" in site.failed[0]["failInfo"]["error"]


def test_a_content_that_is_being_published_is_looked_at_again(site: Site) -> None:
    site.has(status="Processing", artifactUrl="https://own/a", uploaded=1)
    serve = site.http.open().handler
    assert serve is not None

    def after_some_looks(*call: Any) -> Any:
        if len(site.asked("/v3/search")) == 3:
            site.there.objects["do_here"] |= {"status": "Live", "pkgVersion": 1}
        return serve(*call)

    site.http.serve(after_some_looks)
    site.handle(event())
    assert site.steps() == ["search"] * 3 + ["hierarchy", "hierarchy/add"]
    assert site.waits == [1, 2]


def test_a_publish_that_takes_too_long_is_believed_to_be_an_older_one(site: Site) -> None:
    site.there.slow_publish = True
    site.handle(event())
    assert site.content["status"] == "Processing"
    site.waits.clear()
    site.web.clear()
    site.handle(event())
    assert site.waits[:5] == [1, 2, 4, 8, 16]
    assert site.steps()[:9] == ["search"] * 6 + ["read", "update", "upload"]


def test_no_message_holds_what_was_sent_or_answered(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.answers("/update/", 400, {"params": {"err": "learner-1 secret"}, "result": {"learner-1": "secret"}})
    site.handle(event())
    assert "secret" not in site.failed[0]["failInfo"]["error"]
    assert "secret" not in caplog.text
    assert "learner-1" not in caplog.text


def test_no_message_holds_what_opens_a_file(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.handle(event({"artifactUrl": "http://user:secret@services/files/none.pdf?sig=secret"}))
    error = site.failed[0]["failInfo"]["error"]
    assert error.startswith("Invalid fileUrl received : http://services/files/none.pdf?… | ")
    assert "secret" not in error
    assert "secret" not in caplog.text


# --- delivered again, and a worker that dies


def end_state(site: Site) -> Any:
    content = {name: value for name, value in site.content.items() if name not in ("versionKey", "uploaded")}
    return content, site.linked, site.objects.objects()


@pytest.mark.parametrize("make", [event, bulk])
@pytest.mark.parametrize(
    ("stage", "searchable"), [("", True), ("create", True), ("upload", True), ("review", True), ("", False)]
)
def test_killed_between_any_two_steps(make: Callable[..., Any], stage: str, searchable: bool) -> None:
    """No second content, and the end state of an undisturbed run."""
    payload = orjson.dumps(make(stage=stage))
    undisturbed = Site()
    assert undisturbed.step().handle([payload]) == []
    died = 0
    for at in count(1):
        site = Site()
        death = Death(at).behind(site.http).among(site.objects)
        try:
            assert site.step().handle([payload]) == []
            break
        except Died:
            died += 1
        death.is_over()
        site.there.searchable = searchable
        assert site.step().handle([payload]) == [], f"died at {at}"
        assert end_state(site) == end_state(undisturbed), f"died at {at}"
        site.end()
    site.end()
    undisturbed.end()
    # twice for each call, and for what is stored
    assert died > 2 * (4 if stage == "create" else 6)


def test_delivered_twice_and_side_by_side(site: Site) -> None:
    others = []
    for number in range(20):
        other = event()
        other["object"] = {"id": f"do_{number}"}
        others.append(other)
    site.handle(*others, *others)
    assert site.counts["success-message-count"] == 40
    assert len(site.there.objects) == 20
    assert Counter(call for call in site.steps() if call in ("create", "publish")) == {"create": 20, "publish": 20}
    assert len(site.linked) == 20


def test_contents_go_on_while_one_waits(site: Site) -> None:
    """A slow file holds up its own content only: all of a batch wait at the same time."""
    serve = site.http.open().handler
    assert serve is not None
    all_wait = threading.Barrier(8)

    def slow(*call: Any) -> Any:
        if "/files/" in call[1]:
            all_wait.wait(timeout=60)
        return serve(*call)

    site.http.serve(slow)
    others = [{**event({"appIcon": None}), "object": {"id": f"do_{number}"}} for number in range(8)]
    site.handle(*others)
    assert site.failed == []
    assert site.counts["success-message-count"] == 8


def test_a_batch_is_what_goes_on_side_by_side(site: Site) -> None:
    settings = job.Settings(**{"task.calls.at.once": 3, **site.settings})
    assert job.beam_options(settings) == {"max_bundle_size": 3, "checkpoint_timeout_millis": 4_200_000}
