"""`sunbird-pipelines demo` on a stack that is up: it says that all is right, and leaves the stack as it was."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from deploy.local import flink_jobs
from deploy.local.stack import Stack


@pytest.mark.timeout(900)
def test_the_demo_shows_twenty_learners_and_finds_everything_as_it_should_be(flink_stack: Stack) -> None:
    command = [sys.executable, "-m", "pipelines.command_line", "demo", "--dir", str(flink_stack.directory)]
    done = subprocess.run([*command, "--seed", "1"], capture_output=True, text=True, timeout=800, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    learners = [line for line in done.stdout.splitlines() if re.match(r" *learner-\d+ ", line)]
    assert len(learners) == 20
    assert sum("10/10" in line and "completed" in line for line in learners) == 13
    assert sum("requested" in line for line in learners) == 13
    assert re.search(r"total-events-count +1 +total-events-count +\d\d\d", done.stdout)
    assert "an empty value" in done.stdout
    assert "no leaf nodes in the relation cache" in done.stdout
    assert "Everything is as it should be." in done.stdout

    flink = flink_stack.environment()["flink.master"]
    assert not [job for job in flink_jobs.jobs(flink) if job.lives]
    assert all(status.up for status in flink_stack.status())


def test_a_wrong_option_is_wrong_usage() -> None:
    command = [sys.executable, "-m", "pipelines.command_line", "demo", "--no-such-option"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 2
    assert "no-such-option" in done.stderr
