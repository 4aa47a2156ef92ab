"""The stack as a whole: which services there are, which of them run, and how they are brought up and down."""

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from deploy.local import progress as progress_module
from deploy.local.cassandra import Cassandra
from deploy.local.elasticsearch import Elasticsearch
from deploy.local.errors import StackError, UsageError
from deploy.local.flink import Flink
from deploy.local.kafka import Kafka
from deploy.local.mongo import Mongo
from deploy.local.monitoring import Monitoring
from deploy.local.neo4j import Neo4j
from deploy.local.object_storage import ObjectStorage
from deploy.local.processes import Processes, accepts_connections, free_port, port_is_free
from deploy.local.progress import Progress
from deploy.local.redis import Redis
from deploy.local.service import Service, Surroundings
from deploy.local.smtp import Smtp
from deploy.local.stubs import Stubs

SERVICES: dict[str, Service] = {
    service.name: service
    for service in (
        *(Kafka(), Cassandra(), Redis(), Elasticsearch(), Flink(), Mongo(), Neo4j(), ObjectStorage(), Smtp(), Stubs()),
        Monitoring(),
    )
}
DEFAULT_PORTS = {name: port for service in SERVICES.values() for name, port in service.ports.items()}
DEFAULT_SLOTS = 8


@dataclass(frozen=True, slots=True)
class Status:
    """How a service fares: `up` when all its processes run and its ports answer."""

    service: str
    up: bool
    pids: tuple[int, ...]
    ports: Mapping[str, int]


