"""Versions are written down once, and where they cannot be, they agree."""

import ast
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest

from deploy.local import flink
from deploy.local.maven import JAVA_VERSION

ROOT = Path(__file__).parents[2]
POMS = (ROOT / "deploy/java/pom.xml", ROOT / "deploy/java/stack/pom.xml")
MAVEN = "{http://maven.apache.org/POM/4.0.0}"


def setup_arguments() -> dict[str, ast.expr]:
    tree = ast.parse((ROOT / "setup.py").read_text())
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup")
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def beam_version() -> str:
    found = re.search(r'^BEAM_VERSION = "(.+)"$', (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert found
    return found[1]


def artifacts(pom: Path) -> Iterator[tuple[str, str]]:
    for element in ElementTree.parse(pom).iter():  # noqa: S314 - our own file
        artifact, written = element.find(f"{MAVEN}artifactId"), element.find(f"{MAVEN}version")
        if element.tag != f"{MAVEN}project" and artifact is not None and written is not None:
            yield artifact.text or "", written.text or ""


def properties(pom: Path) -> dict[str, str]:
    found = ElementTree.parse(pom).find(f"{MAVEN}properties")  # noqa: S314 - our own file
    assert found is not None
    return {element.tag.removeprefix(MAVEN): element.text or "" for element in found}


def test_both_halves_of_beam_are_of_one_version() -> None:
    assert properties(POMS[0])["beam.version"] == beam_version() == version("apache-beam")


def test_the_jars_dependencies_have_the_versions_of_its_properties() -> None:
    dependencies = {name: written for name, written in artifacts(POMS[0]) if not name.startswith("maven-")}
    assert {"beam-runners-flink-1.19", "beam-sdks-java-io-kafka", "kafka-clients", "jamm"} <= dependencies.keys()
    for name, written in dependencies.items():
        assert re.fullmatch(r"\$\{.+\.version\}", written), f"{name} has a version of its own: {written}"
    used = {written.strip("${}") for written in dependencies.values()}
    assert used == {name for name in properties(POMS[0]) if name.endswith(".version")}


def test_all_poms_name_the_same_version_of_an_artifact() -> None:
    values = properties(POMS[0])
    versions: dict[str, set[str]] = {}
    for pom in POMS:
        for name, written in artifacts(pom):
            versions.setdefault(name, set()).add(values.get(written.strip("${}"), written))
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_beams_runner_is_for_the_flink_of_the_stack() -> None:
    runner = next(name for name, _ in artifacts(POMS[0]) if name.startswith("beam-runners-flink-"))
    assert flink.VERSION.startswith(f"{runner.rpartition('-')[2]}.")


@pytest.mark.parametrize("argument", ["install_requires", "extras_require"])
def test_every_requirement_is_pinned(argument: str) -> None:
    expression = setup_arguments()[argument]
    written = [ast.unparse(node).strip("f'\"") for node in ast.walk(expression) if isinstance(node, ast.Constant)]
    names = {"docs", "stack", "test"} if argument == "extras_require" else set()
    # an f-string has its text and what stands in braces apart
    loose = [text for text in written if "==" not in text and text not in names]
    assert loose == []


def test_setup_and_the_stack_ask_for_the_same_java() -> None:
    assert f">= {JAVA_VERSION})" in (ROOT / "deploy/setup.sh").read_text()
