"""The clients of Sunbird's services, over the in-memory client and over sockets, against the same stand-ins.

No part of the local stack is needed: the stand-ins' server is started here, on a port of its own.
"""

from __future__ import annotations

import base64
import itertools
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
import pytest
import requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from deploy.local.processes import free_port
from deploy.local.signatures import canonical
from deploy.local.stub_behaviour import BODIES, WRONG, StubServices
from io_connectors.cokreat_services import ContentRepository, ContributionService
from io_connectors.http import Calls, Http
from io_connectors.keycloak import Keycloak
from io_connectors.memory_http import MemoryHttp
from io_connectors.read_apis import (
    FRAMEWORKS_REMEMBERED,
    FrameworkReadApi,
    FrameworkReads,
    UserReadApi,
    UserReads,
)
from io_connectors.services import (
    AccountService,
    BatchService,
    CertificateRegistryService,
    ContentService,
    SearchService,
    SigningService,
    TemplateStore,
    UserService,
)
from io_connectors.sunbird_rc import SunbirdRC
from transforms.services import OutcomeUnknown, ServiceRefused, UserBlocked
from transforms.stores import Opens, StoreUnavailable

ROOT = Path(__file__).parents[2]
KEY = "stub-rc-key"
SECONDS = 5.0
IN_VAIN = 0.3  # seconds that a test waits for an answer that does not come
RECORD = {"recipient": {"id": "learner-1"}, "training": {"id": "do_1", "type": "Course"}, "certificateLabel": "Merit"}
CERTIFICATE = {
    "id": "c-1",
    "jsonUrl": "http://certs.test/c-1.json",
    "jsonData": {"id": "c-1", "printUri": "data:image/svg+xml,picture"},
    "accessCode": "B2U4Z5",
    "recipientName": "learner-1",
    "recipientId": "learner-1",
    "related": {"batchId": "b", "courseId": "do_1", "type": "Merit"},
}
SVG = '<svg xmlns="http://www.w3.org/2000/svg">ä ${recipientName}</svg>'

numbers = itertools.count(64)


class Sunbird:
    """The stand-ins, the recipe of a client that reaches them, and an address where nobody is."""

    def __init__(
        self, base: str, http: Opens[Calls], nobody: str, ask: Callable[[str, str, Any], Any], nowhere: Opens[Calls]
    ) -> None:
        self.base = base
        self.http = http
        self.nobody = nobody
        self.nowhere = nowhere
        self._ask = ask

    def get(self, path: str) -> Any:
        return self._ask("GET", f"/stub/{path}", None)

    def put(self, path: str, value: Any) -> None:
        self._ask("PUT", f"/stub/{path}", value)

    def fault(self, **fault: Any) -> None:
        self.put("faults", [fault])

    def tries(self) -> int:
        return len(self.get("calls"))

    def clients(self, is_there: bool = True) -> Clients:
        return Clients(self.base if is_there else self.nobody, self.http if is_there else self.nowhere)


class Clients:
    """All clients, for one address."""

    def __init__(self, base: str | None, http: Opens[Calls]) -> None:
        self.base = base
        self.search = SearchService(base, http).open()
        self.contents = ContentService(base, http=http).open()
        self.users = UserService(base, http=http).open()
        rc = base and f"{base}/registry-service/api/v1"
        self.rc = SunbirdRC(rc, "TrainingCertificate", KEY, http).open()
        self.registry = CertificateRegistryService(base, http).open()
        self.signing = SigningService(base, http).open()
        self.templates = TemplateStore(http).open()
        self.accounts = AccountService(base, http=http).open()
        self.batches = BatchService(base, http=http).open()
        sso = base and f"{base}/auth/"
        self.keycloak = Keycloak(sso, "sunbird", "stub-client", "stub-client-secret", "provider", http).open()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of the stand-ins' server."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "deploy.local.stub_server", str(port)], cwd=ROOT)
    base = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 20
        while True:
            try:
                requests.get(f"{base}/stub/load", timeout=SECONDS).raise_for_status()
                break
            except requests.ConnectionError:
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.05)
        for key in (12, 13):  # to make one takes as long as it takes
            requests.get(f"{base}/keys/{key}", timeout=20).raise_for_status()
        yield base
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def patience() -> float:
    """The seconds that clients wait for an answer."""
    return SECONDS


@pytest.fixture(params=["twin", "server"])
def sunbird(request: pytest.FixtureRequest, patience: float, nobody: int) -> Iterator[Sunbird]:
    """The stand-ins, which know nothing at the beginning of each test."""
    if request.param == "twin":
        stubs = StubServices()

        def ask(method: str, path: str, value: Any) -> Any:
            status, text = stubs.in_memory(method, path, {}, b"" if value is None else orjson.dumps(value))
            assert status == 200, text
            return orjson.loads(text)

        http = MemoryHttp(f"services-{uuid.uuid4()}")
        http.serve(stubs.in_memory)
        yield Sunbird("http://sunbird.test", http, "http://nobody.test", ask, MemoryHttp(f"nobody-{uuid.uuid4()}"))
        return
    base = request.getfixturevalue("server")
    with requests.Session() as session:

        def ask_server(method: str, path: str, value: Any) -> Any:
            body = None if value is None else orjson.dumps(value)
            answer = session.request(method, base + path, data=body, timeout=SECONDS)
            answer.raise_for_status()
            return answer.json()

        ask_server("DELETE", "/stub", None)
        # a number of its own, so that each test has clients of its own
        real = Http(SECONDS, patience, next(numbers), (0.01, 0.01))
        yield Sunbird(base, real, f"http://127.0.0.1:{nobody}", ask_server, real)


