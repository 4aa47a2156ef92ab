"""The progress job while its surroundings break: nothing is lost, nothing is counted twice, nobody has to help.

Learners are at work all the time. Afterwards every row, AUDIT event and certificate request is held against what an
undisturbed run would have left. The tests share one submission of the job, and each has learners of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psutil
import pytest

from deploy.local.stack import Stack
from tests.e2e.installation import PROGRESS, Installation, RunningJob, eventually
from tests.e2e.learner import Learner
from tests.faults.traffic import Judgement, Traffic, judge

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

CHECKPOINT_MILLISECONDS = 3_000
BACK_SECONDS = 120

Tell = Callable[[str, Judgement], None]


class Submission:
    """The one job of these tests; submitted again when a test asks for it."""

    def __init__(self, site: Installation, closing: ExitStack) -> None:
        self.site = site
        self._closing = closing
        self.job = self._submit()
        # a cold worker takes seconds for its first event
        site.consume(Learner(site).event("a"))

    def _submit(self) -> RunningJob:
        interval = {"task__checkpointing__interval": CHECKPOINT_MILLISECONDS}
        return self._closing.enter_context(self.site.submitted(PROGRESS, **interval))()

    def again(self) -> None:
        """Cancel the job and submit it anew: it knows nothing but its group's offsets."""
        self.job.cancel()
        self.job = self._submit()


@pytest.fixture(scope="module")
def submission(flink_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Submission]:
    with Installation.on(flink_stack, tmp_path_factory.mktemp("faults")) as site, ExitStack() as closing:
        yield Submission(site, closing)


@pytest.fixture
def site(submission: Submission, flink_stack: Stack) -> Iterator[Installation]:
    """The installation, all of its servers up and its job running, before a test and after it."""
    eventually(lambda: submission.job.all_tasks_run, BACK_SECONDS, lambda: submission.job.failures)
    yield submission.site
    flink_stack.up(("kafka", "cassandra", "redis", "stubs", "flink"))


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Print what came of a fault, also when the test passes."""

    def tell(fault: str, judgement: Judgement) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{fault}: {judgement}\n")

    return tell


def kill_workers(stack: Stack) -> None:
    """End the Python workers at once, as running out of memory would. While a job starts again there may be none, or
    one that is about to end by itself, which is no kill."""
    eventually(lambda: any([killed(worker) for worker in stack.workers()]), BACK_SECONDS)


def killed(worker: psutil.Process) -> bool:
    try:
        worker.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def test_a_killed_python_worker(site: Installation, flink_stack: Stack, tell: Tell) -> None:
    with Traffic(site, "worker") as traffic:
        traffic.flow(3)
        traffic.flow_until_some_would_come_again()
        fault_at = time.time()
        kill_workers(flink_stack)
        traffic.flow(6)
    judgement = judge(traffic, fault_at)
    tell("Python worker killed", judgement)
    assert judgement.faults == []


@pytest.mark.slow_faults
def test_cassandra_stopped_for_20_seconds(site: Installation, flink_stack: Stack, tell: Tell) -> None:
    with Traffic(site, "cassandra", seconds=150) as traffic:
        traffic.flow(3)
        traffic.flow_until_some_would_come_again()
        fault_at = time.time()
        flink_stack.stop_service("cassandra")
        traffic.flow(max(0.0, 20 - (time.time() - fault_at)))
        flink_stack.start_service("cassandra")
        back_after = time.time() - fault_at
        traffic.flow(3)
    judgement = judge(traffic, fault_at)
    tell(f"Cassandra stopped, back after {back_after:.1f} s", judgement)
    assert judgement.faults == []


def test_what_stopped_others_for_good(submission: Submission, site: Installation, tell: Tell) -> None:
    """A malformed record, a course without leaf nodes, and the same event back to back do not even disturb it."""
    before = submission.job.failures
    lost = Learner(site, cached=False)
    site.set_status(lost.course, "Live")
    learner = Learner(site)
    with Traffic(site, "stoppers", seconds=15) as traffic:
        for _ in range(4):
            traffic.flow(1)
            site.send(site.topics.consumption, b'{"eid": "BE_JOB_REQUEST", ', lost.event("a"))
            site.send(site.topics.consumption, *[learner.event("a")] * 5, key=learner.user.encode())
    judgement = judge(traffic)
    tell("Malformed records, a course without leaf nodes, repetitions", judgement)
    assert judgement.dead_letters == 8
    assert judgement.strange_events == {(learner.user, "a", "start"): 1, (learner.user, "a", "complete"): 1}
    judgement.dead_letters = 0
    judgement.strange_events.clear()
    assert judgement.faults == []
    assert learner.counts("a") == (None, 1, 1)
    assert (submission.job.state, submission.job.failures) == ("RUNNING", before)


@pytest.mark.slow_faults
def test_a_killed_task_manager(site: Installation, flink_stack: Stack, tell: Tell) -> None:
    with Traffic(site, "taskmanager", seconds=90) as traffic:
        traffic.flow(3)
        traffic.flow_until_some_would_come_again()
        fault_at = time.time()
        flink_stack.kill("taskmanager")
        flink_stack.start_service("taskmanager")
        back_after = time.time() - fault_at
        traffic.flow(6)
    judgement = judge(traffic, fault_at)
    tell(f"TaskManager killed, another one up after {back_after:.1f} s", judgement)
    assert judgement.faults == []


@pytest.mark.slow_faults
def test_redis_restarted(site: Installation, flink_stack: Stack, tell: Tell) -> None:
    with Traffic(site, "redis") as traffic:
        traffic.flow(3)
        traffic.flow_until_some_would_come_again()
        fault_at = time.time()
        flink_stack.stop_service("redis")
        traffic.flow(3)
        flink_stack.start_service("redis")
        back_after = time.time() - fault_at
        traffic.flow(6)
    judgement = judge(traffic, fault_at)
    tell(f"Redis stopped, back after {back_after:.1f} s", judgement)
    assert judgement.faults == []


@pytest.mark.slow_faults
def test_a_worker_killed_again_and_again(site: Installation, flink_stack: Stack, tell: Tell) -> None:
    with Traffic(site, "again", seconds=120) as traffic:
        for _ in range(3):
            traffic.flow_until_some_would_come_again()
            fault_at = time.time()
            kill_workers(flink_stack)
        traffic.flow(6)
    judgement = judge(traffic, fault_at)
    tell("Python worker killed three times (recovery of the last)", judgement)
    assert judgement.faults == []


@pytest.mark.slow_faults
def test_cancelled_and_begun_again_from_the_offsets_alone(
    submission: Submission, site: Installation, tell: Tell
) -> None:
    with Traffic(site, "offsets", seconds=90) as traffic:
        traffic.flow(3)
        traffic.flow_until_some_would_come_again()
        fault_at = time.time()
        submission.again()
        traffic.flow(3)
    judgement = judge(traffic, fault_at)
    tell("Job cancelled, submitted again", judgement)
    assert judgement.faults == []
