"""The progress job is stopped and started again as an operator would, while learners are at work: nothing is lost,
nothing is counted twice.

The job is the jar that `sunbird-pipelines package` writes, as the Kubernetes operator runs it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.stack import Stack
from tests.e2e.installation import PROGRESS, Installation, RunningJob
from tests.e2e.learner import Learner
from tests.faults.traffic import Judgement, Traffic, judge

pytestmark = [pytest.mark.faults, pytest.mark.slow_faults, pytest.mark.timeout(600)]


class Deployment:
    """The job's jars, one for each parallelism, and the one job that runs."""

    def __init__(self, site: Installation, directory: Path) -> None:
        self.site = site
        self.savepoints = directory / "savepoints"
        self._directory = directory
        self._jars: dict[int, Path] = {}
        self.job: RunningJob | None = None

    def jar(self, parallelism: int) -> Path:
        if parallelism not in self._jars:
            jar = self._directory / f"{parallelism}.jar"
            configuration = self.site.configuration(PROGRESS, task__checkpointing__interval=3_000)
            done = self.site.command(
                "package", PROGRESS, "--config", configuration, "--out", jar, "--", f"--parallelism={parallelism}"
            )
            assert done.returncode == 0, done.stderr
            self._jars[parallelism] = jar
        return self._jars[parallelism]

    def start(self, parallelism: int = 1, savepoint: str | None = None) -> None:
        job_id = self.site.flink.run_jar(self.jar(parallelism), savepoint, timeout_seconds=300)
        self.job = RunningJob(self.site.flink, PROGRESS, job_id)

    def stop(self, *, drain: bool = False) -> str:
        assert self.job is not None
        return self.site.flink.stop(self.job.id, self.savepoints, drain=drain)

    def end(self) -> None:
        for job in self.site.flink.living(PROGRESS):
            self.site.flink.cancel(job.id)


@pytest.fixture(scope="module")
def deployment(flink_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Installation.on(flink_stack, tmp_path_factory.mktemp("site")) as site:
        deployment = Deployment(site, tmp_path_factory.mktemp("jars"))
        deployment.jar(1)
        deployment.jar(2)
        yield deployment


@pytest.fixture
def running(deployment: Deployment) -> Iterator[Deployment]:
    """The job at parallelism 1, warm, before a test; no job after it."""
    deployment.start()
    try:
        deployment.site.consume(Learner(deployment.site).event("a"))
        yield deployment
    finally:
        deployment.end()


def judged(traffic: Traffic, what: str, capsys: pytest.CaptureFixture[str]) -> Judgement:
    judgement = judge(traffic)
    with capsys.disabled():
        sys.stdout.write(f"\n{what}: {judgement}\n")
    return judgement


Change = Callable[[Deployment], None]


def drained_and_begun_at_the_offsets(deployment: Deployment) -> None:
    deployment.stop(drain=True)
    deployment.start()


def restored_from_a_savepoint(deployment: Deployment) -> None:
    deployment.start(savepoint=deployment.stop())


def restored_at_another_parallelism(deployment: Deployment) -> None:
    deployment.start(parallelism=2, savepoint=deployment.stop())


def begun_at_the_offsets_at_another_parallelism(deployment: Deployment) -> None:
    deployment.end()
    deployment.start(parallelism=2)


@pytest.mark.parametrize(
    "change",
    [
        drained_and_begun_at_the_offsets,
        restored_from_a_savepoint,
        restored_at_another_parallelism,
        begun_at_the_offsets_at_another_parallelism,
    ],
    ids=lambda change: change.__name__,
)
def test_nothing_is_lost_when_the_job_is(
    change: Change, running: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    with Traffic(running.site, change.__name__.replace("_", "-"), seconds=120) as traffic:
        traffic.flow(3)
        traffic.flow_until_some_would_come_again()
        change(running)
        traffic.flow(6)
    judgement = judged(traffic, change.__name__, capsys)
    assert judgement.faults == []
    assert running.job is not None
    assert (running.job.state, running.job.failures) == ("RUNNING", [])
