"""Several light jobs as one job on Flink, on the real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.local import flink_jobs
from deploy.local.stack import Stack
from tests.e2e.installation import Installation, RunningJob, eventually

NAME = "light"
MERGE, RECONCILE, FORGET = "merge-user-courses", "enrolment-reconciliation", "cokreat-user-delete"
JOBS = [MERGE, RECONCILE, FORGET]


@pytest.fixture(scope="module")
def site(flink_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation.on(flink_stack, tmp_path_factory.mktemp("site"), JOBS) as site:
        yield site


@pytest.fixture(scope="module")
def group(site: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningJob]:
    directory = tmp_path_factory.mktemp("group")
    file = directory / "light.yaml"
    files = {job: [str(site.configuration(job))] for job in JOBS}
    file.write_text(yaml.safe_dump({"group": NAME, "jobs": files}, sort_keys=False))
    with flink_jobs.submitted(site.flink, NAME, [], Path(directory) / "run.log", group=file) as wait:
        running = RunningJob(site.flink, NAME, wait())
        try:
            yield running
        finally:
            running.cancel()


def test_every_job_of_a_group_handles_its_topic(site: Installation, group: RunningJob, flink_stack: Stack) -> None:
    for job in JOBS:
        site.send(site.topics.read_by(job), f"no JSON of {job}".encode(), b'{"edata": {"action": "another"}}')
    for job in JOBS:
        site.handled(job)
    assert (group.state, group.failures) == ("RUNNING", [])
    letters = {record.topic: record.event["rawEvent"] for record in site.written() if "rawEvent" in record.event}
    assert letters == {site.topics.failed_of(job): f"no JSON of {job}" for job in (MERGE, RECONCILE)}
    # one worker for all of them
    eventually(lambda: len(flink_stack.workers()) == 1, 30, flink_stack.workers)
