"""The acceptance cases of notification-job §9, what is promised of sending twice, and any record in any batch."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from itertools import count
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from apache_beam.pvalue import TaggedOutput
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.notification_providers import FCM_KEY, SMS_KEY
from deploy.local.stub_behaviour import StubServices
from io_connectors.fcm import LegacyFcm
from io_connectors.memory_http import MemoryHttp
from io_connectors.memory_mail import MemoryMailServer
from io_connectors.msg91 import Msg91
from io_connectors.smtp import Smtp
from io_connectors.threads import Threads
from pipelines import notification_job as job
from pipelines.configuration import load
from pipelines.in_memory import InMemory
from pipelines.runtime import RunRequest, run
from pipelines.settings import SettingsError, UsageError
from schemas.counters import COUNTERS
from schemas.event_schemas import validator
from tests.pipelines.certificate_site import Died
from tests.pipelines.test_fuzz import EXAMPLES, as_json, fuzz, records, values
from transforms.counters import counted_in_this_process, forget_counts
from transforms.decode import Record
from transforms.notification import ACTION
from transforms.send_notifications import RETRY, SelectNotifications, Senders, SendNotifications, Work

TOPIC, FAILED = "dev.lms.notification", "dev.lms.notification.failed"
TOTAL, SUCCESS, PUT_BACK, SKIPPED = COUNTERS[job.NAME]
ONE, TWO, THREE = (f"learner-{number}@school.example" for number in (1, 2, 3))
NUMBER = "+910000000001"
HTML = "<html><body><p>Dear learner, well done.</p></body></html>"

AGAIN, LETTER = validator("notification-retry"), validator("dead-letter")

numbers = count()


def event(mode: Any = "email", iteration: Any = 1, mid: Any = "NS.1717400000111.1", **request: Any) -> bytes:
    notification = {
        "mode": mode,
        "deliveryType": "message",
        "config": {
            "sender": "noreply@school.example",
            "topic": None,
            "otp": None,
            "subject": "Your certificate is ready",
        },
        "ids": [ONE],
        "template": {"id": None, "data": HTML, "params": {"firstName": "learner"}},
        "rawData": None,
        **request,
    }
    return orjson.dumps(
        {
            "actor": {"id": "BroadCast Topic Notification", "type": "System"},
            "eid": "BE_JOB_REQUEST",
            "mid": mid,
            "trace": {"X-Request-ID": None, "X-Trace-Enabled": "false"},
            "ets": 1717400000111,
            "edata": {
                "action": ACTION,
                "iteration": iteration,
                "request": {"notification": {n: value for n, value in notification.items() if value is not ...}},
            },
            "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
            "object": {"id": "8a1f3c", "type": "TopicNotifyAll"},
        }
    )


def sms(*ids: str, **more: Any) -> bytes:
    return event("phone", ids=list(ids or [NUMBER]), template={"data": "Marks: 95% & rank 1"}, **more)


def push(*ids: str, topic: str | None = None, **more: Any) -> bytes:
    data = {"title": "New", "badge": 3}
    return event("device", ids=list(ids) or None, config={"topic": topic}, rawData=data, template=..., **more)


class Site:
    """An installation in memory, and the job on it."""

    def __init__(self, at_once: int = 4, **settings: Any) -> None:
        self.name = f"notifications-{next(numbers)}"
        self.server = MemoryMailServer(self.name)
        self.mails = self.server.open()
        self.stubs = StubServices()
        http = MemoryHttp(self.name)
        self.http = http.serve(self.stubs.in_memory)
        self.settings = {"job.env": "dev", "task.calls.at.once": at_once, **settings}
        self.senders = Senders(
            mails=self.server,
            text_messages=Msg91("http://msg91.test/api/v2/sendsms", SMS_KEY, "TesSun", http=http),
            pushes=LegacyFcm("http://fcm.test/fcm/send", FCM_KEY, http),
            calls=Threads(self.name, at_once),
        )
        self.written: dict[str, list[tuple[bytes | None, bytes]]] = {}
        self.counts: dict[str, int] = {}

    def run(self, *values: bytes | None) -> Site:
        ran = InMemory(job, job.Settings(**self.settings), self.senders).run(*values, topic="notifications")
        self.written, self.counts = ran.written, ran.counted
        assert self.counts.keys() <= set(COUNTERS[job.NAME])
        assert self.counts[TOTAL] == len(values)
        assert sum(self.counts.get(name, 0) for name in (SUCCESS, PUT_BACK, SKIPPED)) == len(values)
        for again in self.put_back:
            AGAIN.validate(orjson.loads(again))
        for letter in self.letters:
            LETTER.validate(letter)
        return self

    @property
    def put_back(self) -> list[bytes]:
        """What was written to the input topic."""
        assert all(key is None for key, _ in self.written[TOPIC])
        return [value for _, value in self.written[TOPIC]]

    @property
    def letters(self) -> list[dict[str, Any]]:
        return [orjson.loads(value) for _, value in self.written.get(FAILED, [])]

    @property
    def got(self) -> list[tuple[str, ...]]:
        """The recipients of each mail that was sent."""
        return [mail.recipients for mail in self.mails.mails]


WITH_LETTERS = {"kafka.output.failed.topic": FAILED}


@pytest.fixture
def site() -> Site:
    return Site()


# --- the acceptance cases


def test_a_mail(site: Site) -> None:
    """§9 case 1"""
    validator("notification").validate(orjson.loads(event()))
    site.run(event())
    [mail] = site.mails.mails
    message = cast(EmailMessage, message_from_bytes(mail.message, policy=default))
    assert mail.recipients == (ONE,)
    assert (message["to"], message["subject"]) == (ONE, "Your certificate is ready")
    assert (message.get_content_type(), message.get_content_charset()) == ("text/html", "utf-8")
    assert message.get_payload(decode=True) == HTML.encode()
    assert site.counts == {TOTAL: 1, SUCCESS: 1}
    assert site.put_back == []


def test_a_mail_to_many(site: Site) -> None:
    """§9 case 2"""
    site.run(event(ids=[ONE, TWO, THREE]))
    assert site.got == [(ONE, TWO, THREE)]
    assert b"learner-" not in site.mails.mails[0].message


@pytest.mark.parametrize("more", [{}, WITH_LETTERS])
def test_refused_twice(more: dict[str, Any]) -> None:
    """§9 cases 3 and 4"""
    site = Site(**more)
    site.mails.refused.add(TWO)
    sent = event(ids=[ONE, TWO])
    site.run(sent)
    assert site.counts == {TOTAL: 1, PUT_BACK: 1}
    [again] = site.put_back
    before, after = orjson.loads(sent), orjson.loads(again)
    assert after["edata"]["iteration"] == 2
    assert "ets" not in after
    assert all(before[name] == after[name] for name in ("mid", "trace", "context", "object"))
    site.run(again)
    assert site.counts == {TOTAL: 1, SKIPPED: 1}
    assert site.put_back == []
    assert [letter["jobName"] for letter in site.letters] == ([job.NAME] if more else [])
    assert site.got == []
    site.mails.refused.clear()
    site.run(again)
    assert site.got == [(ONE, TWO)]


def test_an_sms(site: Site) -> None:
    """§9 case 5"""
    sent = event("phone", ids=["+910000000001", "12345", "", "0000000002"], template={"data": "Marks: 95% & rank 1"})
    site.run(sent)
    [found] = site.stubs.services.text_messages
    assert found["sms"] == [{"message": "Marks%3A+95%25+%26+rank+1", "to": ["+910000000001", "0000000002"]}]
    assert [call.path for call in site.http.calls] == ["/api/v2/sendsms"]
    assert site.counts == {TOTAL: 1, SUCCESS: 1}
    site.stubs.services.sms_key = "another"
    site.run(sent)
    assert site.counts == {TOTAL: 1, PUT_BACK: 1}
    assert len(site.put_back) == 1


def test_a_push_to_devices(site: Site) -> None:
    """§9 case 6"""
    site.run(push("token-1", "gone-2"))
    [found] = site.stubs.services.pushes
    assert found == {
        "data": {"title": "New", "badge": 3},
        "dry_run": False,
        "registration_ids": ["token-1", "gone-2"],
    }
    assert site.counts == {TOTAL: 1, SUCCESS: 1}


def test_a_push_to_a_topic(site: Site) -> None:
    """§9 case 7"""
    site.run(push(topic="all-teachers"))
    assert [found["to"] for found in site.stubs.services.pushes] == ["/topics/all-teachers"]
    assert site.counts == {TOTAL: 1, SUCCESS: 1}


@pytest.mark.parametrize("more", [{}, WITH_LETTERS])
def test_what_is_not_usable_stops_nothing(more: dict[str, Any]) -> None:
    """§9 case 8"""
    site = Site(**more)
    site.run(b"no json", orjson.dumps({"edata": {"action": "other-action"}}), event(template=...), event())
    assert site.got == [(ONE,)]
    assert site.counts == {TOTAL: 4, SUCCESS: 1, SKIPPED: 3}
    assert site.put_back == []
    reasons = sorted(letter["failInfo"]["error"] for letter in site.letters)
    assert [reason.split(":")[0] for reason in reasons] == (["no template", "not JSON"] if more else [])


def test_modes(site: Site) -> None:
    """§9 case 9"""
    site.run(event("EMAIL"), event("Phone", ids=[NUMBER]), event("pigeon"), event("pigeon", 2))
    assert site.got == [(ONE,)]
    assert len(site.stubs.services.text_messages) == 1
    assert site.counts == {TOTAL: 4, SUCCESS: 2, PUT_BACK: 1, SKIPPED: 1}
    assert [orjson.loads(again)["edata"]["request"]["notification"]["mode"] for again in site.put_back] == ["pigeon"]


def test_tombstones_and_other_json_are_skipped(site: Site) -> None:
    """core §15 case 2"""
    site.run(None, b"", b"[1,2]", b'{"eid":', event())
    assert site.counts == {TOTAL: 5, SUCCESS: 1, SKIPPED: 4}


# --- what is promised


def test_a_server_that_is_away_costs_two_tries_and_no_more() -> None:
    site = Site(**WITH_LETTERS)
    site.mails.unavailable = True
    site.run(event(), sms())
    assert site.counts == {TOTAL: 2, SUCCESS: 1, PUT_BACK: 1}
    site.run(*site.put_back)
    assert site.counts == {TOTAL: 1, SKIPPED: 1}
    [letter] = site.letters
    assert letter["edata"] == {**orjson.loads(event())["edata"], "iteration": 2}
    assert "second try" in letter["failInfo"]["error"]


def test_what_may_have_been_sent_is_not_sent_again() -> None:
    """Neither by a retry event; what becomes of it is told."""
    site = Site(**WITH_LETTERS)
    site.mails.unknown = 1
    site.stubs.faults = [{"path": "/", "status": 504}]
    site.run(event(), sms(), push("token-1"))
    assert site.counts == {TOTAL: 3, SKIPPED: 3}
    assert site.put_back == []
    assert {letter["failInfo"]["error"].split("; ")[1] for letter in site.letters} == {
        "it may have been sent, so it is not sent again"
    }
    assert site.got == [(ONE,)]


def test_unless_it_is_wanted() -> None:
    site = Site(**{"notification.retry.unknown": True})
    site.mails.unknown = 2
    site.run(event())
    assert site.counts == {TOTAL: 1, PUT_BACK: 1}
    site.run(*site.put_back)
    assert site.counts == {TOTAL: 1, SKIPPED: 1}
    assert site.got == [(ONE,), (ONE,)]
    messages = [message_from_bytes(mail.message) for mail in site.mails.mails]
    assert len({message["message-id"] for message in messages}) == 1, "who gets both can tell"


def test_within_a_try_what_was_refused_for_now_is_tried_again(site: Site) -> None:
    site.stubs.faults = [{"path": "/", "status": 503, "times": 2}]
    site.run(sms())
    assert site.counts == {TOTAL: 1, SUCCESS: 1}
    assert len(site.http.calls) == 3
    assert len(site.stubs.services.text_messages) == 1


class Dies:
    """Mails that are sent until the worker dies at one of them, before or after it is sent."""

    def __init__(self, server: MemoryMailServer, at: int, after: bool) -> None:
        self._server, self._left, self._after = server, at, after
        self._lock = threading.Lock()

    def open(self) -> Dies:
        return self

    def send(self, *arguments: Any) -> None:
        with self._lock:
            dies, self._left = self._left == 0, self._left - 1
        if not dies or self._after:
            self._server.open().send(*arguments)
        if dies:
            raise Died


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(4))
def test_a_worker_that_dies_loses_nothing(at: int, after: bool) -> None:
    """Its records come again: each notification is sent, none more often than the worker died and once."""
    site = Site(at_once=1)
    events = [event(ids=[f"learner-{number}@school.example"], mid=f"NS.{number}") for number in range(4)]
    step = SendNotifications(
        job.NAME,
        replace(site.senders, mails=Dies(site.server, at, after)),
        size=2,
        keep_failed=False,
        retry_unknown=False,
    )
    step.setup()
    step.start_bundle()
    works = [(b"0", Work(str(place), value).to_bytes()) for place, value in enumerate(events)]
    with pytest.raises(Died):
        deque(map(step.process, works))
    site.run(*events)
    times = Counter(site.got)
    assert len(times) == 4
    assert max(times.values()) <= 2
    ids = {(mail.recipients, message_from_bytes(mail.message)["message-id"]) for mail in site.mails.mails}
    assert len(ids) == 4, "the same mail has the same id"


def test_so_many_at_once_and_no_more(site: Site) -> None:
    """Slow sends wait side by side, within the bound."""
    site.stubs.delay_ms = 100
    begun = time.monotonic()
    site.run(*(sms(mid=f"NS.{number}") for number in range(16)))
    assert site.counts == {TOTAL: 16, SUCCESS: 16}
    assert site.http.most_in_flight == 4
    assert time.monotonic() - begun >= 0.4


def test_one_fault_of_the_program_is_one_notification(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Its own words stay out of the log."""

    class Broken:
        def open(self) -> Broken:
            return self

        def send(self, *_: Any) -> None:
            raise KeyError(NUMBER)

    site = Site(**WITH_LETTERS)
    site.senders = replace(site.senders, text_messages=Broken())
    site.run(sms(), event(), sms())
    assert site.counts == {TOTAL: 3, SUCCESS: 1, SKIPPED: 2}
    assert [letter["failInfo"]["error"] for letter in site.letters] == ["could not be handled: KeyError"] * 2
    assert NUMBER not in caplog.text


