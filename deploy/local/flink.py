"""A Flink session cluster of one JobManager and one TaskManager, and the pool of Python workers beside it."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import psutil
import requests
import yaml

from deploy.local.errors import StackError
from deploy.local.jar import job_server_jar
from deploy.local.maven import JAVA_DIRECTORY, cache_directory, exclusive, java
from deploy.local.processes import LOOPBACK, accepts_connections
from deploy.local.progress import Progress
from deploy.local.service import Service, Surroundings

VERSION = "1.19.3"
DOWNLOAD_SECONDS = 1800
SUBMISSION_SECONDS = 600
NETWORK_MEGABYTES = 128
JOBMANAGER_HEAP_MEGABYTES = 768
TASK_HEAP_MEGABYTES = 1024
FRAMEWORK_HEAP_MEGABYTES = 128
OFF_HEAP_MEGABYTES = 256
METASPACE_MEGABYTES = 384

# what Flink 1.19 reaches into on Java 17
EXPORTS = (
    "java.base/sun.net.util",
    "java.rmi/sun.rmi.registry",
    "java.security.jgss/sun.security.krb5",
    "jdk.compiler/com.sun.tools.javac.api",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.compiler/com.sun.tools.javac.parser",
    "jdk.compiler/com.sun.tools.javac.tree",
    "jdk.compiler/com.sun.tools.javac.util",
)
OPENS = (
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.reflect",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.text",
    "java.base/java.time",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.util.concurrent.locks",
    "java.base/sun.nio.ch",
)
HTTP_SERVER_EXPORT = ("--add-exports", "jdk.httpserver/sun.net.httpserver=ALL-UNNAMED")
LOOPBACK_HTTP_SERVERS = (
    *HTTP_SERVER_EXPORT,
    "-Dcom.sun.net.httpserver.HttpServerProvider=LoopbackHttpServers",
)
LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.type = CONSOLE
appender.console.name = Console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %c{1} - %m%n
logger.kafka.name = org.apache.kafka
logger.kafka.level = WARN
logger.pekko.name = org.apache.pekko
logger.pekko.level = WARN
"""


def flink_class_path(progress: Progress) -> str:
    """The class path of a Flink cluster; the jars come out of PyPI's apache-flink-libraries, once.

    They are kept apart from the environment of this process: the package only carries jars.
    Raises StackError when it cannot be had.
    """
    kept = cache_directory() / f"flink-{VERSION}-metrics"
    with exclusive("flink"):
        if not kept.exists():
            progress("flink", "getting Flink's jars with pip (230 MB)")
            with tempfile.TemporaryDirectory(dir=cache_directory()) as unpacked:
                command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
                command += ["--target", unpacked, f"apache-flink-libraries=={VERSION}"]
                try:
                    result = subprocess.run(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        text=True,
                        timeout=DOWNLOAD_SECONDS,
                        check=False,
                    )
                except subprocess.TimeoutExpired as error:
                    raise StackError(f"pip did not get Flink's jars within {DOWNLOAD_SECONDS} seconds") from error
                if result.returncode != 0:
                    raise StackError(f"pip cannot get apache-flink-libraries:\n{result.stdout[-2000:]}")
                wanted = Path(unpacked) / "wanted"
                wanted.mkdir()
                libraries = Path(unpacked) / "pyflink" / "lib"
                reporters = Path(unpacked) / "pyflink" / "plugins" / "metrics-prometheus"
                # tables, SQL and their connectors are of no use to a Beam pipeline
                for jar in [
                    *libraries.glob("flink-dist-*.jar"),
                    *libraries.glob("log4j-*.jar"),
                    *reporters.glob("*.jar"),
                ]:
                    shutil.move(jar, wanted)
                wanted.rename(kept)
    return os.pathsep.join(sorted(str(jar) for jar in kept.glob("*.jar")))


def loopback_http_servers() -> Path:
    """The folder with the class that keeps the reporter's HTTP server on loopback; compiled when it is not there.

    Raises StackError when the JDK has no compiler.
    """
    source = JAVA_DIRECTORY / "stack" / "LoopbackHttpServers.java"
    kept = cache_directory() / f"loopback-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    with exclusive("loopback"):
        if not kept.exists():
            compiler = Path(java()).resolve().with_name("javac")
            with tempfile.TemporaryDirectory(dir=cache_directory()) as compiled:
                command = [str(compiler), *HTTP_SERVER_EXPORT, "-d", compiled, str(source)]
                try:
                    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
                except (OSError, subprocess.SubprocessError) as error:
                    raise StackError(
                        f"{source.name} cannot be compiled; a JDK is needed, not only Java: {error}"
                    ) from error
                shutil.copytree(compiled, kept)
    return kept


