"""How a job runs on Flink: the options, the jar, and the service that expands KafkaIO."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.settings import UsageError

# Each of these is a plain Beam option; whatever is given after `--` on the command line, or set by the configuration,
# replaces it.
DEFAULTS: dict[str, Any] = {
    "runner": "FlinkRunner",
    "flink_master": "localhost:8081",
    "flink_submit_uber_jar": True,
    "environment_type": "EXTERNAL",
    "environment_config": "localhost:50000",
    "streaming": True,
    "checkpointing_interval": 10_000,
    "finish_bundle_before_checkpointing": True,
    # a bundle is what travels and is handled together: its time is the latency of a quiet job, its size the
    # batch of a busy one
    "max_bundle_size": 2_000,
    "max_bundle_time_mills": 250,
    "max_parallelism": 128,
}

_GUARD = "finish_bundle_before_checkpointing"


def options(job_name: str, from_settings: dict[str, Any], given: list[str], jar: Path | None) -> list[str]:
    """The Beam options of a run on Flink, as arguments. Raises UsageError for a run that would lose records.

    Defaults, then what the settings ask for, then ``given`` (arguments such as ``--parallelism=2``).
    """
    merged = {**DEFAULTS, "job_name": job_name, **from_settings}
    if jar is not None:
        merged["flink_job_server_jar"] = str(jar)
    # one Python process for each parallel part of the job; fewer would share an interpreter's lock
    parallelism = _last("parallelism", given) or merged.get("parallelism")
    if parallelism:
        merged.setdefault("sdk_worker_parallelism", parallelism)
    arguments = [argument for name, value in merged.items() for argument in _argument(name, value, given)] + given
    check(arguments)
    return arguments


def check(arguments: list[str]) -> None:
    """Refuse a run whose restart would lose records.

    Without the guard, Flink takes a checkpoint while a bundle is open and commits the offsets of records whose
    outcome is still on its way; a restart from the group's offsets then never sees them again.
    """
    values = [a.partition("=")[2] for a in arguments if re.fullmatch(rf"--{_GUARD}(=.*)?", a)]
    if not values or values[-1].lower() not in ("", "true") or f"--no_{_GUARD}" in arguments:
        raise UsageError(
            f"--{_GUARD} must be on: without it, a restart from the committed offsets loses the records of the "
            "bundles that were open at the last checkpoint. Leave the option out; it is on by default."
        )


def _last(name: str, given: list[str]) -> str | None:
    values = [argument.partition("=")[2] for argument in given if argument.startswith(f"--{name}=")]
    return values[-1] if values else None


def _argument(name: str, value: Any, given: list[str]) -> list[str]:
    if any(argument == f"--{name}" or argument.startswith(f"--{name}=") for argument in given):
        return []
    if value is True:
        # without "=true": some of Beam's parsers know these as flags and refuse a value
        return [f"--{name}"]
    return [] if value is None or value is False else [f"--{name}={value}"]


@contextlib.contextmanager
def expansion_service(jar: Path, *, in_flink: bool, splittable_read: bool = False) -> Iterator[str]:
    """Run Beam's Java expansion service while a pipeline is built (and, for DirectRunner, run); gives host:port.

    ``in_flink``: the Java steps run inside the TaskManager; otherwise in a worker of the service itself. The legacy
    KafkaIO read is Flink's native source, takes part in checkpoints and commits offsets with them; the splittable one
    has known faults with growing state on Flink (apache/beam#20979, #27648), so it is only used when asked for.
    """
    port = _free_port()
    from deploy.local.maven import java  # noqa: PLC0415 - only a run that needs Kafka needs Java

    command = [
        java(),
        # it lives for seconds: what is compiled and collected well would not pay (half the CPU, of a round of 9,000
        # records that it reads, too)
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-cp",
        str(jar),
        "org.apache.beam.sdk.expansion.service.ExpansionService",
        str(port),
        "--javaClassLookupAllowlistFile=*",
    ]
    if not splittable_read:
        command.append("--experiments=use_deprecated_read")
    with tempfile.TemporaryFile() as log, tempfile.NamedTemporaryFile() as empty:
        command.append("--defaultEnvironmentType=EMBEDDED" if in_flink else "--alsoStartLoopbackWorker")
        # left to itself, the service hands out its own jar with each Java step: a quarter of a gigabyte to be built,
        # sent and unpacked for every job, which is made of that jar already, or for a worker that has it loaded
        command.append(f"--filesToStage={empty.name}")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_listening(process, port, log)
            yield f"localhost:{port}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").splitlines()[-15:]
    raise RuntimeError("Beam's Java expansion service did not start:\n" + "\n".join(lines))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