def test_an_event_that_can_not_be_written_again_is_told(site: Site) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    text = orjson.dumps(orjson.loads(event("pigeon"))).replace(b'"8a1f3c"', b"[" * 300 + b"]" * 300)
    site = Site(**WITH_LETTERS)
    site.run(text)
    assert site.counts == {TOTAL: 1, SKIPPED: 1}
    [letter] = site.letters
    assert letter["rawEvent"] == text.decode()


def test_nothing_personal_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    site = Site(**WITH_LETTERS)
    site.mails.refused.add(TWO)
    site.mails.unknown = 1
    site.stubs.faults = [{"path": "/fcm", "status": 500, "times": 1}]
    bad = [
        event(ONE),
        event(mid=5, template=...),
        event()[:-3],
        b'"' + NUMBER.encode() + b'"',
        event(ids=[f"<{THREE}>", 5]),
    ]
    site.run(event(), event(ids=[ONE, TWO]), sms(), sms("12345"), push("token-1"), push("token-2", iteration=2), *bad)
    for again in site.put_back:
        site.run(again)
    assert [r for r in caplog.records if r.name == "transforms.send_notifications"]
    personal = [ONE, TWO, THREE, NUMBER, "12345", "token-1", "token-2", "Marks", "well done", "certificate is ready"]
    assert [word for word in (*personal, SMS_KEY, FCM_KEY) if word in caplog.text] == []
    assert "NS.1717400000111.1" in caplog.text