# --- every method with every kind of answer


class Method(NamedTuple):
    """A client's method: the path that it calls, how it is repeated, the call, and what it gives when all is well."""

    path: str
    kind: str
    call: Callable[[Clients], Any]
    good: Any


RC = "/registry-service/api/v1"
METHODS = {
    "metadata": Method(
        "/content/v3/read/do_1",
        "read",
        lambda c: c.contents.metadata("do_1"),
        {"identifier": "do_1", "name": "Numeracy", "contentType": "Course"},
    ),
    "course_name": Method("/content/v3/read/do_1", "read", lambda c: c.contents.course_name("do_1"), "Numeracy"),
    "user": Method(
        "/private/user/v1/read/learner-1",
        "read",
        lambda c: c.users.user("learner-1"),
        {"id": "learner-1", "userId": "learner-1", "identifier": "learner-1", "rootOrgId": "org-1"},
    ),
    "profile": Method(
        "/private/user/v1/read/learner-1",
        "read",
        lambda c: c.users.profile("learner-1"),
        {"id": "learner-1", "userId": "learner-1", "identifier": "learner-1", "rootOrgId": "org-1"},
    ),
    "notify": Method("/v2/notification", "once", lambda c: c.users.notify({"body": "email body"}), None),
    "feed": Method("/private/user/feed/v1/create", "once", lambda c: c.users.feed({"priority": 1}), None),
    "key_id": Method(f"{RC}/PublicKey/search", "read", lambda c: c.rc.key_id(), "1-k"),
    "create": Method(f"{RC}/TrainingCertificate", "create", lambda c: c.rc.create(RECORD), ...),
    "search": Method(
        f"{RC}/TrainingCertificate/search",
        "read",
        lambda c: c.rc.search({"recipient.id": {"eq": "nobody"}}, 1),
        [],
    ),
    "delete": Method(f"{RC}/TrainingCertificate/1-x", "read", lambda c: c.rc.delete("1-x"), False),
    "add": Method("/certs/v2/registry/add", "create", lambda c: c.registry.add(CERTIFICATE), None),
    "sign": Method("/sign/12", "read", lambda c: c.signing.sign("12", {"id": "c-1"}), ...),
    "fetch": Method("/templates/blue.svg", "read", lambda c: c.templates.fetch(f"{c.base}/templates/blue.svg"), SVG),
}
ONLY_STATUS_COUNTS = ("notify", "feed", "add")

every_method = pytest.mark.parametrize("name", METHODS)


@pytest.fixture
def known(sunbird: Sunbird) -> Sunbird:
    """The stand-ins with what the methods ask for."""
    sunbird.put("contents", {"do_1": {"name": "Numeracy", "contentType": "Course"}})
    sunbird.put("users", {"learner-1": {"rootOrgId": "org-1"}, "learner-2": "blocked"})
    sunbird.put("templates/blue", SVG)
    sunbird.put("settings", {"public_keys": ["1-k", "1-l"]})
    return sunbird


def outcome(name: str, clients: Clients) -> Any:
    """What a method gives; for errors their type. No error tells a key, an id, or what was sent."""
    told = ""
    try:
        return METHODS[name].call(clients)
    except (ServiceRefused, StoreUnavailable) as error:
        told = str(error)
        kinds = (OutcomeUnknown, StoreUnavailable, ServiceRefused)
        return next(kind for kind in kinds if isinstance(error, kind))
    finally:
        assert not [secret for secret in (KEY, "learner-1", "do_1", "email body") if secret in told]


@every_method
def test_good(known, name):
    good, given = METHODS[name].good, outcome(name, known.clients())
    assert given == good if good is not ... else isinstance(given, str) and given
    [call] = known.get("calls")
    assert call["path"].startswith(METHODS[name].path)


@every_method
@pytest.mark.parametrize("status", [201, 204, 301, 400, 401, 403, 404, 409, 500, 501])
def test_a_final_status(known, name, status):
    known.fault(status=status)
    expected: Any = ServiceRefused
    if name == "metadata":
        expected = None
    elif name == "delete":
        expected = False
    elif name == "search" and status == 404:
        expected = []
    assert outcome(name, known.clients()) == expected
    assert known.tries() == 1


@every_method
@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_status_that_says_later(known, name, status):
    """spec: collection-certificate-generator §6, collection-cert-pre-processor §6"""
    known.fault(status=status, body="html")
    kind = METHODS[name].kind
    unknown = kind == "create" and status in (408, 502, 504)
    expected = None if name == "metadata" else OutcomeUnknown if unknown else StoreUnavailable
    assert outcome(name, known.clients()) is expected
    assert known.tries() == (1 if kind == "once" or unknown else 3)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.kind != "once"])
@pytest.mark.parametrize("status", [429, 503])
def test_later_came(known, name, status):
    known.fault(status=status, times=2)
    good, given = METHODS[name].good, outcome(name, known.clients())
    assert given == good if good is not ... else isinstance(given, str)
    assert known.tries() == 3


