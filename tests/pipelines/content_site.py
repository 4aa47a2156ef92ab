"""An installation in memory for the jobs of contents: services behind a twin of HTTP, object store, graph, disk."""

from __future__ import annotations

import shutil
import tempfile
import threading
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from deploy.local.sunbird_services import SunbirdServices
from io_connectors.memory import MemoryCassandra
from io_connectors.memory_graph import MemoryNeo4j
from io_connectors.memory_http import MemoryHttp
from io_connectors.memory_objects import MemoryObjectStore
from io_connectors.threads import Threads
from io_connectors.workspace import Workspace
from pipelines.in_memory import InMemory

SERVICES = "http://services"
numbers = count()


class ContentSite:
    """What the jobs see of an installation. ``waits`` are the seconds that they wanted to wait."""

    def __init__(self) -> None:
        self.name = f"contents-{next(numbers)}"
        self.services = SunbirdServices()
        self.there = self.services.content_services
        self.http = MemoryHttp(self.name)
        self.web = self.http.serve(lambda *call: self.services.answer(*call)[:2])
        self.graph = MemoryNeo4j(self.name)
        self.nodes = self.graph.open()
        self.store = MemoryObjectStore(self.name, "contents")
        self.objects = self.store.open()
        self.cassandra = MemoryCassandra(self.name)
        self.tables = self.cassandra.open()
        self.directory = Path(tempfile.mkdtemp(prefix="content-site-"))
        self.workspace = Workspace(str(self.directory))
        self.calls = Threads(self.name, 8)
        self.written: dict[str, list[tuple[bytes | None, bytes]]] = {}
        self.counts: dict[str, int] = {}
        self.waits: list[float] = []
        _sites[self.name] = self

    def end(self) -> None:
        """All that was on disk is gone already; then so is the directory."""
        left = sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*"))
        shutil.rmtree(self.directory)
        del _sites[self.name]
        assert left == []

    def asked(self, path: str = "") -> list[str]:
        """The calls so far, each as ``METHOD path?query``, without those of files."""
        calls = [f"{call.method} {call.path}" for call in self.web.calls]
        return [call for call in calls if path in call and " /files/" not in call]

    def body(self, path: str) -> Any:
        """The JSON body of the one call whose path has that in it."""
        (call,) = [call for call in self.web.calls if path in call.path]
        return orjson.loads(call.body)

    def run(self, job: Any, settings: Any, stores: Any, *values: Any, **options: Any) -> Any:
        """Run a job over the values (objects as JSON); what it wrote and counted is kept here."""
        ran = InMemory(job, settings, stores)
        try:
            ran.run(*values, topic=self.name, wait=_Waits(self.name), **options)
        finally:
            self.written, self.counts = ran.written, ran.counted
        return self

    def events(self, topic: str) -> list[dict[str, Any]]:
        assert all(key is None for key, _ in self.written.get(topic, ())), "no record has a Kafka key"
        return [orjson.loads(value) for _, value in self.written.get(topic, ())]


_sites: dict[str, ContentSite] = {}
_lock = threading.Lock()


class _Waits:
    """Notes how long a job wants to wait, and does not; it travels into the steps by the site's name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, seconds: float) -> None:
        with _lock:
            _sites[self._name].waits.append(seconds)