def test_no_number_of_dead_letters_stops_it(tmp_path: Path) -> None:
    """A job that stops sends again, at each restart, what it had sent since the checkpoint."""
    (tmp_path / "events.jsonl").write_bytes(b"no json\n" * 3 + event("pigeon", 2) + b"\n")
    overrides = ["job.env=dev", f"kafka.output.failed.topic={FAILED}", "dead-letters.max-in-a-row=1"]
    loaded = load(job.Settings, [], overrides, {}, job_name=job.NAME)
    assert run(job, loaded, RunRequest(input=tmp_path / "events.jsonl", output=tmp_path / "out")) == 0
    assert len((tmp_path / "out" / f"{FAILED}.jsonl").read_bytes().splitlines()) == 4
    # nothing was put back, and so its topic has no file
    assert [file.name for file in (tmp_path / "out").iterdir()] == [f"{FAILED}.jsonl"]


def test_what_an_earlier_run_wrote_is_not_lost_by_being_read(tmp_path: Path) -> None:
    letters = tmp_path / f"{FAILED}.jsonl"
    letters.write_bytes(event() + b"\n")
    loaded = load(job.Settings, [], [f"kafka.output.failed.topic={FAILED}"], {}, job_name=job.NAME)
    with pytest.raises(UsageError, match=r"--input .* is the file that --output would be written to"):
        run(job, loaded, RunRequest(input=letters, output=tmp_path))
    assert letters.read_bytes() == event() + b"\n"


