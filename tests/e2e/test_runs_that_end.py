"""Runs of the command line that end by themselves, and the jar that a cluster runs by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.counters import COUNTERS
from tests.e2e.installation import PROGRESS, RELATIONS, Installation, RunningJob
from tests.e2e.learner import Learner


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def nobody(nobody: int) -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{nobody}"


class TestFromAFile:
    """`run JOB --input FILE --output DIR --metrics FILE`: no Kafka, no Flink, and nobody asks for them."""

    @pytest.fixture
    def configuration(self, site: Installation, nobody: str) -> Path:
        absent = {"kafka__broker-servers": nobody, "flink__master": nobody, "flink__worker-pool": nobody}
        return site.configuration(PROGRESS, **absent, service__search__basePath=f"http://{nobody}")

    def test_progress(self, site: Installation, configuration: Path, tmp_path: Path) -> None:
        learner, other = Learner(site), Learner(site)
        events, output, metrics = (tmp_path / name for name in ("events.jsonl", "out", "metrics.json"))
        values = [learner.event("a", "b"), b"not json", learner.event("c", "d"), learner.event("c"), other.event("a")]
        events.write_bytes(b"\n".join([*values, other.event(("b", 1))]) + b"\n")
        ran = site.command(
            "run", PROGRESS, "--config", configuration, "--input", events, "--output", output, "--metrics", metrics
        )
        assert ran.returncode == 0, ran.stderr
        # the LMS has not written that a and b are completed, so the second event does not know
        assert learner.progress == (1, 2, None)
        assert [learner.counts(content) for content in "abcd"] == [(None, 1, 1)] * 4
        assert other.progress == (1, 1, None)
        audits = lines(output / f"{site.topics.audit}.jsonl")
        assert [
            (audit["object"]["id"], audit["edata"]["type"]) for audit in audits if audit["actor"]["id"] == learner.user
        ] == [(content, kind) for content in "abcd" for kind in ("start", "complete")]
        [letter] = lines(output / f"{site.topics.failed_of(PROGRESS)}.jsonl")
        assert letter["rawEvent"] == "not json"
        counted = json.loads(metrics.read_text())
        assert set(counted) <= set(COUNTERS[PROGRESS])
        expected = {"total-events-count": 6, "failed-events-count": 1, "skipped-events-count": 1}
        expected |= {"batch-enrolment-update-count": 4, "processed-enrolment-count": 3}
        assert {name: counted[name] for name in expected} == expected

    def test_progress_with_a_store_that_is_not_there(
        self, site: Installation, configuration: Path, nobody: str, tmp_path: Path
    ) -> None:
        learner = Learner(site)
        events, metrics = tmp_path / "events.jsonl", tmp_path / "metrics.json"
        events.write_bytes(learner.event("a"))
        port = ["--set", f"lms-cassandra.port={nobody.rpartition(':')[2]}"]
        ran = site.command("run", PROGRESS, "--config", configuration, *port, "--input", events, "--metrics", metrics)
        assert ran.returncode == 1
        assert nobody in ran.stderr
        assert learner.counts("a") is None
        assert json.loads(metrics.read_text())["total-events-count"] == 1

    def test_relations(self, site: Installation, nobody: str, tmp_path: Path) -> None:
        root = site.name("from-file")
        tree = {"identifier": root, "children": [{"identifier": "a", "mimeType": "video/mp4"}]}
        site.insert(f"{site.hierarchies}.content_hierarchy", identifier=root, hierarchy=json.dumps(tree))
        edata = {"action": "relation-cache-update", "mimeType": "application/vnd.ekstep.content-collection"}
        events, metrics = tmp_path / "events.jsonl", tmp_path / "metrics.json"
        events.write_bytes(orjson.dumps({"edata": {**edata, "identifier": root}}) + b"\n\n")
        configuration = site.configuration(RELATIONS, **{"kafka__broker-servers": nobody})
        ran = site.command("run", RELATIONS, "--config", configuration, "--input", events, "--metrics", metrics)
        assert ran.returncode == 0, ran.stderr
        assert site.relation_cache.smembers(f"{root}:{root}:leafnodes") == {"a"}
        counted = json.loads(metrics.read_text())
        assert counted == {
            "total-events-count": 2,
            "success-events-count": 1,
            "skipped-event-count": 1,
            "db-read-count": 1,
            "cache-write-count": 2,
        }


def test_until_end(site: Installation, nobody: str, tmp_path: Path) -> None:
    """`run JOB --until-end`: what the topic holds now, on DirectRunner, and the offsets committed."""
    metrics, output = tmp_path / "metrics.json", tmp_path / "out"
    until_end = ("run", PROGRESS, "--config", site.configuration(PROGRESS), "--until-end", "--metrics", metrics)
    learners = [Learner(site) for _ in range(6)]
    for learner in learners:
        site.send(site.topics.consumption, b"not json", learner.event("a", "b", "c", "d"), key=learner.user.encode())
    # more than Beam would read from one partition in one go
    skipped = learners[0].event(("a", 1))
    bad = [b"", None, b"\xff\xfe", b"x" * 2_000_000]
    site.send(site.topics.consumption, *bad, *[skipped] * 10_500, key=b"one partition")
    sent = 2 * 6 + 4 + 10_500
    site.written()

    # a run that fails leaves all of it to the next
    failed = site.command(*until_end, "--set", f"lms-cassandra.port={nobody.rpartition(':')[2]}")
    assert failed.returncode == 1
    assert nobody in failed.stderr
    assert site.waiting(PROGRESS) == sent

    ran = site.command(*until_end)
    assert ran.returncode == 0, ran.stderr
    assert site.waiting(PROGRESS) == 0
    assert [learner.progress[:2] for learner in learners] == [(2, 4)] * 6
    written = site.written()
    assert {record.key for record in written} == {None}
    assert [len(learner.certificate_requests(written)) for learner in learners] == [1] * 6
    # the run that failed had written some dead letters before
    assert sum(record.topic == site.topics.failed_of(PROGRESS) for record in written) >= 6 + 4
    counted = json.loads(metrics.read_text())
    assert (counted["total-events-count"], counted["skipped-events-count"]) == (sent, 10_500)
    assert (counted["failed-events-count"], counted["enrolment-complete-count"]) == (6 + 4, 6)

    # nothing is left
    ran = site.command(*until_end)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(metrics.read_text()) == {}
    assert site.written() == []

    # what comes later is the next run's; it may go to files
    late = Learner(site)
    site.send(site.topics.consumption, late.event("a"))
    ran = site.command(*until_end, "--output", output)
    assert ran.returncode == 0, ran.stderr
    assert late.progress[:2] == (1, 1)
    assert len(lines(output / f"{site.topics.audit}.jsonl")) == 2
    assert site.waiting(PROGRESS) == 0
    assert site.written() == []


def test_the_jar_of_a_job_runs_on_a_cluster_by_itself(site: Installation, tmp_path: Path) -> None:
    """`package`, then nothing but Flink's own REST interface."""
    jar = tmp_path / "progress.jar"
    name = site.name("packaged")
    packed = site.command(
        "package", PROGRESS, "--config", site.configuration(PROGRESS), "--out", jar, "--", f"--job_name={name}"
    )
    assert packed.returncode == 0, packed.stderr
    job = RunningJob(site.flink, PROGRESS, site.flink.run_jar(jar, timeout_seconds=600))
    try:
        learner = Learner(site)
        learner.reports("a", "b", "c", "d")
        assert learner.progress[:2] == (2, 4)
        assert [found.name for found in site.flink.jobs() if found.id == job.id] == [name]
    finally:
        job.cancel()