class Stack:
    """The local stack under one directory.

    `env` is the prefix of topics and keyspaces. `ports` names the ports that are to change, or "free" takes any that
    are free; without, they are those of the last start, at first the defaults. `slots` is the number of task slots of
    the TaskManager, without as at the last start, at first 8. Several stacks may run side by side in directories and
    on ports of their own.
    """

    def __init__(
        self,
        directory: Path | str = ".stack",
        env: str = "dev",
        ports: Mapping[str, int] | Literal["free"] | None = None,
        slots: int | None = None,
        progress: Progress = progress_module.silent,
    ) -> None:
        self.directory = Path(directory).absolute()
        self.env = env
        self._wanted_ports = ports or {}
        if self._wanted_ports != "free":
            for name in self._wanted_ports:
                if name not in DEFAULT_PORTS:
                    raise UsageError(f"there is no port named {name!r}; there are {', '.join(DEFAULT_PORTS)}")
        self._slots = slots
        self._progress = progress
        self._processes = Processes(self.directory)

    def up(self, services: Iterable[str] = ()) -> None:
        """Start the services named that do not run, side by side, and wait until they are healthy.

        Without names these are all but monitoring. Topics and tables of the environment are made when they are missing.
        Raises UsageError for an unknown service and a taken port, StackError when a service does not come up; what came
        up stays up. An interrupt ends what is still starting.
        """
        chosen = self._services(services or (s.name for s in SERVICES.values() if not s.only_when_named))
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._exclusive():
            self._settle(chosen)
            around = self._surroundings()
            with ThreadPoolExecutor(max_workers=len(chosen)) as threads:
                started = {service: threads.submit(self._bring_up, service, around) for service in chosen}
                try:
                    failures = [error for future in started.values() if (error := future.exception()) is not None]
                except KeyboardInterrupt:
                    # one that is still starting gives up when its process ends
                    for service, future in started.items():
                        if not future.done():
                            self._take_down(service)
                    raise
        for failure in failures:
            if not isinstance(failure, StackError):
                raise failure
        if failures:
            raise type(failures[0])("\n".join(str(failure) for failure in failures))

    def _bring_up(self, service: Service, around: Surroundings) -> None:
        if any(self._processes.running(process) is None for process in service.processes):
            service.prepare(around)
        for process in service.processes:
            self._start(service, process, around)
        service.populate(self.env, around)
        around.progress(service.name, "up", done=True)

    def _start(self, service: Service, process: str, around: Surroundings) -> None:
        if self._processes.running(process) is None:
            around.progress(service.name, f"starting {process}")
            service.start(process, around)
        self._processes.wait_until(process, lambda: service.healthy(process, around), service.patience_seconds)

    def down(self, services: Iterable[str] = ()) -> list[str]:
        """End the services named (all without names) as far as this stack started them; their data stays.

        The names of those that ran. Raises UsageError for an unknown service.
        """
        chosen = self._services(services)
        if not self.directory.exists():
            return []
        with self._exclusive(), ThreadPoolExecutor(max_workers=len(chosen)) as threads:
            return [
                service.name for service, ran in zip(chosen, threads.map(self._take_down, chosen), strict=True) if ran
            ]

    def _take_down(self, service: Service) -> bool:
        ran = [self._processes.stop(process) for process in reversed(service.processes)]
        if any(ran):
            self._progress(service.name, "down", done=True)
        return any(ran)

    def start_service(self, name: str) -> None:
        """Start a service, or one process of it such as `taskmanager`, that does not run; wait until it is healthy.

        Raises UsageError for an unknown name, StackError when it does not come up.
        """
        named = self._named(name)
        if not self._state_file.exists():
            raise StackError(f"there is no stack in {self.directory} yet")
        for service, process in named:
            self._start(service, process, self._surroundings())

    def stop_service(self, name: str) -> None:
        """End one service, or one process of it, giving it the time to finish; its data stays."""
        for _, process in reversed(self._named(name)):
            self._processes.stop(process)

    def kill(self, name: str) -> None:
        """End one service, or one process of it, at once, as a crash would."""
        for _, process in reversed(self._named(name)):
            self._processes.stop(process, at_once=True)

    def process(self, name: str) -> psutil.Process:
        """The running process of that name: that of its service, or jobmanager, taskmanager, worker-pool.

        Raises StackError when it does not run.
        """
        process = self._processes.running(name)
        if process is None:
            raise StackError(f"{name} does not run")
        return process

    def workers(self) -> list[psutil.Process]:
        """The Python workers that run now: the children of the worker pool."""
        children = self.process("worker-pool").children()
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def log(self, process: str) -> Path:
        """The file with the output of a process."""
        return self._processes.log(process)

    def status(self) -> list[Status]:
        """How each service fares, all services in their fixed order."""
        ports = self._ports()
        states = []
        for service in SERVICES.values():
            running = [self._processes.running(process) for process in service.processes]
            pids = tuple(process.pid for process in running if process is not None)
            its_ports = {name: ports[name] for name in service.ports}
            up = len(pids) == len(running) and all(accepts_connections(port) for port in its_ports.values())
            states.append(Status(service.name, up, pids, its_ports))
        return states

    def environment(self) -> dict[str, Any]:
        """The settings, flat and under upstream's keys, by which jobs find the services that are up."""
        around = self._surroundings()
        settings: dict[str, Any] = {"job.env": self._state().get("environment", self.env)}
        for status in self.status():
            if status.up:
                settings.update(SERVICES[status.service].settings(around))
        return settings

    @staticmethod
    def _services(names: Iterable[str]) -> list[Service]:
        chosen = list(dict.fromkeys(names)) or list(SERVICES)
        for name in chosen:
            if name not in SERVICES:
                raise UsageError(f"there is no service {name!r}; there are {', '.join(SERVICES)}")
        return [SERVICES[name] for name in chosen]

    @staticmethod
    def _named(name: str) -> Sequence[tuple[Service, str]]:
        if name in SERVICES:
            return [(SERVICES[name], process) for process in SERVICES[name].processes]
        for service in SERVICES.values():
            if name in service.processes:
                return [(service, name)]
        raise UsageError(f"there is no service or process {name!r}")

    def _settle(self, chosen: Sequence[Service]) -> None:
        """Decide on ports and slots, and remember them."""
        state = self._state()
        kept: dict[str, int] = state.get("ports", {})
        slots = self._slots or state.get("slots", DEFAULT_SLOTS)
        running = [service for service in SERVICES.values() if self._any_running(service)]
        if SERVICES["flink"] in running and slots != state.get("slots", slots):
            raise UsageError(f"flink runs already, with {state['slots']} slots: take it down first")
        held = {kept[name]: name for service in running for name in service.ports}
        for service in chosen:
            if service in running:
                self._hold_on_to(service, kept)
                continue
            for name in service.ports:
                kept[name] = self._choose_port(name, kept.get(name), held)
                held[kept[name]] = name
        self._state_file.write_text(json.dumps({"environment": self.env, "ports": kept, "slots": slots}, indent=1))

    def _choose_port(self, name: str, before: int | None, held: Mapping[int, str]) -> int:
        def is_free(port: int) -> bool:
            return port not in held and port_is_free(port)

        if self._wanted_ports == "free":
            return before if before is not None and is_free(before) else free_port(other_than=held)
        port = self._wanted_ports.get(name, before or DEFAULT_PORTS[name])
        if not is_free(port):
            whose = f" by {held[port]}" if port in held else ""
            raise UsageError(f"port {port} ({name}) is taken{whose}; choose another one with --port {name}=NUMBER")
        return port

    def _hold_on_to(self, service: Service, ports: Mapping[str, int]) -> None:
        if self._wanted_ports == "free":
            return
        for name in service.ports:
            wanted = self._wanted_ports.get(name, ports[name])
            if wanted != ports[name]:
                raise UsageError(f"{service.name} runs already, on port {ports[name]} ({name}): take it down first")

    def _any_running(self, service: Service) -> bool:
        return any(self._processes.running(process) for process in service.processes)

    @property
    def _state_file(self) -> Path:
        return self.directory / "stack.json"

    def _state(self) -> dict[str, Any]:
        return dict(json.loads(self._state_file.read_text())) if self._state_file.exists() else {}

    def _ports(self) -> dict[str, int]:
        return {**DEFAULT_PORTS, **self._state().get("ports", {})}

    def _surroundings(self) -> Surroundings:
        slots = self._state().get("slots", DEFAULT_SLOTS)
        return Surroundings(self.directory, self._ports(), self._processes, self._progress, slots)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with (self.directory / "stack.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
