"""The jar with everything Java that a pipeline needs: Beam's Flink runner, KafkaIO, the expansion service."""

import hashlib
from pathlib import Path

from deploy.local.maven import JAVA_DIRECTORY, exclusive, run_maven
from deploy.local.progress import Progress, shown

JAR = JAVA_DIRECTORY / "target" / "sunbird-pipelines-beam.jar"


def _content_hash() -> str:
    digest = hashlib.sha256()
    sources = sorted(path for path in (JAVA_DIRECTORY / "src").rglob("*") if path.is_file())
    for path in [JAVA_DIRECTORY / "pom.xml", *sources]:
        digest.update(str(path.relative_to(JAVA_DIRECTORY)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def job_server_jar(progress: Progress | None = None) -> Path:
    """The path of the jar; it is built when it is not there or when its sources have changed since.

    Without `progress` a build shows its own. Raises StackError when Maven or Java is missing or the build fails.
    """
    built_from = JAR.with_suffix(".sha256")
    with exclusive("jar"):
        wanted = _content_hash()
        if JAR.exists() and built_from.exists() and built_from.read_text() == wanted:
            return JAR
        if progress is None:
            with shown() as progress:
                _build(progress)
        else:
            _build(progress)
        built_from.write_text(wanted)
    return JAR


def _build(progress: Progress) -> None:
    progress("java", "building the jar with Maven; the first time it downloads about 150 MB")
    run_maven(["-f", str(JAVA_DIRECTORY / "pom.xml"), "clean", "package"], "building the jar")
    progress("java", f"jar built, {JAR.stat().st_size // 1_000_000} MB", done=True)
