"""The stand-ins of Sunbird's services: what only they answer, and how they are set, asked and made to fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from deploy.local.processes import Processes
from deploy.local.progress import silent
from deploy.local.service import Surroundings
from deploy.local.signatures import Keys, canonical
from deploy.local.stub_behaviour import CALLS_KEPT, LARGEST_BODY_KEPT, Reply, StubServices
from deploy.local.stubs import RC_KEY, Stubs
from deploy.local.sunbird_services import PRINT_URIS_KEPT, RC, SunbirdServices
from io_connectors.http import NoAnswer


@pytest.fixture
def stubs() -> StubServices:
    return StubServices()


def call(stubs: StubServices, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """A call's status and the JSON that it gives."""
    sent = b"" if body is None else orjson.dumps(body)
    status, text = stubs.in_memory(method, path, headers, sent)
    return status, orjson.loads(text)


def search(stubs: StubServices, identifier: str = "do_1") -> int:
    return call(stubs, "POST", "/v3/search", {"request": {"filters": {"identifier": identifier}}})[0]


# --- the services


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v3/search", 404),
        ("POST", "/v3/searches", 404),
        ("GET", "/content/v3/read/do_1", 404),
        ("GET", "/private/user/v1/read/learner-1", 404),
        ("GET", "/templates/blue.svg", 404),
        ("GET", "/certs/v2/registry/download/c-1", 404),
        ("POST", "/certs/v2/registry/add", 400),
        ("POST", "/sign/12", 400),
        ("POST", f"{RC}/TrainingCertificate", 401),
    ],
)
def test_what_is_not_there_or_not_right(stubs, method, path, status):
    assert call(stubs, method, path, {} if method == "POST" else None)[0] == status


def test_a_body_that_is_no_object(stubs):
    assert stubs.in_memory("POST", "/v3/search", {}, b"{")[0] == 400
    assert stubs.in_memory("POST", "/v3/search", {}, b"[]")[0] == 400


def test_the_fields_of_a_content(stubs):
    stubs.services.contents["do_1"] = {"name": "Numeracy", "contentType": "Course"}
    _, answer = call(stubs, "GET", "/content/v3/read/do_1?fields=name,other")
    assert answer["result"]["content"] == {"identifier": "do_1", "name": "Numeracy"}


def test_a_record_of_rc_can_be_read(stubs):
    key = {"Authorization": RC_KEY}
    record = {"recipient": {"id": "learner-1"}, "training": {"id": "do_1", "type": "Course"}}
    _, made = call(stubs, "POST", f"{RC}/TrainingCertificate", record, **key)
    osid = made["result"]["TrainingCertificate"]["osid"]
    assert call(stubs, "GET", f"{RC}/TrainingCertificate/{osid}", **key) == (200, {**record, "osid": osid})
    assert call(stubs, "GET", f"{RC}/Another/{osid}", **key)[0] == 404
    assert call(stubs, "DELETE", f"{RC}/Another/{osid}", **key)[0] == 404
    assert call(stubs, "POST", f"{RC}/Another/search", {"filters": {}}, **key) == (200, [])
    assert call(stubs, "POST", f"{RC}/Another/search", {"filters": {"a": {"neq": 1}}}, **key)[0] == 400


def test_the_registry_gives_the_pictures_of_the_last_certificates():
    services = SunbirdServices()
    request = {
        "jsonUrl": "u",
        "accessCode": "A",
        "recipientName": "n",
        "recipientId": "learner-1",
        "related": {"type": "t"},
    }
    for number in range(PRINT_URIS_KEPT + 1):
        body = {"request": {**request, "id": f"c-{number}", "jsonData": {"printUri": f"picture {number}"}}}
        assert services.answer("POST", "/certs/v2/registry/add", {}, orjson.dumps(body)).status == 200
    answer = services.answer("GET", f"/certs/v2/registry/download/c-{PRINT_URIS_KEPT}", {}, b"")
    assert orjson.loads(answer.text)["result"] == {"printUri": f"picture {PRINT_URIS_KEPT}"}
    assert services.answer("GET", "/certs/v2/registry/download/c-0", {}, b"").status == 404


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"b": 1, "a": 2.0, "A": 0.5}, '{"A":0.5,"a":2,"b":1}'),
        (["b", "a", 10, 9], '[10,9,"a","b"]'),
        ([{"b": 1, "a": 2}, {"a": 1}], '[{"a":1},{"a":2,"b":1}]'),
        # by UTF-16 code units U+1F600 stands before U+FF5E, by code points after it
        ({"～": 1, "😀": 2}, '{"😀":2,"～":1}'),
        (["～", "😀"], '["😀","～"]'),
        # as base64 "[]" stands before "[1,2]", as text after it
        ({"a": {"c": [[2, 1], []], "b": True}}, '{"a":{"b":true,"c":[[],[1,2]]}}'),
    ],
)
def test_the_order_of_what_is_signed(document, text):
    """spec: collection-certificate-generator §3.5.3"""
    assert canonical(document).decode() == text


