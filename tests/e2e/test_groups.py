"""Several light jobs as one job on Flink, on the real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

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
    done = site.command("run-group", file, "--detach")
    try:
        assert done.returncode == 0, done.stderr
        [found] = site.flink.living(NAME)
        yield RunningJob(site.flink, NAME, found.id)
    finally:
        ended = site.command("cancel", NAME, "--set", f"flink.master={site.flink.address}")
    assert (ended.returncode, ended.stdout.split()[:3]) == (0, [NAME, "is", "cancelled"]), ended.stderr


def test_every_job_of_a_group_handles_its_topic(site: Installation, group: RunningJob, flink_stack: Stack) -> None:
    for job in JOBS:
        site.send(site.topics.read_by(job), f"no JSON of {job}".encode(), b'{"edata": {"action": "another"}}')
    for job in JOBS:
        site.handled(job)
    assert (group.state, group.failures) == ("RUNNING", [])
    letters = {record.topic: record.event["rawEvent"] for record in site.written() if "rawEvent" in record.event}
    assert letters == {site.topics.failed_of(job): f"no JSON of {job}" for job in (MERGE, RECONCILE)}
    # one worker for all of them
    eventually(lambda: len(flink_stack.workers()) == 1, otherwise=flink_stack.workers)


def test_the_status_of_a_job_is_that_of_its_group(site: Installation, group: RunningJob) -> None:
    site.send(site.topics.read_by(FORGET), b'{"edata": {"action": "another"}}')
    site.handled(FORGET)
    done = site.command("status", FORGET, "--config", site.configuration(FORGET))
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith(FORGET))
    assert f"RUNNING in {NAME}, " in line
    assert line.split()[-2:] == ["0", site.topics.group_of(FORGET)]
    assert f"{FORGET} total-events-count 0" not in done.stdout
