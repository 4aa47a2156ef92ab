"""What transforms.services.Objects promises; twin, a local directory and an S3 server alike.

spec: collection-certificate-generator §3.5.6
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
import requests

from io_connectors.object_storage import ObjectStore
from tests.contract.proxy import Proxy
from transforms.services import FileObjects, Objects
from transforms.stores import StoreUnavailable

JSON = "application/json"


def test_an_object_is_read_as_it_was_written(objects: Objects, tag: str):
    content = bytes(range(256)) * 1_000
    objects.put(f"{tag}/a.json", content, JSON)
    objects.put(f"{tag}.json", b"", JSON)
    assert objects.get(f"{tag}/a.json") == content
    assert objects.get(f"{tag}.json") == b""
    assert objects.get(f"{tag}/b.json") is None


def test_an_object_replaces_the_one_that_is_there(objects: Objects, tag: str):
    for content in (b"a longer one", b"short"):
        objects.put(f"{tag}/a.json", content, JSON)
        assert objects.get(f"{tag}/a.json") == content


def test_an_object_that_was_deleted_is_gone_and_one_that_is_not_there_may_be_deleted(objects: Objects, tag: str):
    objects.put(f"{tag}/a.json", b"a", JSON)
    objects.put(f"{tag}/b.json", b"b", JSON)
    for _ in range(2):
        objects.delete(f"{tag}/a.json")
        assert objects.get(f"{tag}/a.json") is None
    assert objects.get(f"{tag}/b.json") == b"b"


@pytest.mark.parametrize("part", ["Ä ü", "a b", "a%20b", "a+b", "[a]~`|\\", "_", "\U0001f600", "x" * 200])
def test_a_tag_may_hold_any_character_but_a_slash(objects: Objects, tag: str, part: str):
    objects.put(f"{tag}{part}/a.json", b"a", JSON)
    assert objects.get(f"{tag}{part}/a.json") == b"a"
    objects.delete(f"{tag}{part}/a.json")
    assert objects.get(f"{tag}{part}/a.json") is None


@pytest.mark.parametrize("key", ["", "/", "/a", "a/", "a//b", "../a", "a/../b", "\ud800"])
def test_a_key_that_no_store_can_hold(objects: Objects, key: str):
    for call in (lambda: objects.put(key, b"", JSON), lambda: objects.get(key), lambda: objects.delete(key)):
        with pytest.raises(ValueError):  # noqa: PT011 - each kind has words of its own
            call()


def test_many_threads_share_one_client(objects: Objects, tag: str):
    wrong: list[int] = []

    def work(n: int) -> None:
        for m in range(10):
            key, content = f"{tag}/{n}-{m}.json", f"{n}-{m}".encode() * 1_000
            objects.put(key, content, JSON)
            if objects.get(key) != content:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- files (spec: content-auto-creator §3.7)


@pytest.mark.parametrize("size", [0, 10, 8 * 1024 * 1024, 20 * 1024 * 1024 + 1])
def test_a_file_is_put_in_parts_or_at_once(files: FileObjects, tag: str, tmp_path: Path, size: int):
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    url = files.put_file(f"{tag}/a b/ü.png", file, "image/png")
    assert url.startswith(("http://", "https://"))
    assert "/contents/" in url
    assert files.size(f"{tag}/a b/ü.png") == size
    assert files.get(f"{tag}/a b/ü.png") == file.read_bytes()  # type: ignore[attr-defined]
    assert files.size(f"{tag}/b") is None


def test_a_file_replaces_an_object(files: FileObjects, tag: str, tmp_path: Path):
    for content in (b"a longer one", b"short"):
        (tmp_path / "file").write_bytes(content)
        files.put_file(f"{tag}/a", tmp_path / "file", "text/plain")
        assert files.size(f"{tag}/a") == len(content)


def test_a_file_that_is_not_there_is_no_missing_container(files: FileObjects, tag: str, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        files.put_file(f"{tag}/a", tmp_path / "none", "text/plain")


def test_a_file_under_a_key_that_no_store_can_hold(files: FileObjects, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"x")
    for key in ("../a", "a//b", "a/.."):
        with pytest.raises(ValueError):  # noqa: PT011 - each kind has words of its own
            files.put_file(key, tmp_path / "file", "text/plain")


@pytest.mark.stack
def test_everybody_reads_a_file_at_its_address(s3: ObjectStore, tag: str, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"x" * 9_000_000)
    url = replace(s3, container="contents").open().put_file(f"{tag}/a b+ü.png", tmp_path / "file", "image/png")
    answer = requests.get(url, timeout=30)
    assert (answer.status_code, len(answer.content)) == (200, 9_000_000)
    assert answer.headers["Content-Type"] == "image/png"


@pytest.mark.parametrize(
    ("kind", "key", "secret", "endpoint", "url"),
    [
        ("azure", "acc", "c2VjcmV0", None, "https://acc.blob.core.windows.net/c/content/a/artifact/x.pdf"),
        ("azure", "acc", "c2VjcmV0", "http://azurite:10000/acc", "http://azurite:10000/acc/c/content/a/artifact/x.pdf"),
        ("oci", "k", "s", "https://oci.example.org/", "https://oci.example.org/c/content/a/artifact/x.pdf"),
    ],
)
def test_addresses_of_other_stores(kind: str, key: str, secret: str, endpoint: str | None, url: str):
    store = ObjectStore(kind, "c", key, secret, endpoint).open()
    assert store.url("content/a/artifact/x.pdf") == url


# --- one kind alone


def test_a_local_object_is_a_file(tmp_path: Path, tag: str):
    ObjectStore("local", "certificates", endpoint=str(tmp_path / "new")).open().put(f"{tag}/a.json", b"{}", JSON)
    assert (tmp_path / "new" / "certificates" / tag / "a.json").read_bytes() == b"{}"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.json"]


@pytest.mark.stack
@pytest.mark.parametrize("kind", ["aws", "s3", "oci", "cephs3", "minio"])
def test_every_s3_store_is_addressed_by_path_and_open_to_nobody_else(s3: ObjectStore, tag: str, kind: str):
    recipe = replace(s3, kind=kind)
    recipe.open().put(f"{tag}/a.json", b"{}", JSON)
    assert s3.open().get(f"{tag}/a.json") == b"{}"
    address = f"{s3.endpoint}/{s3.container}/{tag}/a.json"
    assert requests.get(address, timeout=10).status_code == 403
    signed = obstore.sign(recipe.open()._store(), "GET", f"{tag}/a.json", timedelta(minutes=1))
    assert signed.startswith(f"{address}?")
    answer = requests.get(signed, timeout=10)
    assert (answer.content, answer.headers["Content-Type"]) == (b"{}", JSON)


@pytest.mark.stack
def test_a_container_that_is_not_there(s3: ObjectStore):
    objects = replace(s3, container="nowhere").open()
    with pytest.raises(StoreUnavailable, match="container nowhere: there is no such container"):
        objects.put("a.json", b"{}", JSON)
    assert objects.get("a.json") is None
    objects.delete("a.json")


@pytest.mark.stack
def test_a_store_comes_back_while_it_is_waited_for(s3: ObjectStore, tag: str):
    assert s3.endpoint
    host, port = s3.endpoint.removeprefix("http://").split(":")
    proxy = Proxy(host, int(port))
    recipe = replace(s3, endpoint=f"http://{host}:{proxy.port}")
    try:
        objects = replace(recipe, retry_pauses=(0.1, 0.2, 0.4, 0.8)).open()
        objects.put(f"{tag}/a.json", b"1", JSON)
        proxy.cut()
        timer = threading.Timer(0.5, proxy.restore)
        timer.start()
        objects.put(f"{tag}/a.json", b"2", JSON)
        timer.join()
        assert objects.get(f"{tag}/a.json") == b"2"
        proxy.silence()
        hurried = replace(recipe, timeout=0.3, retry_pauses=(0.05,)).open()
        with pytest.raises(StoreUnavailable, match=f"{host}:{proxy.port}, container {s3.container} stays away"):
            hurried.get(f"{tag}/a.json")
        proxy.restore()
        assert objects.get(f"{tag}/a.json") == b"2"
    finally:
        proxy.end()
