"""`sunbird-pipelines replay` on a real Kafka: by reason, by time, once each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local.stack import Stack
from pipelines.replay import _Reader
from tests.e2e.installation import sunbird_pipelines
from transforms.dead_letter import dead_letter

JOB = "collection-cert-pre-processor"
SECONDS = 60


class Site:
    """Both topics of a job, in an environment of their own."""

    def __init__(self, stack: Stack, environment: str, directory: Path) -> None:
        self.brokers = str(stack.environment()["kafka.broker-servers"])
        self.input, self.failed = f"{environment}.issue.certificate.request", f"{environment}.issue.certificate.failed"
        self.configuration = directory / "site.yaml"
        settings = {"job.env": environment, "kafka.broker-servers": self.brokers, "cert_domain_url": "https://x"}
        self.configuration.write_text(yaml.safe_dump(settings))
        self.admin = AdminClient({"bootstrap.servers": self.brokers})

    def create(self) -> None:
        wanted = [NewTopic(name, 2, 1) for name in (self.input, self.failed)]
        for created in self.admin.create_topics(wanted, operation_timeout=SECONDS).values():
            created.result(SECONDS)

    def delete(self) -> None:
        for deleted in self.admin.delete_topics([self.input, self.failed], operation_timeout=SECONDS).values():
            deleted.result(SECONDS)

    def fail(self, *letters: bytes, at: int | None = None) -> None:
        producer = Producer({"bootstrap.servers": self.brokers, "message.max.bytes": 5_242_880})
        for letter in letters:
            producer.produce(self.failed, letter, timestamp=at or int(time.time() * 1000))
        assert producer.flush(SECONDS) == 0

    def replay(self, *options: str) -> str:
        done = sunbird_pipelines("replay", JOB, "--config", self.configuration, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def put_back(self) -> list[Any]:
        """What is on the input topic, in the order of the letters' reasons."""
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": "test", "enable.auto.commit": False})
        found = []
        try:
            for partition in (0, 1):
                place = TopicPartition(self.input, partition, 0)
                end = consumer.get_watermark_offsets(place, timeout=SECONDS)[1]
                consumer.assign([place])
                while sum(message.partition() == partition for message in found) < end:
                    found += [message for message in consumer.consume(100, timeout=0.2) if not message.error()]
        finally:
            consumer.close()
        return sorted((message.value() for message in found), key=repr)


@pytest.fixture
def site(stack_of: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    site = Site(stack_of("kafka"), f"replay{time.time_ns()}", tmp_path)
    site.create()
    yield site
    site.delete()


def letter(reason: str, **members: Any) -> bytes:
    return dead_letter(JOB, reason, b"", members)


def test_each_letter_comes_back_once(site: Site) -> None:
    site.fail(letter("first", n=1), letter("second", n=2), dead_letter(JOB, "raw", b"no JSON"), b"junk")
    shown = site.replay("--dry-run")
    assert "first" in shown
    assert site.put_back() == []
    site.replay("--reason", "^first$")
    assert site.put_back() == [b'{"n":1}']
    site.replay()
    assert site.put_back() == sorted([b'{"n":1}', b'{"n":2}', b"no JSON"], key=repr)
    site.replay()
    assert len(site.put_back()) == 3, "a second replay finds the marks"
    site.fail(letter("first", n=1))
    site.replay()
    assert len(site.put_back()) == 4, "a letter of its own, though it says the same"


def test_only_the_letters_of_a_time(site: Site) -> None:
    day = 1_000 * 60 * 60 * 24
    now = int(time.time() * 1000)
    site.fail(letter("old", n=1), at=now - day)
    site.fail(letter("new", n=2), at=now)
    between = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime((now - day / 2) / 1000))
    site.replay("--since", between)
    assert site.put_back() == [b'{"n":2}']
    site.replay("--until", between)
    assert site.put_back() == [b'{"n":1}', b'{"n":2}']


def test_a_large_letter_comes_back_and_keeps_no_other_back(site: Site) -> None:
    """A topic takes more than a client sends by itself, which is a million bytes."""
    large = dead_letter(JOB, "large", b"", {"text": "x" * 3_000_000})
    site.fail(letter("before", n=1), large, letter("after", n=2))
    site.replay()
    assert sorted(map(len, site.put_back())) == [7, 7, len(b'{"text":""}') + 3_000_000]


def test_what_kafka_deletes_meanwhile_takes_nothing_else_along(site: Site) -> None:
    """The oldest records go at any time, between the question where a topic begins and the first read, too."""
    site.fail(*(letter("many", n=n) for n in range(100)))

    class Deleting:
        def __init__(self, consumer: Consumer) -> None:
            self._consumer = consumer

        def __getattr__(self, name: str) -> Any:
            return getattr(self._consumer, name)

        def assign(self, places: list[TopicPartition]) -> None:
            gone = [TopicPartition(site.failed, place.partition, place.offset + 1) for place in places]
            for deleted in site.admin.delete_records(gone).values():
                deleted.result(SECONDS)
            self._consumer.assign(places)

    reader = _Reader(site.brokers)
    reader._consumer = Deleting(reader._consumer)
    try:
        assert len(list(reader.read(site.failed, None))) >= 98
    finally:
        reader.close()


def test_a_thousand_letters_at_a_rate(site: Site) -> None:
    site.fail(*(letter("many", n=orjson.dumps(n).decode()) for n in range(1_000)))
    begun = time.monotonic()
    site.replay("--rate", "500")
    assert time.monotonic() - begun > 1.9
    assert len(site.put_back()) == 1_000


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--since", "yesterday"], "--since yesterday"),
        (["--reason", "("], "no regular expression"),
    ],
)
def test_wrong_usage(site: Site, options: list[str], says: str) -> None:
    done = sunbird_pipelines("replay", JOB, "--config", site.configuration, *options)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_topic_that_is_not_there(site: Site) -> None:
    done = sunbird_pipelines("replay", JOB, "--config", site.configuration, "--topic", "nothing-of-the-kind")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
