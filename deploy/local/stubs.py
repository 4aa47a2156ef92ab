"""Stand-ins for the HTTP services of Sunbird that the jobs call (see deploy.local.stub_server)."""

import sys
from typing import Any, ClassVar

from deploy.local.processes import LOOPBACK, accepts_connections
from deploy.local.service import Service, Surroundings


class Stubs(Service):
    """One small HTTP server for all of them."""

    name = "stubs"
    ports: ClassVar = {"stubs": 8099}
    processes = ("stubs",)

    def start(self, process: str, around: Surroundings) -> None:
        command = [sys.executable, "-m", "deploy.local.stub_server", str(around.ports["stubs"])]
        around.processes.start(process, command, {}, around.data("stubs"))

    def healthy(self, process: str, around: Surroundings) -> bool:
        return accepts_connections(around.ports["stubs"])

    def settings(self, around: Surroundings) -> dict[str, Any]:
        return {"service.search.basePath": f"http://{LOOPBACK}:{around.ports['stubs']}"}
