"""MSG91 and FCM, over the in-memory client and over sockets, against the same stand-ins (spec: §3.2, §3.3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.local.notification_providers import FCM_KEY, SMS_KEY
from io_connectors import fcm
from io_connectors.fcm import FcmV1, LegacyFcm
from io_connectors.msg91 import Msg91, form_encoded
from tests.contract import test_services
from transforms.services import OutcomeUnknown, ServiceRefused
from transforms.stores import StoreUnavailable

server = test_services.server
patience = test_services.patience
sunbird = test_services.sunbird

NUMBERS = ["+910000000001", "0000000002"]
TEXT = "Marks: 95% & rank 1"
DATA = {"title": "New", "badge": 3, "more": {"a": [1, None]}}
TOKENS = ["token-1", "token-2"]
PERSONAL = (*NUMBERS, *TOKENS, TEXT, "New", SMS_KEY, FCM_KEY, "PRIVATE")


@pytest.fixture(scope="module")
def keys() -> tuple[str, str]:
    """A private key and its public half, PEM."""
    private = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.private_bytes(*form).decode(), public.decode()


class Providers:
    """The clients, for one stand-in."""

    def __init__(self, sunbird: Any, keys: tuple[str, str]) -> None:
        self.sunbird = sunbird
        self.keys = keys

    def account(self, **changed: Any) -> str:
        """The service account's JSON."""
        members = {
            "type": "service_account",
            "project_id": "school-1",
            "client_email": "sender@school-1.example",
            "private_key": self.keys[0],
            "token_uri": f"{self.sunbird.base}/oauth2/token",
        }
        return json.dumps({**members, **changed})

    def sms(self, key: str = SMS_KEY, **changed: Any) -> Any:
        recipe = {"sender": "TesSun", "http": self.sunbird.http, **changed}
        return Msg91(f"{self.sunbird.base}/api/v2/sendsms", key, **recipe).open()

    def legacy(self, key: str = FCM_KEY) -> Any:
        return LegacyFcm(f"{self.sunbird.base}/fcm/send", key, self.sunbird.http).open()

    def v1(self, account: str | None = None) -> Any:
        self.sunbird.put("settings", {"fcm_public_key": self.keys[1]})
        return FcmV1(f"{self.sunbird.base}/fcm/send", account or self.account(), self.sunbird.http).open()

    def calls(self, path: str) -> int:
        return sum(call["path"].startswith(path) for call in self.sunbird.get("calls"))


@pytest.fixture
def providers(sunbird: Any, keys: tuple[str, str]) -> Providers:
    return Providers(sunbird, keys)


Send = Callable[[Providers], Any]
SENDS: dict[str, tuple[str, Send]] = {
    "sms": ("/api", lambda p: p.sms().send(NUMBERS, TEXT)),
    "legacy": ("/fcm", lambda p: p.legacy().to_devices(TOKENS, DATA)),
    "legacy topic": ("/fcm", lambda p: p.legacy().to_topic("all", DATA)),
    "v1": ("/v1", lambda p: p.v1().to_devices(TOKENS[:1], DATA)),
    "v1 topic": ("/v1", lambda p: p.v1().to_topic("all", DATA)),
}
every_send = pytest.mark.parametrize("name", SENDS)


def outcome(name: str, providers: Providers) -> type[Exception] | None:
    """What comes of it: None, or the kind of error, which tells nothing of what was sent."""
    told = ""
    try:
        SENDS[name][1](providers)
    except (ServiceRefused, StoreUnavailable) as error:
        told = str(error)
        return next(kind for kind in (OutcomeUnknown, StoreUnavailable, ServiceRefused) if isinstance(error, kind))
    finally:
        assert not [text for text in PERSONAL if text in told]
    return None


# --- what is sent


def test_one_sms_for_all_numbers(providers: Providers) -> None:
    """§9 case 5"""
    providers.sms().send(NUMBERS, TEXT)
    assert providers.sunbird.get("text_messages") == [
        {
            "sender": "TesSun",
            "route": "4",
            "country": "91",
            "sms": [{"message": "Marks%3A+95%25+%26+rank+1", "to": NUMBERS}],
        }
    ]


def test_the_text_is_form_encoded() -> None:
    assert form_encoded("Hi & welcome, 100% ~ü*") == "Hi+%26+welcome%2C+100%25+%7E%C3%BC*"
    assert form_encoded("aZ09.-*_\n/") == "aZ09.-*_%0A%2F"


