"""The recipes of the clients, and answers of services that no stand-in gives."""

from __future__ import annotations

import pickle

import orjson
import pytest

from io_connectors.http import Http
from io_connectors.memory_http import MemoryHttp, MemoryHttpCalls
from io_connectors.services import (
    CertificateRegistryService,
    ContentService,
    SigningService,
    TemplateStore,
    UserService,
)
from io_connectors.sunbird_rc import SunbirdRC
from transforms.services import ServiceRefused, UserBlocked
from transforms.stores import StoreUnavailable

BASE = "http://sunbird.test"


@pytest.fixture
def http(request: pytest.FixtureRequest) -> MemoryHttp:
    return MemoryHttp(request.node.name)


def answering(http: MemoryHttp, body: object, status: int = 200) -> MemoryHttpCalls:
    text = body if isinstance(body, str | bytes) else orjson.dumps(body)
    return http.serve(lambda *_: (status, text))


def test_recipes_are_values(http):
    for recipe in (
        ContentService(BASE, http=http),
        UserService(BASE, "/read", Http(pool=64)),
        SunbirdRC(BASE, "TrainingCertificate", "secret", http),
        CertificateRegistryService(BASE, http),
        SigningService(None, http),
        TemplateStore(http),
    ):
        copy = pickle.loads(pickle.dumps(recipe))  # noqa: S301 - our own bytes
        assert copy == recipe
        assert hash(copy) == hash(recipe)
        assert "secret" not in repr(recipe)
        assert copy.open() is not None


def test_one_client_of_rc_in_a_process(http):
    assert SunbirdRC(BASE, http=http).open() is SunbirdRC(BASE, http=http).open()
    assert SunbirdRC(BASE, http=http).open() is not SunbirdRC(BASE, api_key="another", http=http).open()


def test_headers(http):
    calls = answering(http, [{"osid": "1-k"}])
    SunbirdRC(f"{BASE}/", "TrainingCertificate", "secret", http).open().key_id()
    SunbirdRC(BASE, "TrainingCertificate", "", http).open().key_id()
    keys = [call.headers.get("Authorization") for call in calls.calls]
    assert keys == ["secret", None]
    assert {call.headers["Content-Type"] for call in calls.calls} == {"application/json"}
    assert {call.path for call in calls.calls} == {"/PublicKey/search"}
    assert {call.body for call in calls.calls} == {b'{"filters":{}}'}


@pytest.mark.parametrize(
    ("status", "answer", "content"),
    [
        (200, {"responseCode": "ok", "result": {"content": {"a": 1}}}, {"a": 1}),
        (201, {"responseCode": "OK", "result": {"content": {"a": 1}}}, {"a": 1}),
        (202, {"responseCode": "OK", "result": {"content": {"a": 1}}}, None),
        (200, {"responseCode": "SERVER_ERROR", "result": {"content": {"a": 1}}}, None),
        (200, {"result": {"content": {"a": 1}}}, None),
        (200, {"responseCode": "OK", "result": {"content": {}}}, None),
        (200, {"responseCode": "OK", "result": {"content": [1]}}, None),
        (200, {"responseCode": "OK", "result": None}, None),
        (200, [], None),
    ],
)
def test_metadata(http, status, answer, content):
    """spec: collection-cert-pre-processor §3.5"""
    answering(http, answer, status)
    assert ContentService(BASE, http=http).open().metadata("do_1") == content


def test_metadata_of_a_service_that_can_not_be_addressed():
    with pytest.raises(StoreUnavailable):
        ContentService("content-service:9000").open().metadata("do_1")


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ({"result": {"content": {"name": "Numeracy"}}}, "Numeracy"),
        ({"result": {"content": {"name": None}}}, ""),
        ({"result": {"content": {}}}, ""),
        ({"result": {}}, ""),
        ({"responseCode": "OK"}, ""),
        ({"result": {"content": {"name": 5}}}, None),
        ({"result": {"content": "x"}}, None),
        ({"responseCode": "SERVER_ERROR", "result": {}}, None),
    ],
)
def test_a_courses_name(http, answer, name):
    """None: refused. spec: collection-cert-pre-processor §3.7"""
    answering(http, answer)
    contents = ContentService(BASE, http=http).open()
    if name is None:
        with pytest.raises(ServiceRefused):
            contents.course_name("do_1")
    else:
        assert contents.course_name("do_1") == name


