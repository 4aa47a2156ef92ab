"""What every service of the stack is: its ports, its processes, how they start, and what a job must know of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from deploy.local.processes import Processes
from deploy.local.progress import Progress


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a service needs to know of the stack that it belongs to."""

    directory: Path
    ports: Mapping[str, int]
    processes: Processes
    progress: Progress
    slots: int  # task slots of the TaskManager

    def data(self, service: str) -> Path:
        """The directory, made if need be, that a service keeps its data and configuration in."""
        directory = self.directory / service
        directory.mkdir(parents=True, exist_ok=True)
        return directory


class Service(ABC):
    """One service; `name` is what the command line calls it."""

    name: ClassVar[str]
    ports: ClassVar[Mapping[str, int]]
    processes: ClassVar[tuple[str, ...]]
    patience_seconds: ClassVar[float] = 90
    only_when_named: ClassVar[bool] = False
    """Whether `up` without names leaves it out."""

    def prepare(self, around: Surroundings) -> None:  # noqa: B027 (most services have nothing to download)
        """Get what the service is made of, when it is not there yet. Raises StackError when it cannot be had."""

    @abstractmethod
    def start(self, process: str, around: Surroundings) -> None:
        """Start one of the service's processes, which does not run. Raises StackError when it cannot be started."""

    @abstractmethod
    def healthy(self, process: str, around: Surroundings) -> bool:
        """Whether a process that runs does its work by now; to be asked again within ``patience_seconds`` if not."""

    def populate(self, environment: str, around: Surroundings) -> None:  # noqa: B027 (not every service has contents)
        """Create the topics, tables and so on of an environment that are not there yet."""

    @abstractmethod
    def settings(self, around: Surroundings) -> dict[str, Any]:
        """The settings, under upstream's keys, by which a job finds the service."""