@every_method
@pytest.mark.parametrize("body", ["html", "empty", "wrong", "error"])
def test_a_200_that_is_no_answer(known, name, body):
    known.fault(status=200, body=body)
    expected: Any = ServiceRefused
    if name == "metadata" or name in ONLY_STATUS_COUNTS:
        expected = None
    elif name == "delete":
        expected = True
    given = outcome(name, known.clients())
    if name == "fetch" and body in ("wrong", "error"):
        # a template may be any text
        expected = WRONG if body == "wrong" else BODIES[body]
    assert given == expected
    assert known.tries() == 1


@every_method
def test_nobody_is_there(known, name):
    assert outcome(name, known.clients(is_there=False)) is (None if name == "metadata" else StoreUnavailable)
    assert known.tries() == 0


def work_done(sunbird: Sunbird) -> int:
    return sum(len(sunbird.get(kind)) for kind in ("notifications", "feeds", "credentials", "registry"))


@every_method
@pytest.mark.parametrize("instead", ["silent", "broken"])
@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize("patience", [IN_VAIN])
def test_no_answer_after_sending(known, name, instead, processed):
    known.fault(no_answer=instead, processed=processed)
    kind = METHODS[name].kind
    expected = None if name == "metadata" else OutcomeUnknown if kind == "create" else StoreUnavailable
    assert outcome(name, known.clients()) is expected
    assert known.tries() == (3 if kind == "read" else 1)
    assert work_done(known) == (processed and kind != "read")


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.kind == "create"])
@pytest.mark.parametrize("patience", [IN_VAIN])
def test_a_create_that_was_refused_first_and_then_got_no_answer(known, name):
    known.put("faults", [{"status": 503, "times": 1}, {"no_answer": "silent", "processed": True}])
    assert outcome(name, known.clients()) is OutcomeUnknown
    assert known.tries() == 2
    assert work_done(known) == 1


@pytest.mark.parametrize("name", [name for name in METHODS if name != "fetch"])
def test_no_address_is_configured(sunbird, name):
    with pytest.raises(StoreUnavailable, match=r"service\.(content|learner|rc|certreg|enc)\.basePath is not set"):
        METHODS[name].call(Clients(None, sunbird.http))
    assert sunbird.tries() == 0


@pytest.mark.parametrize("identifier", ["", ".", "..", "\ud800", "x" * 9_000, "é" * 400])
def test_an_id_that_is_no_part_of_an_address_is_not_asked_for(sunbird, identifier):
    clients = sunbird.clients()
    assert clients.contents.metadata(identifier) is None
    assert clients.rc.delete(identifier) is False
    for call in (clients.contents.course_name, clients.users.user, clients.users.profile):
        with pytest.raises(ServiceRefused):
            call(identifier)
    with pytest.raises(ServiceRefused):
        clients.signing.sign(identifier, {})
    assert sunbird.tries() == 0


@pytest.mark.parametrize("identifier", ["a/b", "a?b=c#d", "../x", "ü %2F", "a+b"])
def test_an_id_is_one_part_of_the_path(sunbird, identifier):
    sunbird.put(f"users/{quote(identifier, safe='')}", {"firstName": "x"})
    user = sunbird.clients().users.profile(identifier)
    assert user == {**dict.fromkeys(("id", "userId", "identifier"), identifier), "firstName": "x"}


# --- one service after the other


def test_the_search_service(sunbird):
    sunbird.put("collections/do_1", {"status": "Retired"})
    search = sunbird.clients().search
    assert (search.status("do_1"), search.status("do_2")) == ("Retired", None)
    sunbird.put("collections/do_1", None)
    assert search.status("do_1") is None


def test_a_content_and_its_name(known):
    known.put("contents/do_2", {"contentType": "Course"})
    contents = known.clients().contents
    assert contents.metadata("do_9") is None
    assert contents.course_name("do_2") == ""
    assert [call["path"] for call in known.get("calls")] == [
        "/content/v3/read/do_9",
        "/content/v3/read/do_2?fields=name",
    ]


def test_a_user_in_the_way_that_each_job_asks(known):
    """spec: collection-cert-pre-processor §3.6, collection-certificate-generator §3.9"""
    users = known.clients().users
    users.user("learner-1")
    users.profile("learner-1")
    assert [call["path"] for call in known.get("calls")] == [
        "/private/user/v1/read/learner-1?organisations,roles,locations,declarations,externalIds",
        "/private/user/v1/read/learner-1",
    ]


def test_a_blocked_user(known):
    users = known.clients().users
    for read in (users.user, users.profile):
        with pytest.raises(UserBlocked):
            read("learner-2")


def test_what_is_sent_to_learners(sunbird):
    users = sunbird.clients().users
    users.notify({"mode": "sms", "recipientUserIds": ["learner-1"]})
    users.feed({"userId": "learner-1"})
    assert sunbird.get("notifications") == [{"mode": "sms", "recipientUserIds": ["learner-1"]}]
    assert sunbird.get("feeds") == [{"userId": "learner-1"}]