def test_only_the_keys_own_signature_fits():
    keys = Keys()
    signature = keys.sign("12", {"a": 1})
    assert keys.fits("12", {"a": 1.0}, signature)
    assert not keys.fits("12", {"a": 2}, signature)
    assert not keys.fits("13", {"a": 1}, signature)
    assert not keys.fits("12", {"a": 1}, "no base64")
    with pytest.raises(ValueError, match="null"):
        keys.sign("12", {"a": [{"b": None}]})


# --- /stub


def test_what_is_known_is_set_one_by_one_or_many_at_once(stubs):
    call(stubs, "PUT", "/stub/contents/do_1", {"name": "x"})
    call(stubs, "PUT", "/stub/contents", {"do_2": {"name": "y"}, "do_1": None})
    assert call(stubs, "GET", "/stub/contents") == (200, {"do_2": {"name": "y"}})
    call(stubs, "PUT", "/stub/collections/do%2F1", {"status": "Live"})
    call(stubs, "PUT", "/stub/collections", {"do_2": {"status": "Retired"}})
    assert stubs.services.statuses == {"do/1": "Live", "do_2": "Retired"}
    call(stubs, "PUT", "/stub/collections/do_2", {"status": None})
    assert stubs.services.statuses == {"do/1": "Live"}
    call(stubs, "DELETE", "/stub/collections")
    assert stubs.services.statuses == {}
    assert call(stubs, "GET", "/stub/load")[1]["calls"] == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/stub/nothing", None, 404),
        ("PUT", "/stub/nothing", {}, 404),
        ("DELETE", "/stub/nothing", None, 404),
        ("POST", "/stub/contents", {}, 404),
        ("PUT", "/stub/notifications", {}, 404),
        ("PUT", "/stub/settings", {"unknown": 1}, 400),
        ("PUT", "/stub/collections/do_1", {}, 400),
        ("PUT", "/stub/contents", [], 400),
    ],
)
def test_wrong_requests(stubs, method, path, body, status):
    assert call(stubs, method, path, body)[0] == status


def test_the_calls_that_came(stubs):
    search(stubs)
    call(stubs, "GET", "/content/v3/read/do_1?fields=name")
    stubs.in_memory("POST", "/sign/1", {}, b"x" * (LARGEST_BODY_KEPT + 1))
    [first, second, third] = call(stubs, "GET", "/stub/calls")[1]
    assert first == {
        "method": "POST",
        "path": "/v3/search",
        "body": {"request": {"filters": {"identifier": "do_1"}}},
        "at": first["at"],
    }
    assert (second["path"], second["body"], third["body"]) == ("/content/v3/read/do_1?fields=name", None, None)
    assert call(stubs, "GET", "/stub/calls?path=/content")[1] == [second]
    for _ in range(CALLS_KEPT):
        search(stubs)
    assert len(call(stubs, "GET", "/stub/calls")[1]) == CALLS_KEPT
    assert call(stubs, "GET", "/stub/load")[1]["calls"] == CALLS_KEPT + 3
    call(stubs, "DELETE", "/stub/calls")
    assert call(stubs, "GET", "/stub/calls")[1] == []


def test_behaviour_of_the_next_posts(stubs):
    call(stubs, "PUT", "/stub/behaviour", {"fail_with": 503, "times": 2})
    assert call(stubs, "GET", "/content/v3/read/do_1")[0] == 404
    assert [search(stubs) for _ in range(3)] == [503, 503, 200]
    call(stubs, "PUT", "/stub/behaviour", {"fail_with": 500})
    assert [search(stubs) for _ in range(3)] == [500] * 3
    call(stubs, "PUT", "/stub/behaviour", {})
    assert search(stubs) == 200