# --- any records, in any batch

SENT = [
    event(),
    event(ids=[ONE, TWO]),
    sms(),
    sms("1"),
    push("t1"),
    push(),
    push(topic="all"),
    event("pigeon"),
    event(5),
]
CHOICES = [*SENT, *(value.replace(b'"iteration":1', b'"iteration":2') for value in SENT), b"no json", b"{}", None]


def handled(site: Site, size: int, *values: bytes | None) -> list[TaggedOutput]:
    """What the steps give for these records, without a pipeline around them."""
    select = SelectNotifications(job.NAME, 8, keep_failed=True)
    send = SendNotifications(job.NAME, site.senders, size=size, keep_failed=True, retry_unknown=False)
    send.setup()
    send.start_bundle()
    outputs: list[TaggedOutput] = []
    for offset, value in enumerate(values):
        for output in select.process(Record(value, "topic", 0, offset, 2)):
            outputs += send.process(output) if isinstance(output, tuple) else [output]
    return outputs + [TaggedOutput(output.tag, output.value.value) for output in send.finish_bundle()]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(CHOICES), max_size=12), st.integers(1, 5))
def test_any_batch_like_one_by_one(chosen: Sequence[bytes | None], size: int) -> None:
    """Nobody's outcome depends on who travels with it, and each is sent once."""

    def outcome(site: Site, batches: Sequence[Sequence[bytes | None]]) -> tuple[Any, ...]:
        site.mails.refused.add(TWO)
        forget_counts(job.NAME)
        outputs = [output for batch in batches for output in handled(site, size, *batch)]
        services = site.stubs.services
        sent = Counter(site.got), len(services.text_messages), len(services.pushes)
        return Counter((o.tag, o.value) for o in outputs), counted_in_this_process(job.NAME), sent

    assert outcome(Site(), [chosen]) == outcome(Site(), [[one] for one in chosen])