@pytest.mark.parametrize("form", ["list", "object"])
def test_the_records_of_rc(sunbird, form):
    sunbird.put("settings", {"search_form": form, "public_keys": ["1-k"]})
    rc = sunbird.clients().rc
    first = rc.create({**RECORD, "oldId": "old-1"})
    second = rc.create({**RECORD, "recipient": {"id": "learner-2"}})
    assert first.startswith("1-")
    assert first != second
    assert rc.search({"oldId": {"eq": "old-1"}}, 1) == [{**RECORD, "oldId": "old-1", "osid": first}]
    mine = {"recipient.id": {"eq": "learner-2"}, "certificateLabel": {"eq": "Merit"}}
    assert [record["osid"] for record in rc.search(mine, 10)] == [second]
    assert len(rc.search({}, 1)) == 1
    assert (rc.delete(first), rc.delete(first)) == (True, False)
    assert list(sunbird.get("credentials")) == [second]
    assert rc.key_id() == "1-k"


def test_rc_refuses_what_its_schema_does_not_allow(sunbird):
    for record in ({}, {"recipient": {"id": "learner-1"}, "training": {"id": "do_1"}}):
        with pytest.raises(ServiceRefused, match="400"):
            sunbird.clients().rc.create(record)


def test_rc_wants_its_key(sunbird):
    """§8 15 of collection-certificate-generator: on all calls"""
    sunbird.put("settings", {"rc_key": "another"})
    rc = sunbird.clients().rc
    for call in (rc.key_id, lambda: rc.create(RECORD), lambda: rc.search({}, 1)):
        with pytest.raises(ServiceRefused, match="401"):
            call()
    assert rc.delete("1-x") is False
    without = SunbirdRC(f"{sunbird.base}{RC}", "TrainingCertificate", "", sunbird.http)
    sunbird.put("settings", {"rc_key": None})
    assert without.open().create(RECORD)


@pytest.mark.parametrize("keys", [[], [""], [None], [7]])
def test_no_public_key(sunbird, keys):
    sunbird.put("settings", {"public_keys": keys})
    with pytest.raises(ServiceRefused):
        sunbird.clients().rc.key_id()


def test_the_keys_id_is_remembered_for_five_minutes(sunbird):
    sunbird.put("settings", {"public_keys": ["1-k"]})
    now = [1000.0]
    rc = sunbird.clients().rc
    rc.clock = lambda: now[0]
    assert rc.key_id() == "1-k"
    sunbird.put("settings", {"public_keys": ["1-l"]})
    now[0] += 299.0
    assert rc.key_id() == "1-k"
    now[0] += 1.0
    assert rc.key_id() == "1-l"
    assert sunbird.tries() == 2


def test_the_certificate_registry(sunbird):
    """spec: collection-certificate-generator §3.5.7"""
    registry = sunbird.clients().registry
    registry.add(CERTIFICATE)
    for refused in (
        CERTIFICATE,
        {**CERTIFICATE, "id": "c-2", "related": {"type": " "}},
        {**CERTIFICATE, "id": "c-2", "recipientId": "learner-2", "oldId": "c-1"},
    ):
        with pytest.raises(ServiceRefused, match="400"):
            registry.add(refused)
    registry.add({**CERTIFICATE, "id": "c-2", "oldId": "c-1"})
    kept = sunbird.get("registry")
    assert list(kept) == ["c-2"]
    assert kept["c-2"]["jsonData"] == {"id": "c-1"}


def test_a_signature_verifies(sunbird):
    """§9 case 10 of collection-certificate-generator, the service's half"""
    entity = {"b": ["z", "a"], "a": {"y": 1, "x": "ä"}, "list": [{"n": 2}, {"n": 1}], "revoked": False}
    calls = sunbird.http.open()
    signature = sunbird.clients().signing.sign("12", entity)
    public = load_pem_public_key(calls.call("GET", f"{sunbird.base}/keys/12").text.encode())
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=16)
    ordered = '{"a":{"x":"ä","y":1},"b":["a","z"],"list":[{"n":1},{"n":2}],"revoked":false}'.encode()
    assert canonical(entity) == ordered
    public.verify(base64.b64decode(signature), ordered, scheme, hashes.SHA256())  # type: ignore[union-attr, call-arg, arg-type]
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature), ordered + b" ", scheme, hashes.SHA256())  # type: ignore[union-attr, call-arg, arg-type]

    def fits(claim: object, key: int) -> str:
        body = {"entity": {"claim": claim, "signatureValue": signature, "keyId": key}}
        return calls.call("POST", f"{sunbird.base}/verify", data=orjson.dumps(body)).text

    assert fits(dict(reversed(entity.items())), 12) == "true"
    assert fits({**entity, "revoked": True}, 12) == "false"
    assert fits(entity, 13) == "false"


def test_a_document_with_null_is_not_signed(sunbird):
    with pytest.raises(ServiceRefused, match="500"):
        sunbird.clients().signing.sign("12", {"a": None})


@pytest.mark.parametrize("url", ["ftp://host/x.svg", "x.svg", "", "file:///etc/hostname", "http://", "http://[1/x"])
def test_what_is_no_address_of_a_template(sunbird, url):
    with pytest.raises(ServiceRefused):
        sunbird.clients().templates.fetch(url)


def test_a_template_that_is_too_large(sunbird):
    limit = 2 * 1024 * 1024
    sunbird.put("templates", {"fits": "<svg>".ljust(limit, "x"), "large": "<svg>".ljust(limit + 1, "x")})
    templates = sunbird.clients().templates
    assert len(templates.fetch(f"{sunbird.base}/templates/fits.svg")) == limit
    with pytest.raises(ServiceRefused, match="larger than the limit"):
        templates.fetch(f"{sunbird.base}/templates/large.svg")


