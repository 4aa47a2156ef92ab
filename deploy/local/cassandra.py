"""Cassandra: one node with little memory that is ready within seconds."""

import os
from pathlib import Path
from typing import Any, ClassVar

import yaml
from cassandra import DriverException
from cassandra.cluster import Cluster, NoHostAvailable, Session

from deploy.local.errors import StackError
from deploy.local.maven import class_path, java
from deploy.local.processes import LOOPBACK, accepts_connections
from deploy.local.service import Service, Surroundings
from schemas.cassandra import create_statements

# what Cassandra 5 reaches into on Java 17
EXPORTS = (
    "java.base/java.lang.ref",
    "java.base/jdk.internal.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.attach/sun.tools.attach",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.unsupported/sun.misc",
)
OPENS = (
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.util",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.compiler/com.sun.tools.javac",
    "jdk.management/com.sun.management.internal",
)
LOGBACK = """\
<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%date{ISO8601} %-5level [%thread] %logger{0} - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="STDOUT"/></root>
</configuration>
"""


class Cassandra(Service):
    """The database of enrolments, consumption and progress."""

    name = "cassandra"
    ports: ClassVar = {"cassandra": 9042, "cassandra-storage": 7000}
    processes = ("cassandra",)
    patience_seconds = 180

    def prepare(self, around: Surroundings) -> None:
        class_path("cassandra", around.progress)

    def start(self, process: str, around: Surroundings) -> None:
        directory = around.data("cassandra")
        configuration = directory / "cassandra.yaml"
        configuration.write_text(yaml.safe_dump(_configuration(directory, around)))
        logback = directory / "logback.xml"
        logback.write_text(LOGBACK)
        jars = class_path("cassandra", around.progress)
        jamm = next(jar for jar in jars.split(os.pathsep) if Path(jar).name.startswith("jamm-"))
        command = [
            java(),
            f"-javaagent:{jamm}",
            "-Xms768m",
            "-Xmx768m",
            "-Xss512k",
            "-XX:+UseParallelGC",
            "-XX:+AlwaysPreTouch",
            "-XX:+HeapDumpOnOutOfMemoryError",
            "-XX:MaxDirectMemorySize=256m",
            *(f"--add-exports={package}=ALL-UNNAMED" for package in EXPORTS),
            *(f"--add-opens={package}=ALL-UNNAMED" for package in OPENS),
            "-Djdk.attach.allowAttachSelf=true",
            "-Dio.netty.tryReflectionSetAccessible=true",
            "-Djava.net.preferIPv4Stack=true",
            f"-Dcassandra.config={configuration.as_uri()}",
            f"-Dcassandra.storagedir={directory}",
            f"-Dcassandra.logdir={directory}",
            f"-Dlogback.configurationFile={logback}",
            "-Dcassandra-foreground=yes",
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
            "-Dcassandra.ring_delay_ms=100",
            "-Dcassandra.superuser_setup_delay_ms=0",
            "-cp",
            jars,
            "org.apache.cassandra.service.CassandraDaemon",
        ]
        around.processes.start(process, command, {}, directory)

    def healthy(self, process: str, around: Surroundings) -> bool:
        if not accepts_connections(around.ports["cassandra"]):
            return False
        try:
            with self._cluster(around) as cluster:
                cluster.connect().execute("SELECT release_version FROM system.local", timeout=10)
            return True
        except (NoHostAvailable, DriverException):
            return False

    @staticmethod
    def _cluster(around: Surroundings) -> Cluster:
        return Cluster([LOOPBACK], port=around.ports["cassandra"], connect_timeout=10, control_connection_timeout=10)

    def populate(self, environment: str, around: Surroundings) -> None:
        around.progress(self.name, "creating tables")
        with self._cluster(around) as cluster:
            session: Session = cluster.connect()
            for statement in create_statements(environment):
                try:
                    session.execute(statement, timeout=60)
                except Exception as error:
                    raise StackError(f"Cassandra refuses {statement.split('(')[0].strip()!r}: {error}") from error

    def settings(self, around: Surroundings) -> dict[str, Any]:
        roles = ("lms-cassandra", "ml-cassandra")
        return {
            key: value
            for role in roles
            for key, value in ((f"{role}.host", LOOPBACK), (f"{role}.port", around.ports["cassandra"]))
        }


def _configuration(directory: Path, around: Surroundings) -> dict[str, Any]:
    return {
        "cluster_name": "local",
        "num_tokens": 1,
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "endpoint_snitch": "SimpleSnitch",
        "listen_address": LOOPBACK,
        "rpc_address": LOOPBACK,
        "native_transport_port": around.ports["cassandra"],
        "storage_port": around.ports["cassandra-storage"],
        "seed_provider": [
            {
                "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                "parameters": [{"seeds": f"{LOOPBACK}:{around.ports['cassandra-storage']}"}],
            }
        ],
        "data_file_directories": [str(directory / "data")],
        "commitlog_directory": str(directory / "commitlog"),
        "saved_caches_directory": str(directory / "saved_caches"),
        "hints_directory": str(directory / "hints"),
        "cdc_raw_directory": str(directory / "cdc_raw"),
        # a kill of the server loses what it acknowledged in the last 100 ms; `batch` would not, at half the speed
        "commitlog_sync": "periodic",
        "commitlog_sync_period": "10000ms",
        "commitlog_segment_size": "16MiB",
        "commitlog_total_space": "256MiB",
        "memtable_heap_space": "128MiB",
        "memtable_offheap_space": "64MiB",
        "key_cache_size": "16MiB",
        "file_cache_size": "64MiB",
        "concurrent_reads": 16,
        "concurrent_writes": 16,
        "concurrent_compactors": 1,
        "read_request_timeout": "10000ms",
        "range_request_timeout": "20000ms",
        "write_request_timeout": "10000ms",
        "truncate_request_timeout": "60000ms",
        "request_timeout": "20000ms",
        "auto_snapshot": False,
        "incremental_backups": False,
        "hinted_handoff_enabled": False,
    }
