"""Maven, for the jars of the servers and the one of the pipelines."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.progress import Progress

JAVA_DIRECTORY = Path(__file__).parents[1] / "java"
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
    """The path of the Java launcher: `$JAVA_HOME`'s, else the one on PATH. Raises StackError without one."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = found or shutil.which("java")
    if found is None:
        raise StackError("java is not installed: install a JDK 17 (Debian: apt-get install openjdk-17-jdk-headless)")
    return found


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
