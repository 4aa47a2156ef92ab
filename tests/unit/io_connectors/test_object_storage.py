"""The object stores that no server of the stack stands for, and what every kind's recipe refuses.

spec: collection-certificate-generator §3.5.6
"""

from __future__ import annotations

import json
import pickle
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from urllib.parse import parse_qs, unquote

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from io_connectors import object_storage
from io_connectors.object_storage import KINDS, S3, ObjectStore
from tests.unit.io_connectors.answering import Answer, Answering, Asked, answering
from transforms.stores import StoreUnavailable

JSON = "application/json"
FAST = (0.01, 0.01, 0.01, 0.01)
MADE = Answer(201, headers={"ETag": '"1"', "Last-Modified": "Wed, 12 Jun 2024 08:00:06 GMT"})
ACCOUNT_KEY = b64encode(b"secret-1").decode()


@pytest.fixture(scope="module")
def private_key() -> str:
    return (
        rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


@pytest.fixture
def server() -> Iterator[Answering]:
    """Makes every object, and has none but ``tag/there.json``."""

    def answer(asked: Asked) -> Answer:
        if asked.path == "/token":
            return Answer(200, b'{"access_token": "token-1", "expires_in": 3600}', {"Content-Type": JSON})
        if asked.method == "GET" and unquote(asked.path).endswith("tag/there.json"):
            return Answer(200, b"{}", MADE.headers)
        return MADE if asked.method == "PUT" else Answer(404)

    with answering(answer) as server:
        yield server


def test_azure(server: Answering):
    recipe = ObjectStore("azure", "certificates", "account", ACCOUNT_KEY, f"{server.url}/account", retry_pauses=FAST)
    objects = recipe.open()
    objects.put("tag/a.json", b'{"a": 1}', JSON)
    assert objects.get("tag/there.json") == b"{}"
    assert objects.get("tag/none.json") is None
    put, *gets = server.asked
    assert (put.method, put.path, put.body) == ("PUT", "/account/certificates/tag/a.json", b'{"a": 1}')
    assert put.headers["x-ms-blob-type"] == "BlockBlob"
    assert put.headers["x-ms-blob-content-type"] == JSON
    assert put.headers["authorization"].startswith("SharedKey account:")
    assert [asked.path for asked in gets] == [
        "/account/certificates/tag/there.json",
        "/account/certificates/tag/none.json",
    ]


@pytest.mark.parametrize("status", ["202 Accepted", "404 The specified blob does not exist."])
def test_azure_deletes(status: str):
    def answer(asked: Asked) -> Answer:
        part = "Content-Type: application/http\r\nContent-ID: 0\r\n\r\nHTTP/1.1 " + status
        code = "x-ms-error-code: BlobNotFound\r\n" if status.startswith("404") else ""
        body = f"--b\r\n{part}\r\n{code}x-ms-version: 2018-11-09\r\n\r\n--b--\r\n"
        return Answer(202, body.encode(), {"Content-Type": "multipart/mixed; boundary=b"})

    with answering(answer) as server:
        ObjectStore("azure", "certificates", "account", ACCOUNT_KEY, f"{server.url}/account").open().delete("a.json")
        [asked] = server.asked
        assert (asked.method, asked.path) == ("POST", "/account/certificates?restype=container&comp=batch")
        assert b"DELETE /account/certificates/a.json HTTP/1.1" in asked.body


@pytest.mark.parametrize("line_end", ["\n", "\\n"])
def test_google(server: Answering, private_key: str, monkeypatch: pytest.MonkeyPatch, line_end: str):
    monkeypatch.setattr(object_storage, "GOOGLE_TOKENS", f"{server.url}/token")
    secret = private_key.replace("\n", line_end)
    objects = ObjectStore("gcloud", "certificates", "robot@example.org", secret, server.url, retry_pauses=FAST).open()
    objects.put("tag/a.json", b'{"a": 1}', JSON)
    assert objects.get("tag/there.json") == b"{}"
    assert objects.get("tag/none.json") is None
    objects.delete("tag/a.json")
    token, put, *others = server.asked
    assert parse_qs(token.body.decode())["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert (put.method, unquote(put.path), put.body) == ("PUT", "/certificates/tag/a.json", b'{"a": 1}')
    assert put.headers["content-type"] == JSON
    assert [asked.method for asked in others] == ["GET", "GET", "DELETE"]
    assert {asked.headers["authorization"] for asked in (put, *others)} == {"Bearer token-1"}


@pytest.mark.parametrize("kind", S3)
def test_s3(server: Answering, kind: str, monkeypatch: pytest.MonkeyPatch):
    """Whatever the environment says."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "wrong")
    monkeypatch.setenv("AWS_REGION", "eu-west-9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    objects = ObjectStore(kind, "certificates", "id", "secret-1", server.url, retry_pauses=FAST).open()
    objects.put("tag/a.json", b'{"a": 1}', JSON)
    objects.delete("tag/a.json")
    put, delete = server.asked
    assert (put.method, put.path, put.body) == ("PUT", "/certificates/tag/a.json", b'{"a": 1}')
    assert put.headers["content-type"] == JSON
    assert "Credential=id/" in put.headers["authorization"]
    assert "/us-east-1/s3/aws4_request" in put.headers["authorization"]
    assert "x-amz-security-token" not in put.headers
    assert (delete.method, delete.path) == ("DELETE", "/certificates/tag/a.json")


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("https://s3.ap-south-1.amazonaws.com", "ap-south-1"),
        ("https://s3-eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://space.compat.objectstorage.ap-hyderabad-1.oraclecloud.com", "ap-hyderabad-1"),
        ("https://s3.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("https://s3.amazonaws.com", "us-east-1"),
        ("minio:9000", "us-east-1"),
    ],
)
def test_a_request_is_signed_for_the_region_of_the_endpoint(endpoint: str, region: str):
    store = ObjectStore("s3", "certificates", "id", "secret-1", endpoint).open()._store()
    assert store.config["region"] == region
    assert store.config["endpoint"] == (endpoint if "://" in endpoint else f"https://{endpoint}")


@pytest.mark.parametrize(
    ("container", "endpoint"),
    [
        ("certificates", "https://certificates.s3.ap-south-1.amazonaws.com"),
        ("certificates.example.org", "https://s3.ap-south-1.amazonaws.com"),
    ],
)
def test_aws_tells_the_region_of_a_bucket(container: str, endpoint: str, monkeypatch: pytest.MonkeyPatch):
    with answering(lambda _: Answer(403, headers={"x-amz-bucket-region": "ap-south-1"})) as server:
        monkeypatch.setattr(object_storage, "AWS", server.url)
        store = ObjectStore("aws", container, "id", "secret-1").open()._store()
        assert [(asked.method, asked.path) for asked in server.asked] == [("HEAD", f"/{container}")]
    assert (store.config["region"], store.config["endpoint"]) == ("ap-south-1", endpoint)


def test_aws_that_can_not_be_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(object_storage, "AWS", "http://127.0.0.1:1")
    objects = ObjectStore("aws", "certificates-2", "id", "secret-1", retry_pauses=FAST).open()
    with pytest.raises(StoreUnavailable, match="object store aws, container certificates-2 stays away: no answer"):
        objects.get("a.json")


# --- what goes wrong


@pytest.mark.parametrize(("status", "tries"), [(500, 5), (503, 5), (429, 5), (400, 1), (403, 1), (401, 1)])
def test_a_store_is_asked_five_times_at_most(status: int, tries: int):
    body = b"<Error><Code>NoWay</Code><Key>of secret-1</Key></Error>"
    with answering(lambda _: Answer(status, body)) as server:
        objects = ObjectStore("minio", "certificates", "id", "secret-1", server.url, retry_pauses=FAST).open()
        with pytest.raises(StoreUnavailable, match=f"minio at {server.url}, container certificates") as error:
            objects.put("tag/a.json", b"of secret-1", JSON)
        assert "secret-1" not in str(error.value)
        assert error.value.__cause__ is None
        assert len(server.asked) == tries


def test_by_default_it_is_asked_five_times():
    assert len(ObjectStore("local", "certificates").retry_pauses) == 4


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"kind": "ftp"}, "cert_cloud_storage_type: 'ftp' is none of azure, aws, "),
        ({"kind": ""}, "cert_cloud_storage_type"),
        ({"container": ""}, "cert_container_name"),
        ({"key": None}, "cert_cloud_storage_key"),
        ({"secret": ""}, "cert_cloud_storage_secret"),
        ({"kind": "azure", "secret": "secret-1"}, "cert_cloud_storage_secret"),
        ({"kind": "gcloud", "secret": "secret-1"}, "cert_cloud_storage_secret"),
    ],
)
def test_what_can_be_no_store_is_named_by_its_setting(recipe: dict[str, str], message: str):
    with pytest.raises(ValueError, match=message) as error:
        ObjectStore(**{"kind": "s3", "container": "c", "key": "id", "secret": "s", **recipe})
    assert "secret-1" not in str(error.value)


def test_a_secret_is_in_no_text_of_the_recipe():
    recipe = ObjectStore("azure", "certificates", "account-1", ACCOUNT_KEY)
    assert ACCOUNT_KEY not in repr(recipe)
    assert ACCOUNT_KEY not in recipe.address


def test_a_copy_of_the_recipe_opens_the_same_client(private_key: str):
    for kind in KINDS:
        secret = {"gcloud": private_key, "azure": ACCOUNT_KEY}.get(kind, "secret-1")
        recipe = ObjectStore(kind, "certificates", "id", secret)
        assert pickle.loads(pickle.dumps(recipe)).open() is recipe.open()  # noqa: S301 - our own bytes
        assert replace(recipe, container="other").open() is not recipe.open()


def test_a_local_directory_needs_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ObjectStore("local", "certificates").open().put("a.json", json.dumps({}).encode(), JSON)
    assert (tmp_path / "certificates" / "a.json").read_bytes() == b"{}"


def test_threads_do_not_wait_for_aws_one_after_the_other(monkeypatch: pytest.MonkeyPatch):
    """Which region a bucket is in, AWS may not say before a time-out."""
    together = Barrier(2)

    def region(*_: object) -> str:
        together.wait(10)
        return "ap-south-1"

    monkeypatch.setattr(object_storage, "_region", region)
    objects = ObjectStore("aws", "two-at-once", "id", "secret-1").open()
    with ThreadPoolExecutor(2) as threads:
        opened = [threads.submit(objects.url, key) for key in ("a", "b")]
        assert [one.result().rpartition("/")[2] for one in opened] == ["a", "b"]
