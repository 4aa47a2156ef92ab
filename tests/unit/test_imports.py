"""Imports go one way (schemas <- transforms <- pipelines; schemas <- io_connectors <- pipelines); rules are pure."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

# what each room may import of the others when it is loaded
MAY_IMPORT = {
    "schemas": set(),
    "transforms": {"schemas"},
    # the stores' protocols and the statements they take are the transforms' own words
    "io_connectors": {"schemas", "transforms.stores", "transforms.services"},
    "pipelines": {"schemas", "transforms", "io_connectors"},
    "deploy": {"schemas", "io_connectors"},
}
# inside a function only: a run without them must not need them
MAY_IMPORT_LATE = {"pipelines": {"deploy.local"}}
# halves of a library that come with the other one, in the version that it asks for
HALVES = {"grpcio": "apache-beam", "protobuf": "apache-beam", "pydantic-core": "pydantic", "urllib3": "requests"}
ROOMS = {*MAY_IMPORT, "tests"}

IMPURE_MODULES = {"os", "random", "secrets", "time", "uuid", "uuid_utils", "socket", "subprocess", "tempfile"}
IMPURE_CALLS = {"now", "today", "utcnow"}


class Import(NamedTuple):
    """``module`` as it is named, ``late`` inside a function; ``types`` only for type checkers."""

    module: str
    line: int
    late: bool
    types: bool


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def imports(node: ast.AST, late: bool = False, types: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, late, types) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"a relative import in line {child.lineno}"
            named = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (Import(name, child.lineno, late, types) for name in named)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from imports(child, late, types=True)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(child, late or is_function, types)


def files(*rooms: str) -> list[Path]:
    return sorted(file for room in rooms for file in (ROOT / room).rglob("*.py"))


def plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def within(module: str, allowed: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_one_way(room: str) -> None:
    wrong = []
    for file in files(room):
        for found in imports(parsed(file)):
            allowed = {room, *MAY_IMPORT[room]} | (MAY_IMPORT_LATE.get(room, set()) if found.late else set())
            if found.module.split(".")[0] in ROOMS and not found.types and not within(found.module, allowed):
                wrong.append(f"{file.relative_to(ROOT)}:{found.line} imports {found.module}")
    assert wrong == []


@pytest.mark.parametrize("file", files("transforms"), ids=lambda file: str(file.relative_to(ROOT)))
def test_rules_are_given_the_time_and_everything_random(file: Path) -> None:
    impure = [f"line {i.line}: {i.module}" for i in imports(parsed(file)) if i.module.split(".")[0] in IMPURE_MODULES]
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Attribute) and node.attr in IMPURE_CALLS:
            value = ast.unparse(node.value)
            if re.search(r"\b(datetime|date|Timestamp)$", value):
                impure.append(f"line {node.lineno}: {value}.{node.attr}")
    assert impure == []


def test_every_library_is_named_in_setup() -> None:
    named = {plain(name) for name in re.findall(r'"([A-Za-z0-9._-]+)==', (ROOT / "setup.py").read_text())}
    distributions = {module: {plain(name) for name in names} for module, names in packages_distributions().items()}
    unnamed = set()
    for file in files(*ROOMS):
        for found in imports(parsed(file)):
            top = found.module.split(".")[0]
            if top in sys.stdlib_module_names or top in ROOMS:
                continue
            if not named & {HALVES.get(name, name) for name in distributions.get(top, ())}:
                unnamed.add(f"{top} (in {file.relative_to(ROOT)})")
    assert unnamed == set()
