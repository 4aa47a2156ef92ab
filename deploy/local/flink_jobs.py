"""Submitting jobs to the local Flink with this project's own command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from deploy.local.errors import StackError
from io_connectors.flink import Flink, FlinkJob

LOG_LINES_SHOWN = 15


@contextlib.contextmanager
def submitted(
    flink: Flink,
    name: str,
    options: Sequence[str],
    log: Path,
    timeout_seconds: float = 300,
    group: Path | None = None,
) -> Iterator[Callable[[], str]]:
    """Begin `sunbird-pipelines run NAME OPTIONS`; the function given waits until all its tasks run, and gives its id.

    With the file of a ``group`` of that name it is `sunbird-pipelines run-group GROUP OPTIONS`.

    What the command says goes to ``log``. The job lives on when the command is ended, which happens on the way out;
    so several may be begun before the first is waited for. The function raises StackError with the end of the log.
    """
    known = {job.id for job in flink.jobs(name)}
    what = ["run-group", str(group)] if group else ["run", name]
    command = [sys.executable, "-m", "pipelines.command_line", *what, *options]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )

    def wait() -> str:
        def new_job() -> FlinkJob | None:
            if process.poll() is not None:
                raise StackError(f"{name} was not submitted (exit code {process.returncode}); {_last_words(log)}")
            return next((job for job in flink.living(name) if job.id not in known), None)

        wanted = f"{name} did not run within {timeout_seconds:.0f} s; {_last_words(log)}"
        _wait(lambda: (job := new_job()) is not None and flink.details(job.id).runs, timeout_seconds, wanted)
        job = new_job()
        if job is None:
            raise StackError(f"{name} ended as soon as it ran; {_last_words(log)}")
        return job.id

    try:
        yield wait
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(condition: Callable[[], bool], timeout_seconds: float, otherwise: str) -> None:
    end = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > end:
            raise StackError(otherwise)
        time.sleep(0.2)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    return f"the end of {log}:\n" + "\n".join(lines)