@pytest.mark.parametrize(
    "answer", [{}, {"result": None}, {"result": {}}, {"result": {"response": None}}, {"result": {"response": {}}}]
)
def test_a_user_who_is_missing(http, answer):
    answering(http, {"responseCode": "OK", **answer})
    assert UserService(BASE, http=http).open().user("learner-1") is None


@pytest.mark.parametrize(
    "answer",
    [
        {"result": {"response": "text"}},
        {"result": {"response": []}},
        {"result": "text"},
        {"responseCode": "SERVER_ERROR", "result": {}},
        {"responseCode": "CLIENT_ERROR"},
        [],
        "null",
        "7",
    ],
)
def test_no_user_but_an_error_inside(http, answer):
    answering(http, answer)
    with pytest.raises(ServiceRefused):
        UserService(BASE, http=http).open().profile("learner-1")


@pytest.mark.parametrize("code", ["UOS_USRRED0006", "USER_ACCOUNT_BLOCKED"])
def test_both_words_for_a_blocked_user(http, code):
    answering(http, {"params": {"err": code}}, 400)
    with pytest.raises(UserBlocked):
        UserService(BASE, http=http).open().user("learner-1")
    answering(http, {"params": {"err": code}}, 404)
    with pytest.raises(ServiceRefused) as raised:
        UserService(BASE, http=http).open().user("learner-1")
    assert not isinstance(raised.value, UserBlocked)


@pytest.mark.parametrize(
    "answer",
    [
        {"result": {"TrainingCertificate": {"osid": ""}}},
        {"result": {"TrainingCertificate": {"osid": None}}},
        {"result": {"TrainingCertificate": {}}},
        {"result": {"Another": {"osid": "1-x"}}},
        {"result": {"TrainingCertificate": "1-x"}},
        {"params": {"status": "UNSUCCESSFUL"}},
    ],
)
def test_a_record_without_an_osid(http, answer):
    """spec: collection-certificate-generator §3.4 d, §8 18"""
    answering(http, answer)
    with pytest.raises(ServiceRefused, match="osid"):
        SunbirdRC(BASE, http=http).open().create({})


@pytest.mark.parametrize("answer", [{}, {"data": {}}, {"data": None}, ["x"], [[]], 5])
def test_what_is_no_list_of_records(http, answer):
    answering(http, answer)
    with pytest.raises(ServiceRefused):
        SunbirdRC(BASE, http=http).open().search({}, 1)


@pytest.mark.parametrize("answer", [{}, {"signatureValue": ""}, {"signatureValue": 7}, "true"])
def test_what_is_no_signature(http, answer):
    answering(http, answer)
    with pytest.raises(ServiceRefused):
        SigningService(BASE, http).open().sign("12", {})


def test_what_can_not_be_sent_is_refused(http):
    calls = answering(http, {})
    with pytest.raises(ServiceRefused):
        SunbirdRC(BASE, http=http).open().create({"a": "\ud800"})
    with pytest.raises(ServiceRefused):
        SigningService(BASE, http).open().sign("12", {"a": 1 << 70})
    assert calls.calls == []


@pytest.mark.parametrize(
    "body", [b"\xff<svg/>", b"", b" \n", b"<!DOCTYPE html><html></html>", b"\n<HTML lang='en'><svg/></HTML>"]
)
def test_what_is_no_template(http, body):
    """spec: collection-certificate-generator §3.5.5 step 1"""
    answering(http, body)
    with pytest.raises(ServiceRefused):
        TemplateStore(http).open().fetch(f"{BASE}/blue.svg")


def test_a_template_is_fetched_without_a_jobs_headers(http):
    calls = answering(http, "<svg>ä</svg>")
    assert TemplateStore(http).open().fetch(f"{BASE}/blue.svg?sig=a%2Fb") == "<svg>ä</svg>"
    [call] = calls.calls
    assert (call.method, call.path) == ("GET", "/blue.svg?sig=a%2Fb")
    assert "Content-Type" not in call.headers