def test_a_template_in_a_folder(sunbird):
    sunbird.put(f"templates/{quote('content/do_1/artifact/blue', safe='')}", SVG)
    templates = sunbird.clients().templates
    assert templates.fetch(f"{sunbird.base}/templates/content/do_1/artifact/blue.svg") == SVG


# --- coKreat's services


def contributors(sunbird: Sunbird, is_there: bool = True) -> Any:
    there = sunbird.clients(is_there)
    return ContributionService(str(there.base), sunbird.http if is_there else sunbird.nowhere).open()


def repository(sunbird: Sunbird, left_alone: frozenset[str] = frozenset(), is_there: bool = True) -> Any:
    base = f"{sunbird.clients(is_there).base}/sourcing/"
    http = sunbird.http if is_there else sunbird.nowhere
    return ContentRepository("sourcing", "service.sourcing", base, left_alone=left_alone, http=http).open()


REPOSITORY_METHODS: dict[str, Callable[[Any], Any]] = {
    "read": lambda repository: repository.read("o_1"),
    "update": lambda repository: repository.update("o_1", "channel-1", {"me_averageRating": 4.25}),
}
every_repository_method = pytest.mark.parametrize("name", REPOSITORY_METHODS)


def test_a_contributor_is_deleted(sunbird):
    """spec: cokreat-user-delete §3"""
    sunbird.put("contributors", {"learner-1": {"name": "x"}, "learner-2": {}, "admin-1": "admin"})
    client = contributors(sunbird)
    deleted, again, admin = (client.delete_user(user) for user in ("learner-1", "learner-1", "admin-1"))
    assert (deleted.status, deleted.body["responseCode"]) == (200, "OK")
    assert (again.status, again.body["result"]["response"]) == (404, "User not found in Sunbird")
    assert admin.status == 500
    assert list(sunbird.get("contributors")) == ["learner-2", "admin-1"]
    assert [call["path"] for call in sunbird.get("calls")] == [
        *(["/program/v1/user/learner-1"] * 2),
        *(["/program/v1/user/admin-1"] * 3),
    ]


@pytest.mark.parametrize("status", [201, 400, 404, 408, 429])
def test_the_contribution_services_final_answers(sunbird, status):
    sunbird.fault(status=status)
    assert contributors(sunbird).delete_user("learner-1").status == status
    assert sunbird.tries() == 1


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 599])
def test_the_contribution_service_is_asked_again(sunbird, status):
    sunbird.fault(status=status, body="html")
    assert contributors(sunbird).delete_user("learner-1") == (status, {})
    assert sunbird.tries() == 3
    sunbird.fault(status=status, times=2)
    assert contributors(sunbird).delete_user("learner-1").status == 404


@pytest.mark.parametrize("body", ["html", "empty", "wrong", "error"])
def test_bodies_of_the_contribution_service(sunbird, body):
    sunbird.fault(status=200, body=body)
    text = WRONG if body == "wrong" else BODIES[body]
    expected = orjson.loads(text) if text.startswith("{") else {}
    assert contributors(sunbird).delete_user("learner-1") == (200, expected)


@pytest.mark.parametrize("patience", [IN_VAIN])
@pytest.mark.parametrize("instead", ["silent", "broken"])
def test_cokreats_services_do_not_answer(sunbird, instead):
    sunbird.fault(no_answer=instead)
    with pytest.raises(StoreUnavailable):
        contributors(sunbird).delete_user("learner-1")
    for call in REPOSITORY_METHODS.values():
        with pytest.raises(StoreUnavailable):
            call(repository(sunbird))
    assert sunbird.tries() == 9


def test_nobody_is_there_for_cokreat(sunbird):
    with pytest.raises(StoreUnavailable):
        contributors(sunbird, is_there=False).delete_user("learner-1")
    for call in REPOSITORY_METHODS.values():
        with pytest.raises(StoreUnavailable):
            call(repository(sunbird, is_there=False))


def test_a_repository_is_read_and_written(sunbird):
    """spec: metrics-data-transformer §3"""
    sunbird.put("sourcing_contents/o_1", {"name": "Plants"})
    client = repository(sunbird)
    assert client.read("o_1") == {"identifier": "o_1", "name": "Plants"}
    assert client.read("o_2") == {}
    values = {"name": 'He said "hi" ü', "me_averageRating": 4.25, "me_totalRatingsCount": 15}
    assert client.update("o_1", "channel-1", values) is True
    assert sunbird.get("content_updates") == [{"identifier": "o_1", "channel": "channel-1", "content": values}]
    assert client.read("o_1") == {"identifier": "o_1", **values}


def test_updates_that_are_left_alone(sunbird):
    """spec: metrics-data-transformer §3.7"""
    with pytest.raises(ServiceRefused, match="404"):
        repository(sunbird).update("o_2", "", {"a": 1})
    client = repository(sunbird, frozenset({"404", "503", "other"}))
    assert client.update("o_2", "", {"a": 1}) is False
    sunbird.fault(status=503)
    assert client.update("o_2", "", {"a": 1}) is False
    assert sunbird.tries() == 3
    with pytest.raises(StoreUnavailable):
        client.read("o_2")


