"""What the compose file needs of the local stack: the same topics, tables and indexes, and the settings of the jobs.

    python -m deploy.local.contents fill SERVICE      in the network of a server that runs, at its usual ports
    python -m deploy.local.contents settings FOLDER   site.yaml, and group.yaml of the jobs in $JOBS (all without)

A container in another's network sees that one's servers on its own loopback address, so what fills the local stack
fills these, too.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from deploy.helm.jobs import names
from deploy.local.errors import StackError
from deploy.local.processes import LOOPBACK, Processes
from deploy.local.progress import silent
from deploy.local.service import Surroundings
from deploy.local.stack import DEFAULT_PORTS, DEFAULT_SLOTS, SERVICES

# Whose addresses stay loopback ones: the stand-ins and the workers, which share the TaskManager's network.
BESIDE_THE_WORKERS = ("smtp", "stubs")
ENVIRONMENT = "dev"


def _around(folder: Path, ports: Mapping[str, int]) -> Surroundings:
    return Surroundings(folder, ports, Processes(folder), silent, DEFAULT_SLOTS)


def fill(
    service: str,
    environment: str = ENVIRONMENT,
    ports: Mapping[str, int] = DEFAULT_PORTS,
    patience_seconds: float = 300,
) -> None:
    """Wait for a server, then make its topics, tables and so on. Raises StackError when it does not come or refuses."""
    server = SERVICES[service]
    end = time.monotonic() + patience_seconds
    with tempfile.TemporaryDirectory() as folder:
        around = _around(Path(folder), ports)
        while not all(server.healthy(process, around) for process in server.processes):
            if time.monotonic() > end:
                raise StackError(f"{service} was not healthy within {patience_seconds:.0f} s")
            time.sleep(1)
        server.populate(environment, around)


def settings() -> dict[str, Any]:
    """The settings by which jobs find the servers: of every service, under the name that it has in the compose file."""
    found: dict[str, Any] = {"job.env": ENVIRONMENT}
    around = _around(Path("/nowhere"), DEFAULT_PORTS)
    for name, service in SERVICES.items():
        for key, value in service.settings(around).items():
            moved = isinstance(value, str) and name not in BESIDE_THE_WORKERS
            found[key] = value.replace(LOOPBACK, name) if moved else value
    found["flink.master"] = "jobmanager:8081"
    found["flink.worker-pool"] = "localhost:50000"
    # a first start, where nobody has committed offsets yet
    found["kafka.auto.offset.reset"] = "earliest"
    return found


def write_settings(folder: Path, jobs: Sequence[str]) -> None:
    """Write the settings, and the group of the jobs named."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "site.yaml").write_text(yaml.safe_dump(settings(), sort_keys=False))
    group = {"group": "sunbird", "jobs": {job: ["site.yaml"] for job in jobs}}
    (folder / "group.yaml").write_text(yaml.safe_dump(group, sort_keys=False))


def main(arguments: Sequence[str]) -> None:
    """The command. Raises StackError, IndexError for too few arguments."""
    what, where = arguments[0], arguments[1]
    if what == "fill":
        fill(where)
    elif what == "settings":
        write_settings(Path(where), os.environ.get("JOBS", "").split() or names())
    else:
        raise SystemExit(f"there is no {what!r}; there are fill and settings")


if __name__ == "__main__":
    main(sys.argv[1:])
