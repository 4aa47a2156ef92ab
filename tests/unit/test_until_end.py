"""What `run JOB --until-end` says when it can not even begin; what it does is in tests/e2e."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from pipelines import relation_cache_updater as job
from pipelines import until_end
from pipelines.configuration import load
from pipelines.runtime import RunRequest


def test_a_topic_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))

    monkeypatch.setattr(until_end, "_range", refuse)
    overrides = ["kafka.broker-servers=127.0.0.1:1", "kafka.input.topic=dev.nothing"]
    loaded = load(job.Settings, [], overrides, {}, job_name=job.NAME)
    request = RunRequest(until_end=True, metrics=tmp_path / "metrics.json")
    assert until_end.run_until_end(job, loaded, request) == 1
    assert "Kafka at 127.0.0.1:1, topic dev.nothing: Broker: Unknown topic or partition" in caplog.text
    assert json.loads((tmp_path / "metrics.json").read_bytes()) == {}