def test_a_key_that_is_not_the_providers(providers: Providers) -> None:
    with pytest.raises(ServiceRefused, match="MSG91 answers 401"):
        providers.sms("wrong").send(NUMBERS, TEXT)
    with pytest.raises(ServiceRefused, match="FCM answers 401"):
        providers.legacy("key=wrong").to_devices(TOKENS, DATA)
    with pytest.raises(ServiceRefused, match="fcm_account_key"):
        providers.legacy(" ").to_topic("all", DATA)
    assert providers.sunbird.get("pushes") == []


def test_a_legacy_push_to_devices(providers: Providers) -> None:
    """§9 case 6: some devices are unknown, the answer has members that nobody knows"""
    said = providers.legacy().to_devices(["token-1", "gone-2"], DATA)
    assert said == {"success": 1, "failure": 1, "canonical_ids": 0}
    assert providers.sunbird.get("pushes") == [
        {"data": DATA, "dry_run": False, "registration_ids": ["token-1", "gone-2"]}
    ]
    assert providers.legacy().to_devices(["gone-1"], DATA)["success"] == 0


def test_a_legacy_push_to_a_topic(providers: Providers) -> None:
    """§9 case 7: a message_id of 63 bits"""
    assert providers.legacy().to_topic("all-teachers", DATA) == {}
    assert providers.sunbird.get("pushes") == [{"data": DATA, "dry_run": False, "to": "/topics/all-teachers"}]


@pytest.mark.parametrize("body", ["html", "empty"])
def test_a_legacy_answer_without_an_object(providers: Providers, body: str) -> None:
    providers.sunbird.fault(status=200, body=body)
    with pytest.raises(ServiceRefused, match="without a JSON object"):
        providers.legacy().to_topic("all", DATA)


def test_a_v1_push_to_devices(providers: Providers) -> None:
    said = providers.v1().to_devices(["token-1", "gone-2", "token-3"], DATA)
    assert said == {"success": 2, "failure": 1}
    sent = sorted(providers.sunbird.get("pushes"), key=lambda push: push["token"])
    texts = {"title": "New", "badge": "3", "more": '{"a":[1,null]}'}
    assert sent == [{"token": "token-1", "data": texts}, {"token": "token-3", "data": texts}]
    assert providers.calls("/oauth2/token") == 1
    assert providers.calls("/v1/projects/school-1/messages:send") == 3


def test_a_v1_push_to_devices_of_which_none_is_known(providers: Providers) -> None:
    with pytest.raises(ServiceRefused, match="FCM answers 404"):
        providers.v1().to_devices(["gone-1", "gone-2"], DATA)


def test_a_v1_push_to_a_topic(providers: Providers) -> None:
    providers.v1().to_topic("all-teachers", {"title": "New"})
    assert providers.sunbird.get("pushes") == [{"topic": "all-teachers", "data": {"title": "New"}}]


def test_an_account_in_a_file(providers: Providers, tmp_path: Path) -> None:
    file = tmp_path / "account.json"
    file.write_text(providers.account())
    providers.v1(str(file)).to_topic("all", DATA)
    assert len(providers.sunbird.get("pushes")) == 1


@pytest.mark.parametrize("account", ["/no/such/file", "{", "{}", '{"project_id": "p"}'])
def test_an_account_that_is_none(account: str) -> None:
    with pytest.raises(ValueError, match=r"^fcm_service_account: "):
        FcmV1("http://fcm.test/fcm/send", account).open()


def test_a_token_is_used_until_it_is_refused(providers: Providers) -> None:
    pushes = providers.v1()
    pushes.to_topic("all", DATA)
    pushes.to_topic("all", DATA)
    assert providers.calls("/oauth2/token") == 1
    providers.sunbird.put("settings", {"fcm_tokens": []})
    pushes.to_topic("all", DATA)
    assert providers.calls("/oauth2/token") == 2
    assert len(providers.sunbird.get("pushes")) == 3


