"""The command of a stand-in for a server's image: $SERVICE of the local stack, for other containers too."""

import os
import subprocess
import sys
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from deploy.local.contents import _around
from deploy.local.maven import class_path
from deploy.local.progress import silent
from deploy.local.stack import DEFAULT_PORTS, SERVICES

DATA = Path("/data")


def kafka() -> list[str]:
    """As Kafka's image does: every KAFKA_SOME_NAME is the property some.name."""
    properties = DATA / "server.properties"
    named = {name.removeprefix("KAFKA_"): value for name, value in os.environ.items() if name.startswith("KAFKA_")}
    heap = named.pop("HEAP_OPTS")
    Path(named["LOG_DIRS"]).mkdir(parents=True, exist_ok=True)
    properties.write_text("".join(f"{name.lower().replace('_', '.')}={value}\n" for name, value in named.items()))
    java = ["java", heap, "-cp", class_path("kafka", silent)]
    cluster = urlsafe_b64encode(uuid.UUID(int=1).bytes).decode().rstrip("=")
    format_command = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster, "-c", str(properties)]
    subprocess.run([*java, *format_command], check=True)
    return [*java, "kafka.Kafka", str(properties)]


def loopback_and_forward(name: str) -> list[str]:
    """The local stack's server, which listens on loopback; what comes from other containers is passed on to it."""
    service = SERVICES[name]
    for process in service.processes:
        service.start(process, _around(DATA, DEFAULT_PORTS))
    port = DEFAULT_PORTS[name]
    address = subprocess.run(["hostname", "-i"], check=True, capture_output=True, text=True).stdout.split()[0]
    return ["socat", f"TCP-LISTEN:{port},bind={address},fork,reuseaddr", f"TCP:127.0.0.1:{port}"]


def main(arguments: list[str]) -> None:
    name = os.environ["SERVICE"]
    DATA.mkdir(exist_ok=True)
    if name == "redis":
        command = [*arguments, "--bind", "*", "--protected-mode", "no", "--dir", str(DATA)]
    elif name == "monitoring":
        command = ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", f"--storage.tsdb.path={DATA}"]
    else:
        command = kafka() if name == "kafka" else loopback_and_forward(name)
    os.execvp(command[0], command)  # noqa: S606


main(sys.argv[1:])
