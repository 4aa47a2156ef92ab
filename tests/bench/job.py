"""The job on Flink, submitted as its users do it, and what Flink says about it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import yaml

__all__ = ["NotRunning", "Running", "submitted"]

SECONDS = 10
START_SECONDS = 600
STOP_SECONDS = 60
LINES_SHOWN = 30


class NotRunning(Exception):
    """The job did not come up, or is gone."""


class Running:
    """A job that runs on Flink, and when all its steps were running (seconds since the epoch)."""

    def __init__(self, flink: str, job_id: str) -> None:
        self._jobs = f"http://{flink}/jobs"
        self.job_id = job_id
        self.began = 0.0

    def all_steps_run(self) -> bool:
        """Whether every parallel part of every step runs; notes since when."""
        details = self._get(f"/{self.job_id}")
        if details["state"] in ("FAILED", "CANCELED", "FINISHED"):
            raise NotRunning(f"the job is {details['state'].lower()}")
        began = []
        for vertex in details["vertices"]:
            for part in self._get(f"/{self.job_id}/vertices/{vertex['id']}")["subtasks"]:
                if part["status"] != "RUNNING":
                    return False
                before = part["status-duration"]
                began.append(part["start-time"] + max(before["DEPLOYING"], 0) + max(before["INITIALIZING"], 0))
        self.began = max(began, default=0) / 1000
        return bool(began)

    def restarts(self) -> int:
        """How often Flink had to restart it."""
        metrics = self._get(f"/{self.job_id}/metrics?get=numRestarts")
        return int(metrics[0]["value"]) if metrics else 0

    def cancel(self) -> None:
        requests.patch(f"{self._jobs}/{self.job_id}?mode=cancel", timeout=SECONDS)

    def _get(self, path: str) -> Any:
        answer = requests.get(f"{self._jobs}{path}", timeout=SECONDS)
        answer.raise_for_status()
        return answer.json()


@contextmanager
def submitted(
    job: str, settings: Mapping[str, Any], parallelism: int, directory: Path, beam_options: tuple[str, ...] = ()
) -> Iterator[Running]:
    """Submit a job with the command line and wait until all its steps run; cancel it afterwards.

    Raises NotRunning with the end of the command's log.
    """
    name = f"{job}-{settings['job.env']}"
    configuration = directory / "settings.yaml"
    configuration.write_text(yaml.safe_dump(dict(settings), sort_keys=False))
    log = directory / "run.log"
    command = [str(Path(sys.executable).with_name("sunbird-pipelines")), "run", job, "--config", str(configuration)]
    command += ["--", f"--parallelism={parallelism}", f"--job_name={name}", *beam_options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    running = None
    try:
        running = _wait(process, name, str(settings["flink.master"]), log)
        yield running
    finally:
        if running is not None:
            running.cancel()
        else:
            process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], name: str, flink: str, log: Path) -> Running:
    deadline = time.monotonic() + START_SECONDS
    running = None
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if running is None:
            overview = requests.get(f"http://{flink}/jobs/overview", timeout=SECONDS).json()
            ids = [job["jid"] for job in overview["jobs"] if job["name"] == name]
            running = Running(flink, ids[0]) if ids else None
        elif running.all_steps_run():
            return running
        time.sleep(0.2)
    if running is not None:
        running.cancel()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_SHOWN:]
    raise NotRunning(f"{name} did not come up:\n" + "\n".join(lines))
