"""Files of others on their way to disk: from the web and from Google Drive. spec: content-auto-creator §3.6, §8.6"""

from __future__ import annotations

import json
import socket
import time
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from io_connectors.downloads import GoogleDrive, WebFiles
from io_connectors.http import Http
from io_connectors.memory_http import MemoryHttp
from tests.unit.io_connectors.answering import Answer, Asked, answering, dripping
from transforms.services import DriveBusy, DriveFile, FileTooLarge, ServiceRefused
from transforms.stores import StoreUnavailable

HURRIED = Http(retry_pauses=(0.01, 0.01), read_timeout=2.0)


def web(seconds: float = 5.0) -> WebFiles:
    return WebFiles(seconds, HURRIED)


def test_a_file_is_written_as_it_came(tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000
    with answering(lambda _: Answer(200, content)) as server:
        size = web().open().fetch(f"{server.url}/a.pdf?x=1", tmp_path / "a", limit=len(content))
    assert size == len(content)
    assert (tmp_path / "a").read_bytes() == content


def test_a_redirect_is_followed(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(302, b"moved", {"Location": "/b"}) if asked.path == "/a" else Answer(200, b"b")

    with answering(answer) as server:
        assert web().open().fetch(f"{server.url}/a", tmp_path / "a", 10) == 1
    assert (tmp_path / "a").read_bytes() == b"b"


@pytest.mark.parametrize("status", [400, 403, 404, 410, 500])
def test_a_final_answer(tmp_path: Path, status: int) -> None:
    with (
        answering(lambda _: Answer(status, b"learner-1")) as server,
        pytest.raises(ServiceRefused, match=f"answers {status}$"),
    ):
        web().open().fetch(server.url + "/a", tmp_path / "a", 10)
    assert len(server.asked) == 1
    assert (tmp_path / "a").read_bytes() == b""


def test_a_server_that_says_later_is_asked_again(tmp_path: Path) -> None:
    answers = iter([Answer(503, b"no"), Answer(200, b"yes")])
    with answering(lambda _: next(answers)) as server:
        assert web().open().fetch(server.url + "/a", tmp_path / "a", 10) == 3
    with answering(lambda _: Answer(503)) as server, pytest.raises(StoreUnavailable):
        web().open().fetch(server.url + "/a", tmp_path / "a", 10)
    assert len(server.asked) == 3


def test_too_many_bytes(tmp_path: Path) -> None:
    with answering(lambda _: Answer(200, b"12345678901")) as server:
        with pytest.raises(FileTooLarge):
            web().open().fetch(server.url + "/a", tmp_path / "a", 10)
        assert len(server.asked) == 1
        assert web().open().fetch(server.url + "/a", tmp_path / "a", 11) == 11


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


def test_an_answer_that_breaks_off_is_fetched_again_from_the_beginning(tmp_path: Path) -> None:
    parts = iter([b"0123456789" * 100, b"abc"])

    def send(connection: socket.socket) -> None:
        part = next(parts)
        connection.sendall(HEAD % (3 if part == b"abc" else 5_000) + part)

    with dripping(send) as url:
        assert web().open().fetch(url, tmp_path / "a", 5_000) == 3
    assert (tmp_path / "a").read_bytes() == b"abc"


def test_a_server_that_never_ends(tmp_path: Path) -> None:
    """One byte now and then would keep any time-out of a single read from coming."""

    def send(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"x" * 1_100_000)
            time.sleep(0.1)

    with dripping(send) as url, pytest.raises(ServiceRefused, match=r"takes longer than 0\.3 seconds"):
        web(0.3).open().fetch(url, tmp_path / "a", 10**9)


@pytest.mark.parametrize("url", ["ftp://x/a", "file:///etc/passwd", "a", "", "http://", "http://[/a"])
def test_what_is_no_address(tmp_path: Path, url: str) -> None:
    with pytest.raises(ServiceRefused):
        web().open().fetch(url, tmp_path / "a", 10)


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    with answering(lambda _: Answer(200, b"x")) as server, pytest.raises(StoreUnavailable, match="written to disk"):
        web().open().fetch(server.url + "/a", tmp_path / "none" / "a", 10)


def test_the_twin(tmp_path: Path) -> None:
    http = MemoryHttp("downloads")
    http.serve(lambda method, path, headers, body: (200, b"abc") if path == "/a" else (404, b"no"))
    files = WebFiles(5, http).open()
    assert files.fetch("http://x/a", tmp_path / "a", 3) == 3
    assert (tmp_path / "a").read_bytes() == b"abc"
    with pytest.raises(FileTooLarge):
        files.fetch("http://x/a", tmp_path / "a", 2)
    with pytest.raises(ServiceRefused):
        files.fetch("http://x/b", tmp_path / "a", 3)


# --- Google Drive


def about(asked: Asked) -> Answer:
    if "alt=media" in asked.path:
        return Answer(200, b"content")
    return Answer(200, json.dumps({"name": "A b.pdf", "mimeType": "application/pdf", "size": "7"}).encode())


def drive(url: str, credentials: str | None = None) -> GoogleDrive:
    return GoogleDrive(url, "drive-download", credentials, 5.0, HURRIED)


def test_a_file_of_drive(tmp_path: Path) -> None:
    with answering(about) as server:
        client = drive(server.url).open()
        assert client.about("file-1") == DriveFile("file-1", "A b.pdf", "application/pdf", 7)
        assert client.fetch("file-1", tmp_path / "a", 7) == 7
    first, second = server.asked
    assert first.path.startswith("/drive/v3/files/file-1?fields=id%2Cname%2Csize%2Cowners%2CmimeType")
    assert second.path == "/drive/v3/files/file-1?alt=media"
    assert first.headers["user-agent"] == "drive-download"
    assert "authorization" not in first.headers
    assert (tmp_path / "a").read_bytes() == b"content"


def error(status: int, reason: str = "") -> Answer:
    return Answer(status, json.dumps({"error": {"errors": [{"reason": reason}]}}).encode())


@pytest.mark.parametrize(
    "answer",
    [
        error(403, "rateLimitExceeded"),
        error(403, "userRateLimitExceeded"),
        error(403, "dailyLimitExceeded"),
        error(429),
        error(500),
        error(503),
        Answer(429, b"<html>"),
    ],
)
def test_drive_says_later(tmp_path: Path, answer: Answer) -> None:
    with answering(lambda _: answer) as server:
        for call in (
            lambda client: client.about("f"),
            lambda client: client.fetch("f", tmp_path / "a", 9),
        ):
            with pytest.raises(DriveBusy):
                call(drive(server.url).open())


@pytest.mark.parametrize(
    "answer", [error(404, "notFound"), error(403, "forbidden"), error(401), Answer(403, b"<html>")]
)
def test_drive_refuses(tmp_path: Path, answer: Answer) -> None:
    with answering(lambda _: answer) as server:
        client = drive(server.url).open()
        with pytest.raises(ServiceRefused):
            client.about("f")
        with pytest.raises(ServiceRefused):
            client.fetch("f", tmp_path / "a", 9)
    assert len(server.asked) == 2


@pytest.mark.parametrize("body", [b"{}", b"no JSON", b'{"name": 1, "mimeType": "x"}', b'{"name": "x"}', b"[]"])
def test_an_answer_without_name_and_type(body: bytes) -> None:
    with answering(lambda _: Answer(200, body)) as server, pytest.raises(ServiceRefused):
        drive(server.url).open().about("f")


def account(token_uri: str) -> str:
    key = rsa.generate_private_key(65_537, 2_048)
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return json.dumps({"client_email": "a@example.org", "private_key": text, "token_uri": token_uri})


def test_a_service_account(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.path == "/token":
            token = {"access_token": "token-1", "expires_in": 3600, "token_type": "Bearer"}
            return Answer(200, json.dumps(token).encode(), {"Content-Type": "application/json"})
        return about(asked)

    with answering(answer) as server:
        client = drive(server.url, account(f"{server.url}/token")).open()
        client.about("f")
        client.fetch("f", tmp_path / "a", 9)
    token, first, second = server.asked
    assert token.method == "POST"
    assert {first.headers["authorization"], second.headers["authorization"]} == {"Bearer token-1"}


def test_a_service_account_that_gets_no_token() -> None:
    refusal = Answer(400, b'{"error": "invalid_grant"}', {"Content-Type": "application/json"})
    with (
        answering(lambda _: refusal) as server,
        pytest.raises(ServiceRefused, match="gets no token"),
    ):
        drive(server.url, account(f"{server.url}/token")).open().about("f")


@pytest.mark.parametrize(
    "credentials", ["no JSON secret", "[]", "{}", '{"client_email": "secret", "private_key": "x"}']
)
def test_credentials_that_are_none(credentials: str) -> None:
    with pytest.raises(ValueError, match="g_service_acct_cred") as caught:
        drive("http://x", credentials)
    assert "secret" not in "".join(traceback.format_exception_only(caught.value))
    assert "secret" not in repr(GoogleDrive.__dataclass_fields__)


def test_credentials_are_in_no_text_of_the_recipe() -> None:
    assert "private_key" not in repr(drive("http://x", account("http://x/token")))
