"""What every job must bear, through the real command line's runtime, on the real servers: records that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import yaml

from deploy.local.stack import Stack
from pipelines import jobs, runtime
from pipelines.configuration import load

SERVICES = ("cassandra", "redis", "elasticsearch", "mongo", "neo4j", "object-storage", "smtp", "stubs")
# spec: core §15 case 2, and what else is no event
BAD = (b'{"eid":', b"", b"[1,2]", b"null", b"7", b'"text"', b"\xff\xfe", b"{}", b'{"edata":null}', b'{"edata":[]}')
# of these the failed topic has to be asked for
WITHOUT_FAILED_TOPIC = {
    *("cokreat-user-delete", "legacy-certificate-migrator", "metrics-data-transformer", "ml-transfer-ownership"),
    *("ml-user-delete", "notification-job", "program-user-info", "relation-cache-updater", "user-cache-updater-2.0"),
    *("user-deletion-cleanup", "user-ownership-transfer"),
}


@pytest.fixture(scope="module")
def site(stack_of: Callable[..., Stack], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration that the stack gives for all jobs."""
    path = tmp_path_factory.mktemp("site") / "site.yaml"
    path.write_text(yaml.safe_dump(stack_of(*SERVICES).environment()))
    return path


@pytest.mark.parametrize("job", jobs.JOBS)
def test_no_record_stops_a_job_and_none_is_lost(job: str, site: Path, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(b"".join(record + b"\n" for record in BAD))
    module = jobs.load(job)
    loaded = load(module.Settings, [site], [], {}, job_name=job)
    output, metrics = tmp_path / "out", tmp_path / "metrics.json"
    output.mkdir()
    request = runtime.RunRequest(input=tmp_path / "events.jsonl", output=output, metrics=metrics)
    assert runtime.run(module, loaded, request) == 0
    counted = orjson.loads(metrics.read_bytes())
    assert counted
    assert all(0 < number <= len(BAD) for number in counted.values())
    letters = [line for file in output.iterdir() for line in file.read_bytes().splitlines()]
    assert bool(letters) == (job not in WITHOUT_FAILED_TOPIC)
