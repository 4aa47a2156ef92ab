"""An installation in memory for the certificate jobs: tables, caches, and Sunbird's services behind a twin of HTTP."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import orjson

from deploy.local.sunbird_services import SunbirdServices
from io_connectors.memory import MemoryCassandra, MemoryRedis
from io_connectors.memory_http import MemoryHttp
from io_connectors.threads import Threads
from pipelines.in_memory import InMemory
from transforms.stores import Update

BATCHES = "sunbird_courses.course_batch"
ENROLMENTS = "sunbird_courses.user_enrolments"
AGGREGATES = "sunbird_courses.user_activity_agg"
USER, COURSE, BATCH = "learner-1", "do_course", "0140555"
CERTIFICATE = "Course Completion Certificate"
SERVICES = "http://services"
NOW = 1_718_179_206_001  # 2024-06-12T08:00:06.001Z

numbers = count()


def dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


class CertificateSite:
    """What the certificate jobs see of an installation."""

    def __init__(self) -> None:
        self.name = f"certificates-{next(numbers)}"
        self.cassandra = MemoryCassandra(self.name)
        self.tables = self.cassandra.open()
        self.courses = MemoryRedis(self.name, 0).open()
        self.contents = MemoryRedis(self.name, 5).open()
        self.services = SunbirdServices()
        self.http = MemoryHttp(self.name)
        self.web = self.http.serve(lambda *call: self.services.answer(*call)[:2])
        self.calls = Threads(self.name, 8)
        self.written: dict[str, list[tuple[bytes | None, bytes]]] = {}
        self.counts: dict[str, int] = {}

    # --- what is there

    def put(self, table: str, where: dict[str, Any], assign: dict[str, Any]) -> None:
        assert self.tables.write([[Update(table, where, assign)]]) == [None]

    def enrol(self, user: str = USER, **columns: Any) -> None:
        where = {"userid": user, "courseid": COURSE, "batchid": BATCH}
        self.put(ENROLMENTS, where, {"active": True, "status": 2, **columns})

    def enrolment(self, user: str = USER) -> dict[str, Any] | None:
        rows = (row for row in self.tables.rows(ENROLMENTS) if row["userid"] == user)
        return next(rows, None)

    def issued(self, user: str = USER) -> list[dict[str, Any]]:
        row = self.enrolment(user)
        return list(map(dict, (row and row["issued_certificates"]) or []))

    def offer(self, **templates: dict[str, Any]) -> None:
        """The templates of the batch; members that are no text become JSON, as the LMS does it."""
        texts = {
            key: {name: value if isinstance(value, str) else dumps(value) for name, value in template.items()}
            for key, template in templates.items()
        }
        self.put(BATCHES, {"courseid": COURSE, "batchid": BATCH}, {"cert_templates": texts})

    def score(self, user: str = USER, **columns: Any) -> None:
        where = {"activity_type": "Course", "activity_id": COURSE, "user_id": user, "context_id": f"cb:{BATCH}"}
        self.put(AGGREGATES, where, columns)

    # --- the jobs

    def run(self, job: Any, settings: Any, stores: Any, *values: Any, **options: Any) -> CertificateSite:
        """Run a job over the values (objects as JSON); what it wrote and counted is kept here."""
        ran = InMemory(job, settings, stores)
        try:
            ran.run(*values, **options)
        finally:
            self.written, self.counts = ran.written, ran.counted
        return self

    def events(self, topic: str) -> list[dict[str, Any]]:
        assert all(key is None for key, _ in self.written.get(topic, ())), "no record has a Kafka key"
        return [orjson.loads(value) for _, value in self.written.get(topic, ())]


class Died(BaseException):
    """The worker was killed here."""


class Death:
    """Kills the worker at its n-th step towards stores and services: before one, or before its answer arrives."""

    def __init__(self, at: int) -> None:
        self._left = at

    def is_over(self) -> None:
        """Nobody dies any more."""
        self._left = 0

    def among(self, *twins: Any) -> Death:
        """Count the operations of these twins."""
        for twin in twins:
            twin._operate = self._counted(twin._operate)
        return self

    def behind(self, http: MemoryHttp) -> Death:
        """Count the calls of this client, each twice: before the service has it, and before its answer arrives."""
        handler = http.open().handler
        assert handler is not None
        serve = self._counted(handler)

        def answer(*call: Any) -> Any:
            answered = serve(*call)
            self._step()
            return answered

        http.serve(answer)
        return self

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self._step()
            return function(*arguments)

        return counted

    def _step(self) -> None:
        if self._left:
            self._left -= 1
            if not self._left:
                raise Died
