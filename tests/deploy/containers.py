"""Podman with an image store of its own, the images of deploy/docker built in it, and compose.yaml brought up.

A machine without a registry of images has no bases: stand-ins of Debian's packages take the makers' names
(stand_ins/Dockerfile). The store is a folder, so nothing of this meets the images of the machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from deploy.local.maven import cache_directory, class_path, java
from deploy.local.processes import free_port
from deploy.local.progress import silent

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
COMPOSE_FILE = ROOT / "deploy/docker/compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
STAND_INS = Path(__file__).parent / "stand_ins"
PROJECT = "sunbird-test"

PACKAGES = ("podman", "runc", "netavark", "aardvark-dns", "catatonit", "iptables", "mmdebstrap")
BASES = {"PYTHON_IMAGE": "python", "MAVEN_IMAGE": "maven", "JAVA_IMAGE": "java", "FLINK_IMAGE": "flink"}
IMAGES = ("workers", "submit", "local", "flink")
SERVERS = ("kafka", "cassandra", "redis", "elasticsearch", "mongo", "neo4j", "monitoring")
BUILD_SECONDS = 1800
PATIENCE_SECONDS = 600  # the machine may be busy with something else


def missing() -> str:
    """What this needs and is not there; empty when it can run."""
    if os.geteuid() != 0:
        return "the images are built and run as root: containers get networks of their own"
    programs = ("podman", "runc", "mmdebstrap", "iptables", "/usr/libexec/podman/catatonit", "/usr/lib/podman/netavark")
    if absent := [program for program in programs if not shutil.which(program)]:
        return (
            f"{', '.join(absent)} not found; on Debian 12: apt-get install --no-install-recommends {' '.join(PACKAGES)}"
        )
    return ""


class Podman:
    """Podman over the image store in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        store = f'driver = "overlay"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n'
        files = {
            "CONTAINERS_STORAGE_CONF": f"[storage]\n{store}",
            # runc also runs where the kernel has the old control groups, these limits where root may not raise its own
            "CONTAINERS_CONF": '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]\n'
            f'[network]\nnetwork_config_dir = "{folder}/networks"\n',
            "CONTAINERS_REGISTRIES_CONF": 'unqualified-search-registries = ["docker.io"]\n',
        }
        for name, text in files.items():
            (folder / name).write_text(text)
        # Docker's format has health checks; systemd would call them, here the tests do
        more = {"BUILDAH_FORMAT": "docker", "DISABLE_HC_SYSTEMD": "true"}
        self.environment = {**os.environ, **{name: str(folder / name) for name in files}, **more}

    def run(self, *command: str | Path, seconds: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a podman command; what it printed is in the failure when it fails."""
        return self._program("podman", *command, seconds=seconds, check=check)

    def __call__(self, *command: str | Path, seconds: float = 120) -> str:
        """What a podman command printed on standard output."""
        return self.run(*command, seconds=seconds).stdout.strip()

    def compose(self, *command: str) -> None:
        """Run podman-compose on compose.yaml."""
        program = str(Path(sys.executable).with_name("podman-compose"))
        self._program(program, "-p", PROJECT, "-f", COMPOSE_FILE, *command, seconds=300, check=True)

    def _program(
        self, program: str, *command: str | Path, seconds: float, check: bool
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program, *map(str, command)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check:
            assert done.returncode == 0, (
                f"{program} {' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
            )
        return done

    # --- images

    def build(self, dockerfile: Path, target: str, tag: str, context: Path) -> None:
        """Build an image; what it downloads comes over the machine's own network."""
        where = ("--network", "host", "--file", dockerfile)
        self("build", *where, "--target", target, "--tag", tag, context, seconds=BUILD_SECONDS)

    def build_all(self) -> None:
        """The bases' stand-ins, our images over them as the Dockerfile says, the servers' stand-ins."""
        context = self.folder / "context"
        shutil.copytree(STAND_INS, context, dirs_exist_ok=True)
        if not (context / "bookworm.tar").exists():
            command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", "bookworm"]
            subprocess.run([*command, context / "unfinished.tar"], check=True, timeout=BUILD_SECONDS)
            (context / "unfinished.tar").rename(context / "bookworm.tar")
        shutil.copyfile("/etc/ssl/certs/ca-certificates.crt", context / "authorities.crt")
        shutil.copyfile(Path(java()).resolve().parents[1] / "lib/security/cacerts", context / "cacerts")
        named = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)", DOCKERFILE.read_text(), re.MULTILINE))
        for argument, target in BASES.items():
            self.build(context / "Dockerfile", target, named[argument], context)
        for target in IMAGES:
            self.build(DOCKERFILE, target, COMPOSE["jobmanager"]["image"].replace("flink", target), ROOT)
        with tarfile.open(context / "jars.tar", "w") as jars:
            for server in ("kafka", "cassandra", "elasticsearch", "mongo", "neo4j"):
                for jar in class_path(server, silent).split(os.pathsep):
                    jars.add(jar)
            for file in cache_directory().glob("*.classpath"):
                jars.add(file, f"jars/sunbird-pipelines/{file.name}")
        for server in SERVERS:
            self.build(context / "Dockerfile", server, COMPOSE[server]["image"], context)

    # --- containers

    def healthy(self, container: str) -> bool:
        """Whether the health check of a container succeeds."""
        return self.run("healthcheck", "run", container, check=False).returncode == 0

    def logs(self, container: str) -> str:
        """The last lines that a container printed."""
        done = self.run("logs", "--tail", "60", container, check=False)
        return f"{container}:\n{done.stdout}{done.stderr}"

    def address(self, container: str) -> str:
        """The address of a container in its network."""
        return self("inspect", container, "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")

    def tidy_up(self) -> None:
        """End and delete all containers, and their networks and volumes."""
        self.run("pod", "rm", "--all", "--force", check=False)
        self.run("rm", "--all", "--force", "--volumes", "--time", "5", check=False)
        self.run("network", "prune", "--force", check=False)
        self.run("volume", "prune", "--force", check=False)


