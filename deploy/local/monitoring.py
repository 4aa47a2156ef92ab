"""Prometheus, which reads the metrics of the stack's Flink; with the rules of deploy/monitoring.

It is not part of a plain `stack up`, and there only where its binary is: on PATH, or in Debian's package, which is
unpacked into the cache and not installed.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import requests
import yaml

from deploy.local.errors import StackError
from deploy.local.maven import cache_directory, exclusive
from deploy.local.processes import LOOPBACK
from deploy.local.progress import Progress
from deploy.local.service import Service, Surroundings

RULES = Path(__file__).parents[1] / "monitoring" / "rules.yml"
SCRAPE_SECONDS = 2
RETENTION = "7d"


def prometheus_programs(progress: Progress) -> Path:
    """The folder with `prometheus` and `promtool`. Raises StackError when they cannot be had here."""
    on_path = shutil.which("prometheus")
    if on_path and shutil.which("promtool"):
        return Path(on_path).parent
    kept = cache_directory() / "prometheus"
    with exclusive("prometheus"):
        if not kept.exists():
            progress("monitoring", "getting Debian's package of Prometheus (20 MB)")
            with tempfile.TemporaryDirectory(dir=cache_directory()) as folder:
                try:
                    _run(["apt-get", "download", "prometheus"], folder)
                except StackError:
                    _run(["apt-get", "update", "-qq"], folder)  # what is to be had may not be known yet
                    _run(["apt-get", "download", "prometheus"], folder)
                package = next(Path(folder).glob("prometheus_*.deb"))
                _run(["dpkg-deb", "-x", str(package), "unpacked"], folder)
                shutil.move(Path(folder) / "unpacked" / "usr" / "bin", kept)
    return kept


def _run(command: list[str], folder: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        raise StackError(
            f"there is no Prometheus: it is not on PATH, and Debian's package cannot be had ({error})"
        ) from error


class Monitoring(Service):
    """What remembers the metrics, and would raise alerts."""

    name = "monitoring"
    ports: ClassVar = {"prometheus": 9090}
    processes = ("prometheus",)
    only_when_named = True

    def prepare(self, around: Surroundings) -> None:
        prometheus_programs(around.progress)

    def start(self, process: str, around: Surroundings) -> None:
        directory = around.data("monitoring")
        configuration = directory / "prometheus.yml"
        targets = {
            name: f"{LOOPBACK}:{around.ports[f'flink-metrics-{name}']}" for name in ("jobmanager", "taskmanager")
        }
        configuration.write_text(yaml.safe_dump(scrape_configuration(targets, RULES, f"{SCRAPE_SECONDS}s")))
        command = [
            str(prometheus_programs(around.progress) / "prometheus"),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--storage.tsdb.retention.time={RETENTION}",
            f"--web.listen-address={LOOPBACK}:{around.ports['prometheus']}",
        ]
        around.processes.start(process, command, {}, directory)

    def healthy(self, process: str, around: Surroundings) -> bool:
        try:
            return requests.get(f"http://{LOOPBACK}:{around.ports['prometheus']}/-/ready", timeout=5).ok
        except requests.RequestException:
            return False

    def settings(self, around: Surroundings) -> dict[str, Any]:
        return {}


def metric_name(job: str, counter: str) -> str:
    """What Prometheus calls a job's counter (of schemas.counters). It has the label ``job_name``."""
    return re.sub(r"[^A-Za-z0-9_]", "_", f"flink_taskmanager_job_task_operator_{job}_{counter}")


def scrape_configuration(targets: dict[str, str], rules: Path, interval: str) -> dict[str, Any]:
    """What Prometheus has to read: ``targets`` are addresses by the name of their process."""
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {
                "job_name": "flink",
                "static_configs": [
                    {"targets": [address], "labels": {"process": name}} for name, address in targets.items()
                ],
            }
        ],
    }
