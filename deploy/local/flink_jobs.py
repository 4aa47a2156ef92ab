"""Jobs on the local Flink: submitting them with this project's own command, finding and cancelling them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from deploy.local.errors import StackError

TIMEOUT_SECONDS = 60
LOG_LINES_SHOWN = 15

_ENDED = ("CANCELED", "FAILED", "FINISHED")


@dataclass(frozen=True, slots=True)
class FlinkJob:
    """A job that Flink knows, with its state in Flink's words."""

    id: str
    name: str
    state: str

    @property
    def lives(self) -> bool:
        """Whether it runs, or will run again."""
        return self.state not in _ENDED


def jobs(flink: str, name: str | None = None) -> list[FlinkJob]:
    """The jobs at ``flink`` (host:port of its REST interface), all or those of a name; those that ended too.

    Raises requests.RequestException.
    """
    answer = requests.get(f"http://{flink}/jobs/overview", timeout=TIMEOUT_SECONDS)
    answer.raise_for_status()
    found = [FlinkJob(job["jid"], job["name"], job["state"]) for job in answer.json()["jobs"]]
    return [job for job in found if name in (None, job.name)]


def is_running(flink: str, job_id: str) -> bool:
    """Whether every task of the job runs. Raises requests.RequestException."""
    answer = requests.get(f"http://{flink}/jobs/{job_id}", timeout=TIMEOUT_SECONDS)
    answer.raise_for_status()
    states = [vertex["status"] for vertex in answer.json()["vertices"]]
    # while Flink takes a job in, it has no vertices
    return bool(states) and all(state == "RUNNING" for state in states)


def root_cause(flink: str, job_id: str) -> str:
    """The first line of the last exception that restarted or ended the job, "" when there was none."""
    answer = requests.get(f"http://{flink}/jobs/{job_id}/exceptions", timeout=TIMEOUT_SECONDS)
    answer.raise_for_status()
    lines = (answer.json().get("root-exception") or "").splitlines()
    causes = [line.strip() for line in lines if line.startswith("Caused by: ")]
    return causes[-1].removeprefix("Caused by: ") if causes else (lines[0] if lines else "")


def cancel(flink: str, job_id: str, timeout_seconds: float = 60) -> None:
    """Cancel a job and wait until it ended. Raises StackError when it does not, requests.RequestException."""
    requests.patch(f"http://{flink}/jobs/{job_id}?mode=cancel", timeout=TIMEOUT_SECONDS)
    _wait(
        lambda: all(job.id != job_id or not job.lives for job in jobs(flink)),
        timeout_seconds,
        f"job {job_id} was not cancelled within {timeout_seconds:.0f} s",
    )


def stop(flink: str, job_id: str, savepoints: Path, *, drain: bool = False, timeout_seconds: float = 120) -> str:
    """Stop a job with a savepoint in the directory, and give the savepoint's address.

    ``drain`` lets everything that is on its way through the job come out, as before the job's end; such a savepoint is
    not to be started from. Raises StackError when the job does not stop, requests.RequestException.
    """
    order = {"targetDirectory": savepoints.absolute().as_uri(), "drain": drain}
    answer = requests.post(f"http://{flink}/jobs/{job_id}/stop", json=order, timeout=TIMEOUT_SECONDS)
    answer.raise_for_status()
    progress = f"http://{flink}/jobs/{job_id}/savepoints/{answer.json()['request-id']}"

    def operation() -> dict[str, Any]:
        found = requests.get(progress, timeout=TIMEOUT_SECONDS)
        found.raise_for_status()
        done: dict[str, Any] = found.json().get("operation") or {}
        return done

    _wait(lambda: bool(operation()), timeout_seconds, f"job {job_id} took no savepoint within {timeout_seconds:.0f} s")
    done = operation()
    if "location" not in done:
        raise StackError(f"job {job_id} took no savepoint: {done.get('failure-cause', {}).get('class')}")
    _wait(
        lambda: all(job.id != job_id or not job.lives for job in jobs(flink)),
        timeout_seconds,
        f"job {job_id} did not stop within {timeout_seconds:.0f} s",
    )
    return str(done["location"])


def run_jar(flink: str, jar: Path, savepoint: str | None = None, timeout_seconds: float = 120) -> str:
    """Run a job's own jar (`sunbird-pipelines package`), from a savepoint or its group's offsets: the job's id.

    Waits until all its tasks run. Raises StackError when they do not, requests.RequestException.
    """
    with jar.open("rb") as content:
        answer = requests.post(
            f"http://{flink}/jars/upload", files={"jarfile": ("job.jar", content)}, timeout=timeout_seconds
        )
    answer.raise_for_status()
    uploaded = f"http://{flink}/jars/{Path(answer.json()['filename']).name}"
    order = {"savepointPath": savepoint} if savepoint else {}
    try:
        answer = requests.post(f"{uploaded}/run", json=order, timeout=timeout_seconds)
        answer.raise_for_status()
    finally:
        requests.delete(uploaded, timeout=TIMEOUT_SECONDS)
    job_id = str(answer.json()["jobid"])
    wait_until_running(flink, job_id, timeout_seconds)
    return job_id


def wait_until_running(flink: str, job_id: str, timeout_seconds: float = 120) -> None:
    """Wait until all tasks of a job run. Raises StackError that says why they do not, requests.RequestException."""
    end = time.monotonic() + timeout_seconds
    while not is_running(flink, job_id):
        ended = next((job.state for job in jobs(flink) if job.id == job_id and not job.lives), None)
        if ended or time.monotonic() > end:
            why = ("" if ended else _lack_of_slots(flink)) or root_cause(flink, job_id)
            what = f"is {ended}" if ended else f"does not run after {timeout_seconds:.0f} s"
            raise StackError(f"job {job_id} {what}{why and ': '}{why}")
        time.sleep(0.2)


def _lack_of_slots(flink: str) -> str:
    answer = requests.get(f"http://{flink}/overview", timeout=TIMEOUT_SECONDS)
    answer.raise_for_status()
    cluster = answer.json()
    return "" if cluster["slots-available"] else f"all {cluster['slots-total']} slots of the cluster are taken"


@contextlib.contextmanager
def submitted(
    flink: str,
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
    known = {job.id for job in jobs(flink, name)}
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
            return next((job for job in jobs(flink, name) if job.id not in known and job.lives), None)

        wanted = f"{name} did not run within {timeout_seconds:.0f} s; {_last_words(log)}"
        _wait(lambda: (job := new_job()) is not None and is_running(flink, job.id), timeout_seconds, wanted)
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
