"""The processes of a stack: started in their own session, remembered with their start time, ended by it."""

import contextlib
import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deploy.local.errors import StackError

LOOPBACK = "127.0.0.1"
STOP_SECONDS = 30
LOG_LINES_SHOWN = 20
# below what Linux, macOS and Windows take for outgoing connections: a server that is started again finds its port free
UNASSIGNED_PORTS = range(20_000, 32_000)
START_TIME_TOLERANCE = 2.0  # the clock may be set while a process runs


@dataclass(frozen=True, slots=True)
class Started:
    """A process that was started: its id and, since ids are used again, the second of the epoch it began at."""

    pid: int
    started_at: float

    def process(self) -> psutil.Process | None:
        """The process when it still runs (and is not another one with the same id)."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started_at) > START_TIME_TOLERANCE:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None


class Processes:
    """The processes that were started under one directory, kept in its `processes.json`."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "processes.json"
        self.logs = directory / "logs"

    def _read(self) -> dict[str, Started]:
        if not self._file.exists():
            return {}
        return {name: Started(**values) for name, values in json.loads(self._file.read_text()).items()}

    def _change(self, name: str, started: Started | None) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self._read()
            known.pop(name, None)
            if started is not None:
                known[name] = started
            written = self._file.with_suffix(".new")
            written.write_text(json.dumps({name: asdict(value) for name, value in known.items()}, indent=1))
            written.replace(self._file)

    def running(self, name: str) -> psutil.Process | None:
        """The process of that name when it runs."""
        started = self._read().get(name)
        return started.process() if started else None

    def log(self, name: str) -> Path:
        """The file that the output of the process of that name goes to."""
        return self.logs / f"{name}.log"

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        """Start a command that outlives this process; its output is appended to its log."""
        self.logs.mkdir(parents=True, exist_ok=True)
        directory.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self._change(name, Started(child.pid, psutil.Process(child.pid).create_time()))

    def stop(self, name: str, at_once: bool = False) -> bool:
        """End the process of that name with all its children; `at_once` gives them no time to finish (SIGKILL).

        True when it ran.
        """
        process = self.running(name)
        if process is None:
            self._change(name, None)
            return False
        try:
            family = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        self._signal(family, signal.SIGKILL if at_once else signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
        if alive:
            self._signal(alive, signal.SIGKILL)
            psutil.wait_procs(alive, timeout=STOP_SECONDS)
        self._change(name, None)
        return True

    @staticmethod
    def _signal(processes: Sequence[psutil.Process], number: int) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def wait_until(self, name: str, healthy: Callable[[], bool], timeout_seconds: float) -> None:
        """Wait until `healthy` says so. Raises StackError with the end of the log when it does not come to that."""
        end = time.monotonic() + timeout_seconds
        while not healthy():
            if self.running(name) is None:
                raise StackError(f"{name} ended while it was starting; {self._last_words(name)}")
            if time.monotonic() > end:
                raise StackError(f"{name} was not healthy within {timeout_seconds:.0f} s; {self._last_words(name)}")
            time.sleep(0.1)

    def _last_words(self, name: str) -> str:
        log = self.log(name)
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:] if log.exists() else []
        return f"the end of {log}:\n" + "\n".join(lines)


def port_is_free(port: int) -> bool:
    """Whether a server could listen on that port of the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(other_than: Collection[int] = ()) -> int:
    """A port of the loopback address that nobody listens on at the moment and that no outgoing connection is given.

    Raises StackError when there is none.
    """
    for port in random.sample(UNASSIGNED_PORTS, len(UNASSIGNED_PORTS)):
        if port not in other_than and port_is_free(port):
            return port
    raise StackError(f"no port from {UNASSIGNED_PORTS[0]} to {UNASSIGNED_PORTS[-1]} is free")


def accepts_connections(port: int) -> bool:
    """Whether somebody listens on that port of the loopback address."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False
