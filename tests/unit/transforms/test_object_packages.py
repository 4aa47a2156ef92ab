"""Packages that are made to hurt are refused, nothing is ever written. spec: auto-creator-v2 §8.4, §9 case 12"""

from __future__ import annotations

import io
import stat
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from transforms.import_failures import ImportFailed
from transforms.object_packages import PackageLimits, documents

NAMES = ("manifest.json",)
MANIFEST = b'{"archive": {"items": []}}'


def packed(directory: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], manifest: bytes | None = MANIFEST) -> Path:
    file = directory / "package"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
        if manifest is not None:
            archive.writestr("manifest.json", manifest)
    return file


def refused(package: Path, limits: PackageLimits | None = None) -> str:
    before = sorted(package.parent.rglob("*"))
    with pytest.raises(ImportFailed) as caught:
        documents(package, NAMES, limits or PackageLimits())
    assert sorted(package.parent.rglob("*")) == before
    return str(caught.value)


def test_what_is_sound_is_read(tmp_path: Path) -> None:
    found = documents(packed(tmp_path, ("assets/ä b.png", b"x"), ("assets/", b"")), NAMES, PackageLimits())
    assert found == {"manifest.json": {"archive": {"items": []}}}


@pytest.mark.parametrize(
    "name", ["../../evil", "a/../../evil", "/etc/evil", "a//b", "./a", "..", "C:/evil", "a\\..\\evil", "a\nb", "a\x00b"]
)
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    """§9 case 12"""
    info = zipfile.ZipInfo("x" * len(name))
    file = packed(tmp_path, (info, b"evil"))
    # written as it is, whatever the library would make of it
    file.write_bytes(file.read_bytes().replace(b"x" * len(name), name.encode()))
    assert "an entry whose name leaves it" in refused(file)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(tmp_path: Path, kind: int) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (kind | 0o777) << 16
    assert "a link, or no file" in refused(packed(tmp_path, (info, b"/etc/passwd")))


def test_two_entries_of_one_name(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        file = packed(tmp_path, ("manifest.json", b"{}"))
    assert "two entries of one name" in refused(file)


def test_a_bomb_that_says_so(tmp_path: Path) -> None:
    file = packed(tmp_path, ("zeros", bytes(2_000_000)))
    assert "more than 1000000 bytes unpacked" in refused(file, PackageLimits(unpacked=1_000_000))


def test_a_bomb_in_a_document(tmp_path: Path) -> None:
    file = packed(tmp_path, manifest=b" " * 50_000_000 + b"{}")
    tracemalloc.start()
    assert "more than 1000000 bytes" in refused(file, PackageLimits(document=1_000_000))
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_bomb_that_lies_about_its_size(tmp_path: Path) -> None:
    file = packed(tmp_path, manifest=b" " * 5_000_000 + b"{}")
    content = file.read_bytes()
    file.write_bytes(content.replace((5_000_002).to_bytes(4, "little"), (2).to_bytes(4, "little")))
    refused(file, PackageLimits(document=1_000_000))


def test_too_many_entries(tmp_path: Path) -> None:
    file = packed(tmp_path, *((f"{number}", b"") for number in range(20)))
    assert "more than 10 entries" in refused(file, PackageLimits(entries=10))


def test_a_list_of_entries_that_is_too_large(tmp_path: Path) -> None:
    file = packed(tmp_path, *((f"{number:0>60000}", b"") for number in range(80)))
    assert "can not be read" in refused(file)


def test_an_encrypted_document(tmp_path: Path) -> None:
    file = packed(tmp_path)
    content = bytearray(file.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.rindex(mark) + offset] |= 1
    file.write_bytes(content)
    assert "manifest.json is encrypted" in refused(file)


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{", b"\xff"])
def test_a_document_that_is_no_object(tmp_path: Path, manifest: bytes) -> None:
    assert "no JSON object" in refused(packed(tmp_path, manifest=manifest))


def test_a_document_that_is_not_there(tmp_path: Path) -> None:
    assert "has no manifest.json" in refused(packed(tmp_path, manifest=None))


@pytest.mark.parametrize(
    "broken", [lambda content: b"", lambda content: b"no zip at all", lambda content: content[:-30], lambda c: c[40:]]
)
def test_what_is_no_package(tmp_path: Path, broken: Callable[[bytes], bytes]) -> None:
    file = packed(tmp_path)
    file.write_bytes(broken(file.read_bytes()))
    refused(file)


def test_damaged_content(tmp_path: Path) -> None:
    file = packed(tmp_path, manifest=MANIFEST + b" " * 1000)
    content = bytearray(file.read_bytes())
    for position in range(45, 60):
        content[position] ^= 0xFF
    file.write_bytes(content)
    refused(file)


def test_an_unknown_compression(tmp_path: Path) -> None:
    buffer = io.BytesIO(packed(tmp_path).read_bytes())
    content = bytearray(buffer.getvalue())
    content[content.rindex(b"PK\x01\x02") + 10] = 97
    file = tmp_path / "package"
    file.write_bytes(content)
    refused(file)
