"""Maven, for the jars of the servers and the one of the pipelines."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.progress import Progress

JAVA_DIRECTORY = Path(__file__).parents[1] / "java"
JAVA_VERSION = 17
TIMEOUT_SECONDS = 1800
LINES_SHOWN = 15


def cache_directory() -> Path:
    """Where downloads are kept for all stacks of this user: `$XDG_CACHE_HOME` or `~/.cache`."""
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sunbird-pipelines"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold the lock of that name in the cache: one download or build at a time, among processes too."""
    with (cache_directory() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def java() -> str:
    """The path of a Java launcher of 17 or later: `$JAVA_HOME`'s, else the one on PATH. Raises StackError without."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = found or shutil.which("java")
    how = "install a JDK 17 (Debian: apt-get install openjdk-17-jdk-headless)"
    if found is None:
        raise StackError(f"java is not installed: {how}")
    if _java_version(found) < JAVA_VERSION:
        raise StackError(f"{found} is Java {_java_version(found)}, {JAVA_VERSION} is needed: {how} or set JAVA_HOME")
    return found


@cache
def _java_version(launcher: str) -> int:
    told = subprocess.run(
        [launcher, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    version = re.search(r'version "(?:1\.)?(\d+)', told.stderr)
    return int(version[1]) if version else 0


def run_maven(arguments: Sequence[str], what: str) -> None:
    """Run Maven in batch mode; `what` says what for. Raises StackError with Maven's last lines when it fails."""
    java()
    maven = shutil.which("mvn")
    if maven is None:
        raise StackError("mvn is not installed: install Maven 3.8 or later (Debian: apt-get install maven)")
    command = [maven, "--batch-mode", "--quiet", *arguments]
    try:
        with exclusive("maven"):
            result = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"Maven did not finish {what} within {TIMEOUT_SECONDS} seconds") from error
    if result.returncode != 0:
        lines = [line for line in result.stdout.splitlines() if line.strip()][-LINES_SHOWN:]
        raise StackError(f"Maven failed at {what}:\n" + "\n".join(lines))


def class_path(profile: str, progress: Progress) -> str:
    """The class path of a profile of `deploy/java/stack/pom.xml`; what is missing is downloaded, once.

    Raises StackError when Maven cannot get it.
    """
    pom = JAVA_DIRECTORY / "stack" / "pom.xml"
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    kept = cache_directory() / f"{profile}-{digest}.classpath"
    with exclusive(profile):
        if not (kept.exists() and all(Path(jar).exists() for jar in kept.read_text().split(os.pathsep))):
            progress(profile, "getting the jars with Maven")
            run_maven(
                ["-f", str(pom), f"-P{profile}", "dependency:build-classpath", f"-Dmdep.outputFile={kept}"],
                f"getting the jars of {profile}",
            )
        return kept.read_text().strip()
