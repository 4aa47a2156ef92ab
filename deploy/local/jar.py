"""The jar with everything Java that a pipeline needs: Beam's Flink runner, KafkaIO, the expansion service."""

import hashlib
import shutil
import sys
from pathlib import Path

from deploy.local.maven import JAVA_DIRECTORY, cache_directory, exclusive, run_maven
from deploy.local.progress import Progress, shown

NAME = "sunbird-pipelines-beam.jar"


def _content_hash() -> str:
    digest = hashlib.sha256()
    sources = sorted(path for path in (JAVA_DIRECTORY / "src").rglob("*") if path.is_file())
    for path in [JAVA_DIRECTORY / "pom.xml", *sources]:
        digest.update(str(path.relative_to(JAVA_DIRECTORY)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def job_server_jar(progress: Progress | None = None) -> Path:
    """The path of the jar: one that an image brings along, else it is built when there is none of these sources yet.

    It is kept with the downloads, not beside the sources, which an installed package may not write to. Without
    `progress` a build shows its own. Raises StackError when Maven or Java is missing or the build fails.
    """
    brought_along = Path(sys.prefix) / "share" / "sunbird-pipelines" / NAME
    if brought_along.is_file():
        return brought_along
    jar = cache_directory() / f"beam-{_content_hash()}" / NAME
    with exclusive("jar"):
        if not jar.exists():
            if progress is None:
                with shown() as progress:
                    _build(jar, progress)
            else:
                _build(jar, progress)
    return jar


def _build(jar: Path, progress: Progress) -> None:
    progress("java", "building the jar with Maven; the first time it downloads about 150 MB")
    building = cache_directory() / "beam-building"
    shutil.rmtree(building, ignore_errors=True)
    pom = JAVA_DIRECTORY / "pom.xml"
    run_maven(["-f", str(pom), f"-Dtarget.directory={building}", "package"], "building the jar")
    jar.parent.mkdir(exist_ok=True)
    (building / NAME).rename(jar)
    shutil.rmtree(building)
    progress("java", f"jar built, {jar.stat().st_size // 1_000_000} MB", done=True)
