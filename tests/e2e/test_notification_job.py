"""notification-job on real servers: from a file, from Kafka to its end, and on Flink.

What it could not send it reads again from the topic that it writes it to.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.local.smtp import mails
from deploy.local.stack import Stack
from tests.e2e.installation import SECONDS, Installation, eventually, from_file
from tests.pipelines.test_notification_job import event, push, sms

NOTIFICATION = "notification-job"
FAILED = "lms.notification.failed"
NUMBER = "+910000000001"


def got(stack: Stack) -> Counter[str]:
    """How many mails each recipient got."""
    return Counter(recipient for mail in mails(stack.directory) for recipient in mail["recipients"])


def stub(stack: Stack, what: str, value: Any = None, *, method: str = "PUT") -> Any:
    base = stack.environment()["service.search.basePath"]
    answer = requests.request(method, f"{base}/stub/{what}", json=value, timeout=SECONDS)
    answer.raise_for_status()
    return answer.json()


def test_from_a_file(stack_of: Callable[..., Stack], tmp_path: Path) -> None:
    """§9 cases 1-8 in one run; pushes by HTTP v1. Nothing personal is in its log, and no key."""
    stack = stack_of("smtp", "stubs")
    stub(stack, "text_messages", method="DELETE")
    stub(stack, "pushes", method="DELETE")
    private = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    stub(stack, "settings", {"fcm_public_key": public.decode()})
    found = stack.environment()
    account = {
        "project_id": "school-1",
        "client_email": "sender@school-1.example",
        "private_key": pem,
        "token_uri": f"{found['service.search.basePath']}/oauth2/token",
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    settings = {**found, "fcm_service_account": str(tmp_path / "account.json"), "kafka.output.failed.topic": FAILED}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(settings))
    one, two, three = (f"{uuid.uuid4().hex}@school.example" for _ in range(3))
    refused = event(ids=[one, "refused-2@school.example"])
    events = [
        *(event(ids=[one]), event(ids=[two, three]), refused, refused.replace(b'"iteration":1', b'"iteration":2')),
        *(sms(NUMBER, "12345"), push("token-1", "gone-2"), push(topic="all-teachers"), event(template=...), b"no json"),
    ]
    counted, said = from_file(NOTIFICATION, tmp_path / "site.yaml", tmp_path, *events)
    stub(stack, "settings", {"fcm_public_key": None})
    assert counted == {
        "total-events-count": 9,
        "success-events-count": 5,
        "failed-events-count": 1,
        "skipped-event-count": 3,
    }
    assert [got(stack)[name] for name in (one, two, three)] == [1, 1, 1]
    [mail] = [mail for mail in mails(stack.directory) if mail["recipients"] == [one]]
    assert mail["username"] == found["mail_server_username"]
    [text] = stub(stack, "text_messages", method="GET")
    assert text["sms"] == [{"message": "Marks%3A+95%25+%26+rank+1", "to": [NUMBER]}]
    pushes = stub(stack, "pushes", method="GET")
    assert sorted(found.get("token") or found["topic"] for found in pushes) == ["all-teachers", "token-1"]
    [again] = (tmp_path / "out" / "dev.lms.notification.jsonl").read_bytes().splitlines()
    assert orjson.loads(again)["edata"]["iteration"] == 2
    letters = (tmp_path / "out" / f"{FAILED}.jsonl").read_bytes().splitlines()
    assert len(letters) == 3
    personal = ["school.example", NUMBER, "12345", "token-1", "gone-2", "Marks", "well done", "certificate is ready"]
    keys = [found["sms_auth_key"], found["fcm_account_key"], "PRIVATE KEY"]
    assert [word for word in [*personal, *keys] if word in said] == []
    assert "NS.1717400000111.1" in said


@pytest.fixture(scope="module")
def stack(stack_of: Callable[..., Stack]) -> Stack:
    return stack_of("kafka", "cassandra", "redis", "stubs", "smtp", "flink")


@pytest.fixture(scope="module")
def site(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("site")
    with Installation.on(stack, directory, [NOTIFICATION], ["lms.notification", FAILED]) as site:
        site.settings["kafka.output.failed.topic"] = f"{site.environment}.{FAILED}"
        yield site


def by_topic(site: Installation) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What was put back since this was asked last, and what was given up."""
    written = site.written()
    given_up = [found.event for found in written if found.topic.endswith(FAILED)]
    read = [found.event for found in written if not found.topic.endswith(FAILED)]
    # what the test sent says when
    return [again for again in read if "ets" not in again], given_up


def test_on_flink(site: Installation, stack: Stack) -> None:
    """Each is sent once; what is refused comes back once; a mail server that was away is made up for by a replay."""
    names = [f"{number}.{site.environment}@school.example" for number in range(30)]
    refused = event(ids=[names[0], "refused@school.example"])
    with site.submitted(NOTIFICATION) as submitted:
        running = submitted()
        topic = site.topics.read_by(NOTIFICATION)
        site.send(topic, *(event(ids=[name]) for name in names), refused, sms(), push(topic="a"))
        eventually(lambda: all(got(stack)[name] == 1 for name in names))
        put_back: list[dict[str, Any]] = []
        given_up: list[dict[str, Any]] = []

        def settled() -> bool:
            more = by_topic(site)
            put_back.extend(more[0])
            given_up.extend(more[1])
            return len(given_up) >= 1 and site.waiting(NOTIFICATION) == 0

        eventually(settled)
        assert [(again["edata"]["iteration"], "ets" in again) for again in put_back] == [(2, False)]
        assert [letter["failInfo"]["error"].split(";")[0] for letter in given_up] == [
            "the mail server answers 550 to a recipient"
        ]

        stack.stop_service("smtp")
        late = f"late.{site.environment}@school.example"
        given_up.clear()
        try:
            site.send(topic, event(ids=[late]))
            eventually(settled)
        finally:
            stack.start_service("smtp")
        assert "does not answer" in given_up[0]["failInfo"]["error"]
        configuration = site.configuration(NOTIFICATION)
        replayed = site.command("replay", NOTIFICATION, "--config", configuration, "--reason", "answer:")
        assert replayed.returncode == 0, replayed.stderr
        eventually(lambda: got(stack)[late] == 1)
        assert got(stack)[names[0]] == 1
        assert running.failures == []


def test_until_the_end(stack_of: Callable[..., Stack], tmp_path: Path) -> None:
    """What is put back while it runs is for the next run."""
    stack = stack_of("kafka", "cassandra", "redis", "stubs", "smtp")
    with Installation.on(stack, tmp_path, [NOTIFICATION], ["lms.notification"]) as site:
        later = f"later.{site.environment}@school.example"
        configuration = site.configuration(NOTIFICATION, notification__timeout__seconds=1)
        counted = []
        site.send(site.topics.read_by(NOTIFICATION), event(ids=[later]), sms())
        for number in range(3):
            metrics = tmp_path / f"metrics-{number}.json"
            done = site.command("run", NOTIFICATION, "--config", configuration, "--until-end", "--metrics", metrics)
            assert done.returncode == 0, done.stderr
            counted.append(json.loads(metrics.read_text()))
        assert counted == [
            {"total-events-count": 2, "success-events-count": 1, "failed-events-count": 1},
            {"total-events-count": 1, "skipped-event-count": 1},
            {},
        ]
        assert site.waiting(NOTIFICATION) == 0