def test_the_first_fault_that_fits_happens(stubs):
    faults = [
        {"path": "/content", "status": 500},
        {"method": "POST", "status": 429, "times": 1},
        {"path": "/v3", "status": 404, "body": "html"},
    ]
    call(stubs, "PUT", "/stub/faults", faults)
    assert call(stubs, "GET", "/content/v3/read/do_1")[0] == 500
    assert call(stubs, "GET", "/private/user/v1/read/x")[0] == 404
    assert search(stubs) == 429
    assert stubs.in_memory("POST", "/v3/search", {}, b"{}") == (404, "<html><body>hello</body></html>")
    assert call(stubs, "GET", "/stub/faults")[1] == [faults[0], faults[2]]
    call(stubs, "DELETE", "/stub/faults")
    assert search(stubs) == 200


def test_delays(stubs):
    stubs.services.statuses["do_1"] = "Live"
    call(stubs, "PUT", "/stub/settings", {"delay_ms": 50})
    call(stubs, "PUT", "/stub/faults", [{"delay_ms": 20, "times": 1}])
    replies = [stubs.reply("POST", "/v3/search", {}, b'{"request":{}}') for _ in range(2)]
    assert [reply.delay_seconds for reply in replies] == [0.07, 0.05]
    assert {reply.answer.status for reply in replies} == {200}
    assert stubs.reply("GET", "/stub/calls", {}, b"").delay_seconds == 0


def test_work_that_is_done_though_the_answer_is_lost(stubs):
    body = {"request": {"body": "x"}}
    call(stubs, "PUT", "/stub/faults", [{"status": 504, "processed": True, "times": 1}, {"no_answer": "silent"}])
    assert call(stubs, "POST", "/v2/notification", body)[0] == 504
    with pytest.raises(NoAnswer):
        call(stubs, "POST", "/v2/notification", body)
    assert call(stubs, "GET", "/stub/notifications")[1] == [body["request"]]


def test_in_flight_until_ended(stubs):
    stubs.reply("POST", "/v3/search", {}, b"{}")
    stubs.reply("GET", "/stub/load", {}, b"")
    assert call(stubs, "GET", "/stub/load")[1] == {"calls": 1, "in_flight": 1, "most_in_flight": 1}
    stubs.ended("/v3/search")
    search(stubs)
    assert call(stubs, "GET", "/stub/load")[1] == {"calls": 2, "in_flight": 0, "most_in_flight": 1}


def test_everything_is_forgotten(stubs):
    search(stubs)
    call(stubs, "PUT", "/stub/users", {"learner-1": "blocked"})
    call(stubs, "PUT", "/stub/settings", {"delay_ms": 50, "rc_key": "x"})
    call(stubs, "PUT", "/stub/faults", [{"status": 500}])
    assert call(stubs, "DELETE", "/stub") == (200, {})
    assert call(stubs, "GET", "/stub/users")[1] == {}
    assert call(stubs, "GET", "/stub/calls")[1] == []
    settings = call(stubs, "GET", "/stub/settings")[1]
    assert (settings["delay_ms"], settings["rc_key"], settings["search_form"]) == (0, RC_KEY, "list")
    assert stubs.reply("GET", "/x", {}, b"") == Reply(stubs.services.answer("GET", "/x", {}, b""))


# --- what jobs are told of them


def test_jobs_find_the_services_and_the_templates(stubs, tmp_path: Path):
    around = Surroundings(tmp_path, {"stubs": 8099}, Processes(tmp_path), silent, 1)
    settings = Stubs().settings(around)
    assert settings["service.rc.basePath"] == f"http://127.0.0.1:8099{RC}"
    assert settings["service.rc.rcApiKey"] == stubs.services.rc_key
    placeholder = f"{settings['cloud_storage_base_url']}/{settings['content_cloud_storage_container']}"
    url = "CLOUD_BASE_PATH/content/blue.svg".replace("CLOUD_BASE_PATH", placeholder)
    stubs.services.templates["content/blue"] = "<svg/>"
    assert stubs.in_memory("GET", requests.Request("GET", url).prepare().path_url, {}, b"") == (200, "<svg/>")