class Flink(Service):
    """The cluster that the jobs are submitted to and the workers that run their Python."""

    name = "flink"
    ports: ClassVar = {
        "flink": 8081,
        "flink-jobmanager": 6123,
        "flink-worker-pool": 50000,
        "flink-metrics-jobmanager": 9249,
        "flink-metrics-taskmanager": 9250,
    }
    processes = ("jobmanager", "taskmanager", "worker-pool")

    def prepare(self, around: Surroundings) -> None:
        flink_class_path(around.progress)
        loopback_http_servers()
        job_server_jar(around.progress)  # no job gets onto the cluster without it

    def start(self, process: str, around: Surroundings) -> None:
        if process == "worker-pool":
            self._start_worker_pool(around)
        elif process == "jobmanager":
            self._start_java(
                process,
                "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
                ["-Xms256m", f"-Xmx{JOBMANAGER_HEAP_MEGABYTES}m", f"-XX:MaxMetaspaceSize={METASPACE_MEGABYTES}m"],
                around,
            )
        else:
            heap = TASK_HEAP_MEGABYTES + FRAMEWORK_HEAP_MEGABYTES
            direct = OFF_HEAP_MEGABYTES + NETWORK_MEGABYTES
            self._start_java(
                process,
                "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
                [
                    f"-Xms{heap}m",
                    f"-Xmx{heap}m",
                    f"-XX:MaxDirectMemorySize={direct}m",
                    f"-XX:MaxMetaspaceSize={METASPACE_MEGABYTES}m",
                ],
                around,
            )

    def healthy(self, process: str, around: Surroundings) -> bool:
        if process == "worker-pool":
            return accepts_connections(around.ports["flink-worker-pool"])
        if process == "jobmanager":
            return self._get("/overview", around) is not None
        # the JobManager may still know one that was killed: the living one is the one that listens
        running = around.processes.running(process)
        try:
            listening = {c.laddr.port for c in running.net_connections("tcp")} if running else set()
        except psutil.NoSuchProcess:
            return False
        return any(
            manager["dataPort"] in listening and manager["slotsNumber"] == around.slots
            for manager in (self._get("/taskmanagers", around) or {}).get("taskmanagers", ())
        )

    def _start_java(self, process: str, main_class: str, memory: list[str], around: Surroundings) -> None:
        directory = around.data("flink")
        configuration = directory / process
        configuration.mkdir(exist_ok=True)
        # what a killed process leaves here are copies of jars, hundreds of megabytes each
        shutil.rmtree(scratch := directory / "tmp" / process, ignore_errors=True)
        scratch.mkdir(parents=True)
        log = around.processes.log(process)
        (configuration / "config.yaml").write_text(yaml.safe_dump(_configuration(process, directory, log, around)))
        (configuration / "log4j.properties").write_text(LOG4J)
        jars = [flink_class_path(around.progress), str(loopback_http_servers())]
        if process == "taskmanager":
            # the classes of the jobs are there already, see classloader.resolve-order
            jars.append(str(job_server_jar(around.progress)))
        command = [
            java(),
            *memory,
            # the Java steps of a job are short: what the second compiler and a concurrent collector would save in hours
            # is less than what they cost (a third of a busy job's CPU)
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            *(f"--add-exports={package}=ALL-UNNAMED" for package in EXPORTS),
            *LOOPBACK_HTTP_SERVERS,
            *(f"--add-opens={package}=ALL-UNNAMED" for package in OPENS),
            f"-Dlog4j.configurationFile={(configuration / 'log4j.properties').as_uri()}",
            f"-Dlog.file={log}",
            "-cp",
            os.pathsep.join(jars),
            main_class,
            "--configDir",
            str(configuration),
        ]
        around.processes.start(process, command, {}, directory)

    def _start_worker_pool(self, around: Surroundings) -> None:
        # the pool starts its workers as `python`: that has to be this one
        environment = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}
        command = [sys.executable, "-m", "deploy.local.worker_pool", str(around.ports["flink-worker-pool"])]
        around.processes.start("worker-pool", command, environment, around.data("flink"))

    @staticmethod
    def _get(path: str, around: Surroundings) -> dict[str, Any] | None:
        try:
            answer = requests.get(f"http://{LOOPBACK}:{around.ports['flink']}{path}", timeout=5)
        except requests.RequestException:
            return None
        return dict(answer.json()) if answer.ok else None

    def populate(self, environment: str, around: Surroundings) -> None:
        # once a job is submitted the cluster has its own copy of the jar; nothing else ever deletes the uploaded one
        minutes_ago = (time.time() - SUBMISSION_SECONDS) * 1000
        for jar in (self._get("/jars", around) or {}).get("files", ()):
            if jar["uploaded"] < minutes_ago:
                requests.delete(f"http://{LOOPBACK}:{around.ports['flink']}/jars/{jar['id']}", timeout=10)

    def settings(self, around: Surroundings) -> dict[str, Any]:
        return {
            "flink.master": f"{LOOPBACK}:{around.ports['flink']}",
            "flink.worker-pool": f"{LOOPBACK}:{around.ports['flink-worker-pool']}",
        }