@every_repository_method
@pytest.mark.parametrize("status", [201, 302, 400, 401, 408])
def test_a_repositorys_final_answers(sunbird, name, status):
    sunbird.fault(status=status)
    with pytest.raises(ServiceRefused, match=str(status)):
        REPOSITORY_METHODS[name](repository(sunbird))
    assert sunbird.tries() == 1


@every_repository_method
@pytest.mark.parametrize("status", [429, 500, 503, 599])
def test_a_repository_is_asked_again(sunbird, name, status):
    """spec: metrics-data-transformer §6"""
    sunbird.put("sourcing_contents/o_1", {"name": "Plants"})
    sunbird.fault(status=status)
    with pytest.raises(StoreUnavailable, match=str(status)):
        REPOSITORY_METHODS[name](repository(sunbird))
    assert sunbird.tries() == 3
    sunbird.fault(status=status, times=2)
    assert REPOSITORY_METHODS[name](repository(sunbird))


@pytest.mark.parametrize("body", ["html", "empty"])
def test_a_content_that_is_no_json(sunbird, body):
    sunbird.fault(status=200, body=body)
    with pytest.raises(ServiceRefused):
        repository(sunbird).read("o_1")
    assert repository(sunbird).update("o_1", "", {"a": 1}) is True


@pytest.mark.parametrize("channel", ["ü", "a\nb", "a\r\nX-Other: b", " a", "a\x00"])
def test_a_channel_that_no_header_may_have(sunbird, channel):
    with pytest.raises(ServiceRefused):
        repository(sunbird).update("o_1", channel, {"a": 1})
    assert sunbird.tries() == 0


# --- users, batches and Keycloak, for the jobs around users

BATCH = {"batchId": "b-1", "courseId": "do_1", "createdBy": "learner-1", "mentors": ["learner-2"], "status": 1}
STRICT: dict[str, tuple[str, Callable[[Clients], Any]]] = {
    "read": ("/private/user/v1/read", lambda c: c.accounts.read("learner-1")),
    "search": ("/v1/course/batch/search", lambda c: c.batches.search({"createdBy": "learner-1"}, ["batchId"])),
}
every_strict = pytest.mark.parametrize(("path", "call"), STRICT.values(), ids=STRICT)


def test_an_account_by_its_status(known):
    """spec: user-deletion-cleanup §3.1"""
    known.put("users/learner-1", {"rootOrgId": "org-1", "encEmail": "x"})
    accounts = known.clients().accounts
    user = {"id": "learner-1", "userId": "learner-1", "identifier": "learner-1", "rootOrgId": "org-1", "encEmail": "x"}
    assert accounts.read("learner-1") == user
    assert accounts.read("learner-9") is None
    with pytest.raises(UserBlocked):
        accounts.read("learner-2")
    path = "/private/user/v1/read/learner-1?identifier,rootOrgId"
    assert known.get("calls")[0]["path"] == path


@pytest.mark.parametrize("body", ["error", "html", "empty", "wrong"])
def test_any_400_says_that_the_account_is_deleted(known, body):
    known.fault(status=400, body=body)
    with pytest.raises(UserBlocked):
        known.clients().accounts.read("learner-1")
    assert known.tries() == 1


@every_strict
@pytest.mark.parametrize("status", [201, 204, 301, 401, 403, 408, 409, 429, 500, 501, 503])
def test_every_other_status_says_later(known, path, call, status):
    """spec: user-deletion-cleanup §6, user-ownership-transfer §6"""
    known.fault(path=path, status=status, body="html")
    with pytest.raises(StoreUnavailable, match="answers"):
        call(known.clients())
    assert known.tries() == 3


@every_strict
@pytest.mark.parametrize("body", ["html", "empty"])
def test_a_200_that_is_no_json_says_later(known, path, call, body):
    known.put("faults", [{"path": path, "status": 200, "body": body, "times": 2}])
    call(known.clients())
    assert known.tries() == 3
    known.fault(path=path, status=200, body=body)
    with pytest.raises(StoreUnavailable, match="without a JSON object"):
        call(known.clients())


@every_strict
def test_later_came_for_those_too(known, path, call):
    known.put("faults", [{"path": path, "status": 401, "times": 1}, {"path": path, "no_answer": "broken", "times": 1}])
    call(known.clients())
    assert known.tries() == 3


@every_strict
def test_nobody_is_there_for_those(known, path, call):
    with pytest.raises(StoreUnavailable):
        call(known.clients(is_there=False))
    with pytest.raises(StoreUnavailable, match=r"service\.(userorg|lms)\.basePath is not set"):
        call(Clients(None, known.http))


def test_a_200_of_another_shape_is_an_empty_answer(known):
    known.fault(status=200, body="wrong")
    assert known.clients().accounts.read("learner-1") == {}
    assert known.clients().batches.search({}, []) == []