def test_a_key_that_is_not_the_account_s(providers: Providers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent, and who waits for the same token does not ask for it again at once."""
    other = rsa.generate_private_key(public_exponent=65_537, key_size=2_048).public_key()
    pem = other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    pushes = providers.v1()
    providers.sunbird.put("settings", {"fcm_public_key": pem.decode()})
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="no access token"):
            pushes.to_devices(TOKENS, DATA)
    assert providers.calls("/oauth2/token") == 1
    assert providers.calls("/v1") == 0
    monkeypatch.setattr(fcm, "SECONDS_WITHOUT_TOKEN", 0.0)
    providers.sunbird.put("settings", {"fcm_public_key": providers.keys[1]})
    assert pushes.to_devices(TOKENS, DATA) == {"success": 2, "failure": 0}


def test_a_push_that_is_no_json(providers: Providers) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    for pushes in (providers.legacy(), providers.v1()):
        with pytest.raises(ServiceRefused, match="can be sent as JSON"):
            pushes.to_topic("all", {"deep": deep})


def test_a_key_that_no_header_can_hold(providers: Providers) -> None:
    with pytest.raises(StoreUnavailable):
        providers.sms("a\nb").send(NUMBERS, TEXT)
    assert providers.sunbird.get("text_messages") == []


# --- answers that are none


@every_send
def test_good(providers: Providers, name: str) -> None:
    assert outcome(name, providers) is None
    assert providers.calls(SENDS[name][0]) == 1


@every_send
@pytest.mark.parametrize("status", [302, 400, 404, 500])
def test_a_refusal_is_final(providers: Providers, name: str, status: int) -> None:
    """No redirect of a POST is followed."""
    path = SENDS[name][0]
    providers.sunbird.fault(status=status, path=path)
    assert outcome(name, providers) is ServiceRefused
    assert providers.calls(path) == 1


@every_send
@pytest.mark.parametrize("status", [429, 503])
def test_later_is_tried_again(providers: Providers, name: str, status: int) -> None:
    path = SENDS[name][0]
    providers.sunbird.fault(status=status, path=path, times=2)
    assert outcome(name, providers) is None
    assert providers.calls(path) == 3
    providers.sunbird.fault(status=status, path=path)
    assert outcome(name, providers) is StoreUnavailable


@every_send
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 408},
        {"status": 502},
        {"status": 504},
        {"no_answer": "broken"},
        {"no_answer": "broken", "processed": True},
    ],
)
def test_what_may_have_been_sent_is_not_sent_again(providers: Providers, name: str, fault: dict[str, Any]) -> None:
    path = SENDS[name][0]
    providers.sunbird.fault(path=path, **fault)
    assert outcome(name, providers) is OutcomeUnknown
    assert providers.calls(path) == 1


class TestWithoutPatience:
    @pytest.fixture
    def patience(self) -> float:
        return test_services.IN_VAIN

    @every_send
    def test_no_answer_in_time(self, providers: Providers, name: str) -> None:
        providers.sunbird.fault(path=SENDS[name][0], no_answer="silent")
        assert outcome(name, providers) is OutcomeUnknown
        assert providers.calls(SENDS[name][0]) == 1

    def test_of_many_devices_not_all_are_waited_for(self, providers: Providers) -> None:
        pushes = providers.v1()
        providers.sunbird.fault(path="/v1", no_answer="silent")
        with pytest.raises(OutcomeUnknown):
            pushes.to_devices([f"token-{number}" for number in range(100)], DATA)
        assert providers.calls("/v1") < 3 * fcm.DEVICES_AT_ONCE


def test_nobody_is_there(providers: Providers) -> None:
    base, http = providers.sunbird.nobody, providers.sunbird.nowhere
    away = [
        lambda: Msg91(f"{base}/api/v2/sendsms", http=http).open().send(NUMBERS, TEXT),
        lambda: LegacyFcm(f"{base}/fcm/send", FCM_KEY, http).open().to_topic("all", DATA),
        lambda: FcmV1(f"{base}/", providers.account(token_uri=f"{base}/token"), http).open().to_topic("all", DATA),
    ]
    for send in away:
        with pytest.raises(StoreUnavailable) as error:
            send()
        assert not isinstance(error.value, OutcomeUnknown)


@dataclass(frozen=True)
class Counting:
    """A pace that counts those who asked."""

    asked: list[int]

    def open(self) -> Counting:
        return self

    def wait(self) -> None:
        self.asked.append(1)

    def __hash__(self) -> int:
        return id(self.asked)


def test_each_send_waits_for_its_turn(providers: Providers) -> None:
    pace: Any = Counting([])
    base, http = providers.sunbird.base, providers.sunbird.http
    Msg91(f"{base}/api/v2/sendsms", SMS_KEY, http=http, pace=pace).open().send(NUMBERS, TEXT)
    LegacyFcm(f"{base}/fcm/send", FCM_KEY, http, pace).open().to_devices(TOKENS, DATA)
    FcmV1(f"{base}/fcm/send", providers.account(), http, pace).open().to_devices(TOKENS, DATA)
    assert len(pace.asked) == 3
