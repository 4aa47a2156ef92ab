"""Neo4j: the harness of its own tests, which has all that speaks Bolt (see deploy/java/stack/Neo4jServer.java).

What it holds is gone when it ends.
"""

import logging
from typing import Any, ClassVar

from neo4j import Driver, GraphDatabase
from neo4j.exceptions import DriverError, Neo4jError

from deploy.local.errors import StackError
from deploy.local.maven import JAVA_DIRECTORY, class_path, java
from deploy.local.processes import LOOPBACK, accepts_connections
from deploy.local.service import Service, Surroundings

HEAP_MEGABYTES = 256


class Neo4j(Service):
    """The graph of contents, questions and question sets."""

    name = "neo4j"
    ports: ClassVar = {"neo4j": 7687}
    processes = ("neo4j",)

    def prepare(self, around: Surroundings) -> None:
        class_path("neo4j", around.progress)

    def start(self, process: str, around: Surroundings) -> None:
        directory = around.data("neo4j")
        command = [
            java(),
            f"-Xmx{HEAP_MEGABYTES}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "--add-opens=java.base/java.nio=ALL-UNNAMED",
            "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
            "-cp",
            class_path("neo4j", around.progress),
            str(JAVA_DIRECTORY / "stack" / "Neo4jServer.java"),
            str(around.ports["neo4j"]),
            str(directory),
        ]
        around.processes.start(process, command, {}, directory)

    def healthy(self, process: str, around: Surroundings) -> bool:
        if not accepts_connections(around.ports["neo4j"]):
            return False
        # one that is still starting is no news
        logging.getLogger("neo4j").setLevel(logging.CRITICAL)
        try:
            with self._driver(around) as driver:
                driver.verify_connectivity()
            return True
        except (DriverError, Neo4jError):
            return False

    def populate(self, environment: str, around: Surroundings) -> None:
        around.progress(self.name, "creating the index")
        unique = "CREATE CONSTRAINT domain_id IF NOT EXISTS FOR (n:domain) REQUIRE n.IL_UNIQUE_ID IS UNIQUE"
        try:
            with self._driver(around) as driver, driver.session() as session:
                session.run(unique).consume()
        except (DriverError, Neo4jError) as error:
            raise StackError(f"Neo4j refuses the index: {error}") from error

    def settings(self, around: Surroundings) -> dict[str, Any]:
        return {"neo4j.routePath": f"bolt://{LOOPBACK}:{around.ports['neo4j']}", "neo4j.graph": "domain"}

    @staticmethod
    def _driver(around: Surroundings) -> Driver:
        return GraphDatabase.driver(f"bolt://{LOOPBACK}:{around.ports['neo4j']}", connection_timeout=5)