def test_batches_page_by_page(sunbird):
    """spec: user-ownership-transfer §3.2"""
    sunbird.put("batches", {f"b-{n}": {**BATCH, "batchId": f"b-{n}", "status": n % 3} for n in range(9)})
    sunbird.put("settings", {"batch_page": 2})
    batches = sunbird.clients().batches
    found = batches.search({"createdBy": "learner-1", "status": [0, 1]}, ["batchId", "mentors"])
    assert found == [{"batchId": f"b-{n}", "mentors": ["learner-2"]} for n in (0, 1, 3, 4, 6, 7)]
    asked = [call["body"]["request"] for call in sunbird.get("calls")]
    assert [(request.get("offset"), request.get("limit")) for request in asked] == [(None, None), (2, 1000)]
    assert batches.search({"mentors": ["learner-2"], "status": [2]}, ["courseId"]) == [{"courseId": "do_1"}] * 3
    assert batches.search({"mentors": ["learner-9"]}, []) == []
    sunbird.fault(status=400)
    with pytest.raises(ServiceRefused, match="400"):
        batches.search({}, [])


KEYCLOAK_USER = {
    "username": "u",
    "email": "e",
    "emailVerified": True,
    "enabled": True,
    "firstName": "f",
    "lastName": "l",
}
ADMIN = "/auth/admin/realms/sunbird/users/f:provider:learner-1"


@pytest.fixture
def keycloak(sunbird: Sunbird) -> Any:
    """The client, of a Keycloak with one user."""
    sunbird.put("keycloak-users/f%3Aprovider%3Alearner-1", KEYCLOAK_USER)
    return sunbird.clients().keycloak


def test_a_user_of_keycloak_is_removed(sunbird, keycloak):
    """spec: user-deletion-cleanup §3.5"""
    assert keycloak.has("learner-1") is True
    assert (keycloak.remove("learner-1"), keycloak.remove("learner-1")) == (True, False)
    assert keycloak.has("learner-1") is False
    assert sunbird.get("keycloak-users") == {}
    token = "/auth/realms/sunbird/protocol/openid-connect/token"
    made = [(call["method"], call["path"]) for call in sunbird.get("calls")]
    assert made[:3] == [("POST", token), ("GET", ADMIN), ("DELETE", ADMIN)]
    assert [path for _, path in made].count(token) == 1


def test_a_user_that_keycloak_keeps_is_blanked(sunbird, keycloak):
    sunbird.fault(path="/auth/admin", method="DELETE", status=500)
    assert keycloak.remove("learner-1") is True
    [user] = sunbird.get("keycloak-users").values()
    blank = {"email": "", "emailVerified": False, "enabled": False, "firstName": "", "lastName": ""}
    assert user == {"id": "f:provider:learner-1", "username": "u", **blank}


@pytest.mark.parametrize(("processed", "left"), [(False, ["u"]), (True, [])])
@pytest.mark.parametrize("instead", ["silent", "broken"])
@pytest.mark.parametrize("patience", [IN_VAIN])
def test_a_removal_that_keycloak_does_not_answer(sunbird, keycloak, instead, processed, left):
    """For all that is known it failed: the user is looked up, and blanked. spec: user-deletion-cleanup §3.5 step 3"""
    sunbird.fault(path="/auth/admin", method="DELETE", no_answer=instead, processed=processed)
    assert keycloak.remove("learner-1") is True
    users = sunbird.get("keycloak-users").values()
    assert [user["username"] for user in users if user["enabled"] is False] == left
    assert [user["username"] for user in users] == left


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 403}, {"status": 200, "body": "html"}, {"status": 404}])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_user_that_can_not_be_blanked(sunbird, keycloak, fault, method):
    if method == "PUT" and fault["status"] == 200:
        fault = {"status": 302}
    sunbird.put("faults", [{"method": "DELETE", "status": 500}, {"path": "/auth/admin", "method": method, **fault}])
    with pytest.raises(ServiceRefused, match="Keycloak answers") as refused:
        keycloak.remove("learner-1")
    assert "learner-1" not in str(refused.value)
    assert list(sunbird.get("keycloak-users").values()) == [KEYCLOAK_USER]


@pytest.mark.parametrize("instead", ["silent", "broken"])
@pytest.mark.parametrize("patience", [IN_VAIN])
def test_a_keycloak_that_does_not_answer_is_asked_once(sunbird, keycloak, instead):
    sunbird.fault(path="/auth", no_answer=instead)
    with pytest.raises(StoreUnavailable):
        keycloak.remove("learner-1")
    assert sunbird.tries() == 1


def test_a_token_is_renewed_before_its_end_and_when_it_is_revoked(sunbird, keycloak):
    now = [1000.0]
    keycloak.clock = lambda: now[0]
    for seconds, tokens in ((0, 1), (289, 1), (2, 2)):
        now[0] += seconds
        keycloak.has("learner-1")
        assert sum(call["method"] == "POST" for call in sunbird.get("calls")) == tokens
    sunbird.put("faults", [{"path": "/auth/admin", "status": 401, "times": 1}])
    assert keycloak.has("learner-1") is True
    assert sum(call["method"] == "POST" for call in sunbird.get("calls")) == 3
    sunbird.fault(path="/auth/admin", status=401)
    with pytest.raises(ServiceRefused, match="401"):
        keycloak.has("learner-1")


def test_a_client_that_keycloak_does_not_know(sunbird):
    sunbird.put("settings", {"keycloak_client": "another:secret"})
    with pytest.raises(ServiceRefused, match="401 without a token") as refused:
        sunbird.clients().keycloak.has("learner-1")
    assert "stub-client" not in str(refused.value)


# --- many at once