class Composed:
    """compose.yaml's containers, each started when what it waits for is as its `depends_on` says."""

    def __init__(self, podman: Podman, jobs: str) -> None:
        self.podman = podman
        self.kafka_port, self.prometheus_port = free_port(), free_port()
        ports = {"KAFKA_PORT": self.kafka_port, "PROMETHEUS_PORT": self.prometheus_port, "FLINK_PORT": free_port()}
        podman.environment.update({"JOBS": jobs, **{name: str(port) for name, port in ports.items()}})
        self._started: set[str] = set()

    @staticmethod
    def name(service: str) -> str:
        return f"{PROJECT}_{service}_1"

    def up(self, service: str) -> None:
        """Start a container after those that it depends on."""
        if service in self._started:
            return
        for other, how in COMPOSE[service].get("depends_on", {}).items():
            self.up(other)
            self._wait(other, how["condition"])
        if other := COMPOSE[service].get("network_mode", "").partition("service:")[2]:
            self.up(other)
        self.podman.compose("up", "--detach", "--no-deps", "--no-build", service)
        self._started.add(service)

    def _wait(self, service: str, condition: str) -> None:
        name, end = self.name(service), time.monotonic() + PATIENCE_SECONDS
        while condition != "service_started":
            if condition == "service_healthy" and self.podman.healthy(name):
                return
            state = self.podman("inspect", name, "--format", "{{.State.Status}} {{.State.ExitCode}}")
            if condition == "service_completed_successfully" and state == "exited 0":
                return
            assert not state.startswith("exited"), f"{service} {state}\n{self.logs(service)}"
            assert time.monotonic() < end, f"{service} is not {condition}\n{self.logs(service)}"
            time.sleep(1)

    def logs(self, service: str) -> str:
        """The last lines that a container printed."""
        return self.podman.logs(self.name(service))


@contextmanager
def podman_in(folder: Path, keep: bool) -> Iterator[Podman]:
    """Podman with all images built; in the end its containers are gone, and the store too, unless it is to be kept."""
    podman = Podman(folder)
    podman.tidy_up()
    try:
        podman.build_all()
        yield podman
    finally:
        podman.tidy_up()
        if not keep:
            podman.run("system", "reset", "--force", check=False)
            shutil.rmtree(folder, ignore_errors=True)
