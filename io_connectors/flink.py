"""Flink's REST interface: which jobs there are, how they are, and ending them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import requests

__all__ = ["Flink", "FlinkError", "FlinkJob", "JobDetails"]

# to connect; to answer: a JobManager that starts a job is slow at everything else
TIMEOUT_SECONDS = (10, 60)
_POLL_SECONDS = 0.2

_ENDED = ("CANCELED", "FAILED", "FINISHED")
_RUNNING = "RUNNING"


class FlinkError(Exception):
    """A job did not do what Flink was asked to let it do; the message says which job, and why."""


class FlinkJob(NamedTuple):
    """A job that Flink knows, with its state in Flink's words."""

    id: str
    name: str
    state: str

    @property
    def lives(self) -> bool:
        """Whether it runs, or will run again."""
        return self.state not in _ENDED


class JobDetails(NamedTuple):
    """How a job is: ``since`` when it runs (epoch seconds), how often it was restarted, its ``tasks`` (name, state)."""

    state: str
    since: float
    restarts: int
    tasks: tuple[tuple[str, str], ...]

    @property
    def runs(self) -> bool:
        """Whether every task does; while Flink takes a job in, it has none."""
        return self.state == _RUNNING and bool(self.tasks) and self.tasks_up == len(self.tasks)

    @property
    def tasks_up(self) -> int:
        """How many tasks run."""
        return sum(state == _RUNNING for _, state in self.tasks)


@dataclass(frozen=True)
class Flink:
    """A cluster; ``address`` is ``host:port`` of its REST interface. Every method raises requests.RequestException."""

    address: str

    def get(self, path: str, **parameters: str) -> Any:
        """What Flink answers to ``/path``."""
        answer = requests.get(self._url(path), parameters, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        return answer.json()

    def jobs(self, name: str | None = None) -> list[FlinkJob]:
        """All jobs or those of a name; those that ended too."""
        found = [FlinkJob(job["jid"], job["name"], job["state"]) for job in self.get("jobs/overview")["jobs"]]
        return [job for job in found if name in (None, job.name)]

    def living(self, name: str | None = None) -> list[FlinkJob]:
        """Those of `jobs` that did not end."""
        return [job for job in self.jobs(name) if job.lives]

    def details(self, job_id: str) -> JobDetails:
        """How a job is. The number of restarts is up to ten seconds old, and 0 until Flink counts them."""
        job = self.get(f"jobs/{job_id}")
        restarts = self.get(f"jobs/{job_id}/metrics", get="numRestarts")
        return JobDetails(
            job["state"],
            job["timestamps"][_RUNNING] / 1000,
            int(restarts[0]["value"]) if restarts else 0,
            tuple((vertex["name"], vertex["status"]) for vertex in job["vertices"]),
        )

    def root_cause(self, job_id: str) -> str:
        """The first line of the last exception that restarted or ended a job, "" when there was none."""
        lines = (self.get(f"jobs/{job_id}/exceptions").get("root-exception") or "").splitlines()
        causes = [line.strip() for line in lines if line.startswith("Caused by: ")]
        return causes[-1].removeprefix("Caused by: ") if causes else (lines[0] if lines else "")

    def cancel(self, job_id: str, timeout_seconds: float = 60) -> None:
        """Cancel a job and wait until it ended. Raises FlinkError when it does not."""
        requests.patch(self._url(f"jobs/{job_id}?mode=cancel"), timeout=TIMEOUT_SECONDS)
        self._wait_until_ended(job_id, timeout_seconds, "was not cancelled")

    def stop(self, job_id: str, savepoints: Path, *, drain: bool = False, timeout_seconds: float = 120) -> str:
        """Stop a job with a savepoint in the directory, and give the savepoint's address.

        ``drain`` lets everything that is on its way through the job come out, as before the job's end; such a savepoint
        is not to be started from. Raises FlinkError when the job does not stop.
        """
        order = {"targetDirectory": savepoints.absolute().as_uri(), "drain": drain}
        answer = requests.post(self._url(f"jobs/{job_id}/stop"), json=order, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        savepoint = f"jobs/{job_id}/savepoints/{answer.json()['request-id']}"
        done: dict[str, Any] = {}

        def is_done() -> bool:
            done.update(self.get(savepoint).get("operation") or {})
            return bool(done)

        _wait(is_done, timeout_seconds, f"job {job_id} took no savepoint within {timeout_seconds:.0f} s")
        if "location" not in done:
            raise FlinkError(f"job {job_id} took no savepoint: {done.get('failure-cause', {}).get('class')}")
        self._wait_until_ended(job_id, timeout_seconds, "did not stop")
        return str(done["location"])

    def run_jar(self, jar: Path, savepoint: str | None = None, timeout_seconds: float = 120) -> str:
        """Run a job's own jar (`sunbird-pipelines package`), from a savepoint or its group's offsets: the job's id.

        Waits until all its tasks run. Raises FlinkError when they do not.
        """
        with jar.open("rb") as content:
            answer = requests.post(
                self._url("jars/upload"), files={"jarfile": ("job.jar", content)}, timeout=timeout_seconds
            )
        answer.raise_for_status()
        uploaded = f"jars/{Path(answer.json()['filename']).name}"
        order = {"savepointPath": savepoint} if savepoint else {}
        try:
            answer = requests.post(self._url(f"{uploaded}/run"), json=order, timeout=timeout_seconds)
            answer.raise_for_status()
        finally:
            requests.delete(self._url(uploaded), timeout=TIMEOUT_SECONDS)
        job_id = str(answer.json()["jobid"])
        self.wait_until_running(job_id, timeout_seconds)
        return job_id

    def wait_until_running(self, job_id: str, timeout_seconds: float = 120) -> None:
        """Wait until all tasks of a job run. Raises FlinkError that says why they do not."""
        end = time.monotonic() + timeout_seconds
        while not (details := self.details(job_id)).runs:
            ended = details.state in _ENDED
            if ended or time.monotonic() > end:
                why = ("" if ended else self._lack_of_slots()) or self.root_cause(job_id)
                what = f"is {details.state}" if ended else f"does not run after {timeout_seconds:.0f} s"
                raise FlinkError(f"job {job_id} {what}{why and ': '}{why}")
            time.sleep(_POLL_SECONDS)

    def _lack_of_slots(self) -> str:
        cluster = self.get("overview")
        return "" if cluster["slots-available"] else f"all {cluster['slots-total']} slots of the cluster are taken"

    def _wait_until_ended(self, job_id: str, timeout_seconds: float, otherwise: str) -> None:
        _wait(
            lambda: all(job.id != job_id for job in self.living()),
            timeout_seconds,
            f"job {job_id} {otherwise} within {timeout_seconds:.0f} s",
        )

    def _url(self, path: str) -> str:
        return f"http://{self.address}/{path}"


def _wait(condition: Callable[[], bool], timeout_seconds: float, otherwise: str) -> None:
    end = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > end:
            raise FlinkError(otherwise)
        time.sleep(_POLL_SECONDS)