requests = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["email", "phone", "device", "PHONE", "pigeon"]) | values,
        "ids": st.lists(st.sampled_from([ONE, NUMBER, "", "\r\n"]) | values, max_size=4) | values,
        "template": st.fixed_dictionaries({"data": st.text() | values}) | values,
        "config": st.fixed_dictionaries({"subject": st.text() | values, "topic": st.text() | values}) | values,
        "rawData": st.dictionaries(st.text(max_size=5), values, max_size=4) | values,
    },
)
events = st.fixed_dictionaries(
    {
        "edata": st.fixed_dictionaries(
            {"action": st.sampled_from([ACTION, ACTION.upper()])},
            optional={
                "request": st.fixed_dictionaries({"notification": requests | values}) | values,
                "iteration": st.sampled_from([1, 2, 1.5]) | values,
            },
        )
    },
    optional={name: values for name in ("mid", "actor", "eid", "trace", "context", "object")},
)

FUZZED = Site()


@settings(fuzz, max_examples=EXAMPLES // 8)
@given(records | st.builds(as_json, events))
def test_any_json_is_sent_put_back_skipped_or_a_dead_letter(value: bytes | None) -> None:
    """Nothing is raised, whatever arrives; each record has one outcome."""
    forget_counts(job.NAME)
    outputs = handled(FUZZED, 1, value)
    counts = counted_in_this_process(job.NAME)
    assert counts.pop(TOTAL) == 1
    assert sum(counts.values()) == 1
    written = [output.tag for output in outputs]
    if counts.get(SUCCESS):
        assert written == []
    elif counts.get(PUT_BACK):
        assert written == [RETRY]
        AGAIN.validate(orjson.loads(outputs[0].value))
    for output in outputs:
        if output.tag != RETRY:
            LETTER.validate(orjson.loads(output.value))
            assert "could not be handled" not in orjson.loads(output.value)["failInfo"]["error"]
    FUZZED.mails.mails.clear()
    FUZZED.http.clear()


# --- settings


def settings_of(*overrides: str) -> job.Settings:
    return cast(job.Settings, load(job.Settings, [], ["job.env=dev", *overrides], {}, job_name=job.NAME).settings)


def test_a_blank_key_gives_way_to_that_of_sunbird() -> None:
    """§5"""
    other = [
        *("sunbird_mail_server_host=mail-2", "sunbird_mail_server_port=2525", "sunbird_mail_server_username=user-2"),
        *("sunbird_mail_server_password=secret-2", "sunbird_mail_server_from_email=a@b.c", "sunbird_msg_91_auth=key-2"),
        "sunbird_notification_msg_default_sender=Second",
    ]
    blank = [
        "mail_server_host=",
        "mail_server_port=",
        "mail_server_from_email= ",
        "sms_auth_key=",
        "sms_default_sender=",
    ]
    for more in ([], [*blank, "mail_server_from_email= "]):
        senders = job.stores(settings_of(*other, *more))
        mails, texts = cast(Smtp, senders.mails), cast(Msg91, senders.text_messages)
        assert (mails.host, mails.port, mails.sender) == ("mail-2", 2525, "a@b.c")
        assert (mails.username, mails.password) == ("user-2", "secret-2")
        assert (texts.key, texts.sender) == ("key-2", "Second")
    own = ["mail_server_host=mail-1", "mail_server_port=25", "mail_server_password=secret-1", "sms_auth_key=key-1"]
    senders = job.stores(settings_of(*other, *own))
    mails, texts = cast(Smtp, senders.mails), cast(Msg91, senders.text_messages)
    assert (mails.host, mails.port, mails.password, texts.key) == ("mail-1", 25, "secret-1", "key-1")


def test_the_defaults() -> None:
    """§5"""
    found = settings_of()
    assert (found.kafka_input_topic, found.kafka_group_id) == (TOPIC, "dev.lms.notification.group")
    senders = job.stores(found)
    mails, texts, pushes = cast(Smtp, senders.mails), cast(Msg91, senders.text_messages), senders.pushes
    assert (mails.host, mails.port, mails.sender, mails.starttls) == ("", 25, "support@open-sunbird.org", False)
    assert mails.timeout == 30
    assert texts == replace(texts, url="http://api.msg91.com/api/v2/sendsms", sender="TesSun", route="4", country="91")
    assert cast(LegacyFcm, pushes).url == "https://fcm.googleapis.com/fcm/send"
    assert "secret-1" not in repr(job.stores(settings_of("mail_server_password=secret-1", "fcm_account_key=secret-1")))


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("mail_server_port=smtp", "mail_server_port"),
        ("mail_server_port=70000", "mail_server_port"),
        ("sunbird_mail_server_port=0", "sunbird_mail_server_port"),
        ("notification.timeout.seconds=0", "notification.timeout.seconds"),
        ("notification.sends.per.second=0", "notification.sends.per.second"),
        ("kafka.output.failed.topic=dev.lms.notification", "kafka.output.failed.topic"),
        ('fcm_service_account={"type": "service_account"}', "fcm_service_account"),
    ],
)
def test_a_wrong_setting_is_told(override: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named) as error:
        job.stores(settings_of(override))
    assert 'service_account"' not in str(error.value)


@pytest.mark.parametrize(
    ("override", "size"),
    [
        ("job.env=dev", 16),
        ("task.calls.at.once=3", 3),
        ("notification.sends.per.second=0.5", 5),
        ("notification.sends.per.second=0.01", 1),
    ],
)
def test_a_checkpoint_waits_for_one_batch(override: str, size: int) -> None:
    assert job.beam_options(settings_of(override)) == {"max_bundle_size": size}