def _configuration(process: str, directory: Path, log: Path, around: Surroundings) -> dict[str, Any]:
    return {
        "rest.address": LOOPBACK,
        "rest.bind-address": LOOPBACK,
        "rest.port": around.ports["flink"],
        "rest.bind-port": around.ports["flink"],
        "jobmanager.rpc.address": LOOPBACK,
        "jobmanager.rpc.port": around.ports["flink-jobmanager"],
        "jobmanager.bind-host": LOOPBACK,
        "taskmanager.host": LOOPBACK,
        "taskmanager.bind-host": LOOPBACK,
        "taskmanager.numberOfTaskSlots": around.slots,
        "taskmanager.cpu.cores": float(os.cpu_count() or 1),
        "taskmanager.memory.framework.heap.size": f"{FRAMEWORK_HEAP_MEGABYTES}m",
        "taskmanager.memory.framework.off-heap.size": f"{OFF_HEAP_MEGABYTES // 2}m",
        "taskmanager.memory.task.heap.size": f"{TASK_HEAP_MEGABYTES}m",
        "taskmanager.memory.task.off-heap.size": f"{OFF_HEAP_MEGABYTES // 2}m",
        "taskmanager.memory.network.min": f"{NETWORK_MEGABYTES}m",
        "taskmanager.memory.network.max": f"{NETWORK_MEGABYTES}m",
        "taskmanager.memory.managed.size": "64m",
        "taskmanager.memory.jvm-metaspace.size": f"{METASPACE_MEGABYTES}m",
        "taskmanager.memory.jvm-overhead.min": "128m",
        "taskmanager.memory.jvm-overhead.max": "128m",
        "state.checkpoints.dir": (directory / "checkpoints").as_uri(),
        "state.savepoints.dir": (directory / "savepoints").as_uri(),
        "io.tmp.dirs": str(directory / "tmp" / process),
        "web.upload.dir": str(directory / "tmp" / process / "upload"),
        "web.log.path" if process == "jobmanager" else "taskmanager.log.path": str(log),
        # Threads of Beam outlive their job, and with them the classes that it brought along, 50 MB each time: a
        # TaskManager that took them from the job would have no room for any more after a few submissions.
        "classloader.resolve-order": "parent-first" if process == "taskmanager" else "child-first",
        # a store that stays away must not end a job: try again for ever, a little slower each time
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "1 s",
        "restart-strategy.exponential-delay.max-backoff": "5 s",
        "restart-strategy.exponential-delay.backoff-multiplier": 1.5,
        "restart-strategy.exponential-delay.reset-backoff-threshold": "1 min",
        "restart-strategy.exponential-delay.jitter-factor": 0.1,
        # a dead TaskManager refuses connections: notice that at once, but give a slow one its time
        "heartbeat.interval": 2000,
        "heartbeat.timeout": 60000,
        "metrics.reporters": "prometheus",
        "metrics.reporter.prometheus.factory.class": "org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
        # as text: the reporter does not see a number, and takes its own port
        "metrics.reporter.prometheus.port": str(around.ports[f"flink-metrics-{process}"]),
        # whoever waits for a counter waits for this
        "metrics.fetcher.update-interval": 1000,
    }
