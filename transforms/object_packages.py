"""The packages of objects (ECAR files): what is read of them, and what of a package is refused.

A package comes from elsewhere and may be made to hurt: names that lead out of a directory, links, a few bytes that
unpack to many. So nothing of it is written to disk: two JSON documents are read, each up to a limit, and only from a
package that is sound as a whole. spec: auto-creator-v2 §3.2, §8.4
"""

from __future__ import annotations

import io
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from transforms.import_failures import ImportFailed

__all__ = ["PackageLimits", "documents"]

_CHUNK = 1024 * 1024
# The list of the entries is read at once: no more than these bytes, some ten thousands of entries.
_LARGEST_DIRECTORY = 4 * 1024 * 1024
_ENCRYPTED = 0x1
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f\\]|^/|^[A-Za-z]:")
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class PackageLimits:
    """What a package may be: entries, bytes of all of them unpacked, bytes of one document."""

    entries: int = 10_000
    unpacked: int = 4 * 1024**3
    document: int = 16 * 1024**2


def documents(package: Path, names: tuple[str, ...], limits: PackageLimits) -> dict[str, dict[str, Any]]:
    """The JSON objects of these names. Raises ImportFailed for a package that is not sound, or has them not."""
    try:
        with _BoundedReads(package) as file, zipfile.ZipFile(file) as archive:
            _check(archive.infolist(), limits)
            return {name: _document(archive, name, limits.document) for name in names}
    except _UNREADABLE as error:
        raise ImportFailed(f"The package can not be read | {type(error).__name__}") from error


def _check(entries: list[zipfile.ZipInfo], limits: PackageLimits) -> None:
    if len(entries) > limits.entries:
        raise ImportFailed(f"The package is refused | more than {limits.entries} entries")
    if sum(entry.file_size for entry in entries) > limits.unpacked:
        raise ImportFailed(f"The package is refused | more than {limits.unpacked} bytes unpacked")
    seen = set()
    for entry in entries:
        # zipfile cuts a name at a NUL and keeps the original
        name = entry.orig_filename
        parts = name.removesuffix("/").split("/")
        if _NOT_IN_NAMES.search(name) or any(part in ("", ".", "..") for part in parts):
            raise ImportFailed("The package is refused | an entry whose name leaves it")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ImportFailed("The package is refused | an entry that is a link, or no file")
        if name in seen:
            raise ImportFailed("The package is refused | two entries of one name")
        seen.add(name)


def _document(archive: zipfile.ZipFile, name: str, limit: int) -> dict[str, Any]:
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise ImportFailed(f"The package has no {name}") from None
    if entry.flag_bits & _ENCRYPTED:
        raise ImportFailed(f"The package is refused | {name} is encrypted")
    text = bytearray()
    with archive.open(entry) as file:
        # whatever size the package claims
        while chunk := file.read(_CHUNK):
            text += chunk
            if len(text) > limit:
                raise ImportFailed(f"The package is refused | {name} has more than {limit} bytes")
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise ImportFailed(f"The package is refused | {name} is no JSON object")
    return found


class _BoundedReads(io.FileIO):
    """A file of which no more than the largest directory is read at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)

    def read(self, size: int | None = -1) -> bytes:
        wanted = -1 if size is None else size
        if wanted > _LARGEST_DIRECTORY:
            raise zipfile.BadZipFile("a list of entries that is too large")
        # what is read to the end is the end
        found = super().read(_LARGEST_DIRECTORY if wanted < 0 else wanted)
        return found or b""
