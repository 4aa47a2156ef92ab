"""Configuration files: YAML, JSON and HOCON, nested or dotted, with ``${NAME}`` replaced. spec: core §3.1"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.settings import SettingsError


def is_hocon(path: Path) -> bool:
    """Whether a file is read as HOCON, by its name."""
    return Path(path).suffix.lower() in (".conf", ".hocon")


def read(path: Path, environ: Mapping[str, str], warnings: list[str]) -> Any:
    """A mapping, nested or dotted (YAML, JSON: substituted), or an unresolved HOCON tree."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file. Give --config the path of a YAML, JSON or HOCON file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: can not be read as text: {error}") from None
    if is_hocon(path):
        return _parse_hocon(path, text, warnings)
    try:
        content = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "YAML (.json and .conf are read as JSON and HOCON)"
        raise SettingsError(f"{path}: is not {kind}{_place(error)}") from None
    if content is None:
        return {}
    _must_be_mapping(path, content)
    try:
        return _nest(path, content, environ)
    except RecursionError:
        raise SettingsError(f"{path}: a value of it contains itself") from None


def _must_be_mapping(path: Path, content: Any) -> None:
    if not isinstance(content, Mapping):
        raise SettingsError(f"{path}: must hold keys and values, e.g. `kafka.broker-servers: localhost:9092`")


def _nest(path: Path, content: Mapping[Any, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: [_substitute(path, name, v, environ) for v in value]
        if isinstance(value, list)
        else _substitute(path, name, value, environ)
        for name, value in flatten(content)
    }


def _substitute(path: Path, name: str, value: Any, environ: Mapping[str, str]) -> Any:
    """``${NAME}`` and ``${?NAME}`` inside a text; a text that is nothing but an unset ``${?NAME}`` is no value."""
    if not isinstance(value, str):
        return value
    unset_alone = re.fullmatch(r"\$\{\?(\w+)\}", value)
    if unset_alone and unset_alone[1] not in environ:
        return None

    def variable(match: re.Match[str]) -> str:
        optional, variable_name = match[1], match[2]
        if variable_name not in environ and not optional:
            raise SettingsError(
                f"{name}: {path} refers to ${{{variable_name}}}, which is not set in the environment. "
                f"Set it, write ${{?{variable_name}}} if it may be missing, or remove the line."
            )
        return environ.get(variable_name, "")

    return re.sub(r"\$\{(\??)(\w+)\}", variable, value)


def _parse_hocon(path: Path, text: str, warnings: list[str]) -> Any:
    from pyhocon import ConfigFactory  # noqa: PLC0415 - only for files that need it

    if re.search(r"""^\s*include\s+(required\()?\s*(url\(|"(https?|ftp)://)""", text, re.MULTILINE):
        raise SettingsError(f"{path}: includes an address of the network. Fetch that file and include it by its path.")
    for included in re.findall(r"""^\s*include\s+(?:file\()?\s*"([^"]+)"\)?""", text, re.MULTILINE):
        if not (path.parent / included).exists():
            warnings.append(
                f'{path}: include "{included}": no such file beside it; the defaults of this project hold '
                "for what it would set (sunbird-pipelines config JOB lists them)"
            )
    for variable in _in_quotes(text):
        warnings.append(f"{path}: HOCON replaces nothing inside of quotes: {variable} stays as it is. Leave them out.")
    logging.getLogger("pyhocon").setLevel(logging.ERROR)  # it would say again what was just said
    try:
        tree = ConfigFactory.parse_string(text, basedir=str(path.parent), resolve=False)
    except Exception as error:  # pyparsing's and pyhocon's errors have no common ancestor
        raise SettingsError(f"{path}: is not HOCON{_place(error)}") from None
    _must_be_mapping(path, tree)
    return tree


def _in_quotes(hocon: str) -> list[str]:
    return [
        variable
        for line in hocon.splitlines()
        if not line.lstrip().startswith(("#", "//"))
        for quoted in re.findall(r'"(?:[^"\\]|\\.)*"', line)
        for variable in re.findall(r"\$\{[^}]*\}", quoted)
    ]


def resolve_hocon(
    path: Path, tree: Any, earlier: Mapping[str, Any], later: Mapping[str, Any], environ: Mapping[str, str]
) -> dict[str, Any]:
    """The file's own keys with ``${other.key}`` and ``${VARIABLE}`` replaced.

    As with upstream's library, references are resolved when all layers are known: later files and overrides win over
    the file itself, earlier files and defaults fill its gaps, the environment is last.
    """
    from pyhocon.config_parser import ConfigParser  # noqa: PLC0415
    from pyhocon.exceptions import ConfigException  # noqa: PLC0415

    _settle_self_references(tree, environ)
    own = {name for name, _ in flatten(tree)}
    for name, value in later.items():
        if value is not None and _fits(name, own - {name}):
            tree.put(name, value)
    for name, value in earlier.items():
        if name not in later and _fits(name, own):
            tree.put(name, value)
    settled = own | earlier.keys() | later.keys()
    for name, value in environ.items():
        # a variable called `job` does not hide job.env
        if re.fullmatch(r"\w+", name) and _fits(name, settled):
            tree.put(name, value)
    try:
        ConfigParser.resolve_substitutions(tree)
    except ConfigException as error:
        raise SettingsError(
            f"{path}: {_one_line(error).rstrip('.')}. "
            "Set that key or environment variable, or write ${?…} if it may be missing."
        ) from None
    return {
        name: value for name, value in flatten(tree) if any(name == mine or name.startswith(f"{mine}.") for mine in own)
    }


def _settle_self_references(tree: Any, environ: Mapping[str, str]) -> None:
    """``NAME = ${?NAME}`` is the environment's value, and nothing without one, over which the parser would fail."""
    from pyhocon.config_tree import ConfigValues  # noqa: PLC0415

    for name, value in list(tree.items()):
        if isinstance(value, ConfigValues) and len(value.tokens) == len(tree.history[name]) == 1:
            referring = next(iter(value.get_substitutions()), None)
            if referring is None or referring.variable != name:
                continue
            if name in environ:
                tree.put(name, environ[name])
            elif referring.optional:
                del tree[name]


def _fits(name: str, taken: set[str]) -> bool:
    """Whether ``name`` can stand in a tree beside ``taken``: neither the same, nor above, nor below."""
    return not any(name == t or name.startswith(f"{t}.") or t.startswith(f"{name}.") for t in taken)


def flatten(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, under dotted keys."""
    for name, value in content.items():
        dotted = prefix + str(name).strip('"')
        if isinstance(value, Mapping):
            yield from flatten(value, f"{dotted}.")
        else:
            yield dotted, value


def plain_leaves(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """The leaves that are texts, numbers or truth values."""
    return ((name, value) for name, value in flatten(tree) if isinstance(value, str | int | float | bool))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _place(error: Exception) -> str:
    """Where a parser stopped. Its own message may quote the file, and with it a password."""
    mark = getattr(error, "problem_mark", None)  # YAML counts from 0, JSON and HOCON from 1
    line, column = (
        (mark.line + 1, mark.column + 1) if mark else (getattr(error, "lineno", None), getattr(error, "col", None))
    )
    return f": look at line {line}, column {column or getattr(error, 'colno', 1)}" if line else ""
