"""An installation in memory for the jobs around coKreat: its services, with faults on demand, behind a twin of HTTP."""

from __future__ import annotations

from itertools import count
from types import ModuleType
from typing import Any

from deploy.local.stub_behaviour import StubServices
from io_connectors.memory_http import MemoryCall, MemoryHttp
from io_connectors.threads import Threads
from pipelines.in_memory import InMemory
from pipelines.settings import keys
from schemas.counters import COUNTERS
from schemas.event_schemas import validator

FAILED = "dev.failed"
SERVICES = "http://services"

numbers = count()


class CokreatSite:
    """What a job sees of an installation. ``changed`` are settings by their keys; each site has its own stand-ins."""

    def __init__(self, job: ModuleType, **changed: Any) -> None:
        self.job = job
        self.name = f"cokreat-{next(numbers)}"
        addresses = {
            "program-service-baseUrl": SERVICES,
            "service.content.basePath": SERVICES,
            "service.sourcing.content.basePath": f"{SERVICES}/sourcing",
        }
        known = {name: value for name, value in addresses.items() if name in keys(job.Settings)}
        self.settings = job.Settings(**{"job.env": "dev", "kafka.failed.topic": FAILED, **known, **changed})
        self.stubs = StubServices()
        self.http = MemoryHttp(self.name, self.settings.max_attempts - 1)
        self.web = self.http.serve(self.stubs.in_memory)
        self.calls_at_once = Threads(self.name, 8)
        self.counts: dict[str, int] = {}
        self.letters: list[dict[str, Any]] = []

    @property
    def services(self) -> Any:
        return self.stubs.services

    def fault(self, **fault: Any) -> None:
        self.stubs.faults = [fault]

    def run(self, stores: Any, *values: Any, **options: Any) -> CokreatSite:
        """Run the job over the values (objects as JSON)."""
        ran = InMemory(self.job, self.settings, stores)
        try:
            ran.run(*values, topic=self.name, **options)
        finally:
            self.counts = ran.counted
            assert self.counts.keys() <= set(COUNTERS[self.job.NAME])
            assert set(ran.written) <= {FAILED}
            assert all(key is None for key, _ in ran.written.get(FAILED, ()))
            self.letters = ran.events(FAILED)
            for letter in self.letters:
                validator("dead-letter").validate(letter)
        return self

    def counted(self, **expected: int) -> bool:
        """Whether so many were ``success``, ``skipped``, ``failed``; ``total``, if not given, is their sum."""
        found = {name: self.counts.get(f"{name}-events-count", 0) for name in ("success", "skipped", "failed", "total")}
        total = expected.pop("total", sum(expected.values()))
        return found == {"success": 0, "skipped": 0, "failed": 0, **expected, "total": total}

    @property
    def calls(self) -> list[MemoryCall]:
        return self.web.calls

    @property
    def called(self) -> list[tuple[str, str]]:
        return [(call.method, call.path) for call in self.web.calls]

    @property
    def reasons(self) -> list[str]:
        return [letter["failInfo"]["error"] for letter in self.letters]