def test_many_threads_use_one_client(sunbird):
    sunbird.put("settings", {"delay_ms": 200})
    rc = sunbird.clients().rc
    begin = time.monotonic()
    with ThreadPoolExecutor(64) as pool:
        osids = list(pool.map(lambda _: rc.create(RECORD), range(256)))
    took = time.monotonic() - begin
    assert len(set(osids)) == 256
    load = sunbird.get("load")
    assert (load["calls"], load["in_flight"]) == (256, 0)
    assert 32 < load["most_in_flight"] <= 64
    assert took < 256 * 0.2 / 4


def test_the_twin_tells_how_many_were_in_flight():
    http = MemoryHttp(f"flight-{uuid.uuid4()}")
    all_here = threading.Barrier(5)

    def handler(*_: object) -> tuple[int, str]:
        all_here.wait(SECONDS)
        return 200, "{}"

    client = http.serve(handler)
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda n: client.call("GET", f"http://sunbird.test/{n}"), range(10)))
    assert (client.in_flight, client.most_in_flight, client.count()) == (0, 5, 10)


# --- reads whose answers count by what they say


def user_reads(sunbird: Sunbird, **more: Any) -> UserReads:
    return UserReadApi(f"{sunbird.base}/", http=sunbird.http, retry_pauses=(0.01, 0.01), **more).open()


def test_a_user_is_read(sunbird):
    """spec: user-cache-updater §3.3"""
    sunbird.put("users", {"a/b ü": {"firstName": "x"}, "learner-2": "blocked"})
    user = user_reads(sunbird).read("a/b ü")
    assert (user["userId"], user["firstName"]) == ("a/b ü", "x")
    with pytest.raises(UserBlocked):
        user_reads(sunbird).read("learner-2")
    for unknown in ("learner-3", "..", ""):
        with pytest.raises(ServiceRefused) as refused:
            user_reads(sunbird, errors=()).read(unknown)
        assert not isinstance(refused.value, UserBlocked)
    with pytest.raises(ServiceRefused, match="400"):
        user_reads(sunbird, errors=("OTHER",), fields="a b,c").read("learner-2")
    query = "?fields=locations,organisations"
    assert [call["path"] for call in sunbird.get("calls")] == [
        f"/private/user/v1/read/a%2Fb%20%C3%BC{query}",
        f"/private/user/v1/read/learner-2{query}",
        f"/private/user/v1/read/learner-3{query}",
        "/private/user/v1/read/learner-2?fields=a%20b,c",
    ]


@pytest.mark.parametrize(
    "fault", [{"status": 401}, {"status": 500}, {"body": "html"}, {"body": "wrong"}, {"no_answer": "broken"}]
)
def test_a_read_is_tried_three_times(sunbird, fault):
    """spec: user-cache-updater §6"""
    sunbird.put("users", {"learner-1": {"firstName": "x"}})
    sunbird.put("frameworks/f", {"categories": [{"code": "board"}]})
    sunbird.fault(**fault)
    frameworks = FrameworkReads(FrameworkReadApi(sunbird.base, http=sunbird.http, retry_pauses=(0.01, 0.01)))
    for read in (lambda: user_reads(sunbird).read("learner-1"), lambda: frameworks.categories("f")):
        before = sunbird.tries()
        with pytest.raises(StoreUnavailable):
            read()
        assert sunbird.tries() == before + 3
    sunbird.fault(**fault, times=2)
    assert user_reads(sunbird).read("learner-1")["firstName"] == "x"


def test_nobody_gives_a_user(sunbird):
    api = UserReadApi(sunbird.nobody, http=sunbird.nowhere, retry_pauses=(0.01,))
    with pytest.raises(StoreUnavailable, match="does not answer"):
        api.open().read("learner-1")


def test_categories_are_remembered_for_a_day(sunbird):
    """spec: user-cache-updater §3.3, §8.8"""
    now = [1000.0]
    frameworks = FrameworkReads(FrameworkReadApi(sunbird.base, http=sunbird.http))
    frameworks.clock = lambda: now[0]
    assert frameworks.categories("f") == ()
    sunbird.put("frameworks/f", {"categories": [{"code": "board"}, {"name": "x"}, None, {"code": "gradeLevel"}]})
    assert [frameworks.categories("f") for _ in range(3)] == [("board", "gradeLevel")] * 3
    assert sunbird.tries() == 2, "that there are none is not remembered"
    now[0] += 86_399
    frameworks.categories("f")
    assert sunbird.tries() == 2
    now[0] += 1
    frameworks.categories("f")
    assert sunbird.tries() == 3
    sunbird.put("frameworks/f", {"categories": "x"})
    now[0] += 86_400
    assert frameworks.categories("f") == frameworks.categories("..") == ()


def test_so_many_frameworks_are_remembered():
    http = MemoryHttp(f"frameworks-{uuid.uuid4()}")
    text = '{"responseCode":"OK","result":{"framework":{"categories":[{"code":"board"}]}}}'
    calls = http.serve(lambda *_: (200, text))
    frameworks = FrameworkReadApi("http://sunbird.test", http=http).open()
    for number in range(FRAMEWORKS_REMEMBERED + 1):
        frameworks.categories(f"f-{number}")
    calls.clear()
    frameworks.categories(f"f-{FRAMEWORKS_REMEMBERED}")
    assert calls.count() == 0
    frameworks.categories("f-0")
    assert calls.count() == 1
