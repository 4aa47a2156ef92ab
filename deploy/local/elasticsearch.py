"""Elasticsearch: one node with little memory, from its jars alone (see deploy/java/stack/ElasticsearchNode.java)."""

from typing import Any, ClassVar

from elasticsearch import Elasticsearch as Client
from elasticsearch import ElasticsearchException

from deploy.local.errors import StackError
from deploy.local.maven import JAVA_DIRECTORY, class_path, java
from deploy.local.processes import LOOPBACK, accepts_connections
from deploy.local.service import Service, Surroundings
from schemas.elasticsearch import indexes

HEAP_MEGABYTES = 384
LOG4J = """\
<Configuration status="warn">
  <Appenders>
    <Console name="console"><PatternLayout pattern="%d{ISO8601} %-5p [%t] %c{1} - %m%n"/></Console>
  </Appenders>
  <Loggers><Root level="info"><AppenderRef ref="console"/></Root></Loggers>
</Configuration>
"""


class Elasticsearch(Service):
    """The search index of certificates, users and the like."""

    name = "elasticsearch"
    ports: ClassVar = {"elasticsearch": 9200, "elasticsearch-transport": 9300}
    processes = ("elasticsearch",)

    def prepare(self, around: Surroundings) -> None:
        class_path("elasticsearch", around.progress)

    def start(self, process: str, around: Surroundings) -> None:
        directory = around.data("elasticsearch")
        log4j = directory / "log4j2.xml"
        log4j.write_text(LOG4J)
        settings = {
            "cluster.name": "local",
            "node.name": "local",
            "path.home": directory,
            "network.host": LOOPBACK,
            "http.port": around.ports["elasticsearch"],
            "transport.port": around.ports["elasticsearch-transport"],
            "discovery.type": "single-node",
            # a disk that is nearly full is no reason to take no documents
            "cluster.routing.allocation.disk.threshold_enabled": "false",
            "node.store.allow_mmap": "false",
        }
        command = [
            java(),
            f"-Xms{HEAP_MEGABYTES}m",
            f"-Xmx{HEAP_MEGABYTES}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            f"-Dlog4j.configurationFile={log4j}",
            "-Dlog4j2.formatMsgNoLookups=true",
            "-Dlog4j2.disable.jmx=true",
            "-cp",
            class_path("elasticsearch", around.progress),
            str(JAVA_DIRECTORY / "stack" / "ElasticsearchNode.java"),
            *(f"{name}={value}" for name, value in settings.items()),
        ]
        around.processes.start(process, command, {}, directory)

    def healthy(self, process: str, around: Surroundings) -> bool:
        if not accepts_connections(around.ports["elasticsearch"]):
            return False
        try:
            with self._client(around) as client:
                return client.cluster.health(wait_for_status="yellow", timeout="5s")["status"] in ("green", "yellow")
        except ElasticsearchException:
            return False

    @staticmethod
    def _client(around: Surroundings) -> Client:
        return Client([f"http://{LOOPBACK}:{around.ports['elasticsearch']}"], timeout=30, max_retries=0)

    def populate(self, environment: str, around: Surroundings) -> None:
        around.progress(self.name, "creating indexes")
        with self._client(around) as client:
            for name, index in indexes().items():
                try:
                    if not client.indices.exists(index=name):
                        client.indices.create(index=name, **index)
                except ElasticsearchException as error:
                    raise StackError(f"Elasticsearch refuses the index {name!r}: {error}") from error

    def settings(self, around: Surroundings) -> dict[str, Any]:
        return {"es.basePath": f"{LOOPBACK}:{around.ports['elasticsearch']}"}
