"""The mail server: its twin in memory, and a real one (aiosmtpd), which goes wrong in every way (spec: §3.1)."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast

import pytest

from deploy.local.processes import LOOPBACK
from io_connectors import smtp
from io_connectors.memory_mail import MemoryMail, MemoryMails, MemoryMailServer
from io_connectors.smtp import Smtp, SmtpMails
from tests.contract.mail_server import PASSWORD, USERNAME, MailServer, certificate, mail_server
from transforms.services import OutcomeUnknown, ServiceRefused
from transforms.stores import StoreUnavailable

SENDER = "support@school.example"
ONE, TWO, THREE = (f"learner-{number}@school.example" for number in (1, 2, 3))
SECONDS = 20.0
HURRIED = 1.0  # of a client whose server hangs

numbers = itertools.count()


def client(server: MailServer, **changed: Any) -> SmtpMails:
    """A client of its own for this server."""
    recipe = {"host": LOOPBACK, "port": server.port, "sender": SENDER, "timeout": SECONDS, "retry_pauses": (0.01, 0.02)}
    return SmtpMails(Smtp(**{**recipe, **changed}))


@pytest.fixture(params=["twin", "server"])
def mails(request: pytest.FixtureRequest) -> Iterator[tuple[SmtpMails | MemoryMails, MailServer | MemoryMails]]:
    """A client, and what the server has: ``mails``, and ``refused`` addresses."""
    if request.param == "twin":
        twin = MemoryMailServer(f"contract-{next(numbers)}", SENDER).open()
        yield twin, twin
        return
    with mail_server() as server:
        found = client(server)
        yield found, server
        found.close()


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as found:
        yield found


def read(mail: MemoryMail) -> EmailMessage:
    return cast(EmailMessage, message_from_bytes(mail.message, policy=default))


# --- what both do


def test_one_recipient(mails: Any) -> None:
    """notification-job §9 case 1"""
    sender, there = mails
    sender.send([f" {ONE} "], "Your certificate is ready", "<p>Dear learner, well done.</p>", "id-1")
    [mail] = there.mails
    message = read(mail)
    assert (mail.sender, mail.recipients) == (SENDER, (ONE,))
    assert (message["from"], message["to"], message["subject"]) == (SENDER, ONE, "Your certificate is ready")
    assert b"\r\nContent-Type: text/html; charset=utf-8\r\n" in mail.message
    assert message.get_payload(decode=True) == b"<p>Dear learner, well done.</p>"
    assert message["message-id"] == "<id-1@school.example>"
    assert message["date"]
    assert message["mime-version"] == "1.0"


def test_several_recipients_do_not_see_each_other(mails: Any) -> None:
    """notification-job §9 case 2"""
    sender, there = mails
    sender.send([ONE, TWO, THREE], None, "x")
    [mail] = there.mails
    assert mail.recipients == (ONE, TWO, THREE)
    assert b"learner" not in mail.message
    message = read(mail)
    assert message["to"] == "undisclosed-recipients:;"
    assert {"subject", "cc", "bcc"}.isdisjoint(name.lower() for name in message)


def test_all_or_nobody(mails: Any) -> None:
    """notification-job §9 case 3; the next mail goes its way."""
    sender, there = mails
    there.refused.add(TWO)
    with pytest.raises(ServiceRefused, match="550") as refused:
        sender.send([ONE, TWO, THREE], "x", "x")
    assert "learner" not in str(refused.value)
    assert there.mails == []
    sender.send([THREE], "x", "x")
    assert [mail.recipients for mail in there.mails] == [(THREE,)]


@pytest.mark.parametrize(
    "address",
    [
        *("", "learner-1", "@school.example", "a b@school.example", f"{ONE}, {TWO}", "a\n@b.c"),
        *("\\" * 4_000, "(" * 4_000, "a" * 251 + "@b.c"),
    ],
)
def test_an_address_that_is_none(mails: Any, address: str) -> None:
    sender, there = mails
    with pytest.raises(ServiceRefused, match="an address that is none"):
        sender.send([ONE, address], "x", "x")
    assert there.mails == []


@pytest.mark.parametrize(
    "html",
    [
        "",
        "x",
        "no html",
        ".",
        "..\r\n.\r\n.x",
        "a\nb\rc\r\n",
        "=3D é",
        "प्रिय शिक्षार्थी " * 40,
        "z" * 5000,
        "<p> \t\n</p> \n",
    ],
)
def test_the_body_arrives_as_it_is(mails: Any, html: str) -> None:
    sender, there = mails
    sender.send([ONE], "x", html)
    [mail] = there.mails
    assert read(mail).get_payload(decode=True) == html.encode()
    assert max(map(len, mail.message.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    "subject",
    [
        *("", "Zertifikat für 100 %", "प्रमाण पत्र " * 12, "a" * 300),
        # of more than one encoded word, between which white space does not count
        *("आपका आपका कोर्स: आपका कोर्स:", "Your नमस्ते! is कोर्स: है लिए Your"),
    ],
)
def test_the_subject_arrives_as_it_is(mails: Any, subject: str) -> None:
    sender, there = mails
    sender.send([ONE], subject, "x")
    assert read(there.mails[0])["subject"].strip() == subject.strip()


def test_a_subject_makes_no_header_of_its_own(mails: Any) -> None:
    sender, there = mails
    sender.send([ONE], f"x\r\nBcc: {TWO}\x00\u2028\x85y", "x")
    message = read(there.mails[0])
    assert message["bcc"] is None
    assert message["subject"].strip() == f"x Bcc: {TWO} y"


def test_a_mail_that_was_taken_without_a_word(mails: Any) -> None:
    """It may have been sent, so it is not tried again."""
    sender, there = mails
    if isinstance(there, MailServer):
        there.then("DATA", "accept")
    else:
        there.unknown = 1
    with pytest.raises(OutcomeUnknown):
        sender.send([ONE], "x", "x")
    assert len(there.mails) == 1
    sender.send([TWO], "x", "x")
    assert len(there.mails) == 2


def test_nobody_is_there() -> None:
    twin = MemoryMailServer(f"contract-{next(numbers)}", SENDER).open()
    twin.unavailable = True
    with closing(socket.create_server((LOOPBACK, 0))) as taken:
        port = taken.getsockname()[1]
    away = SmtpMails(Smtp(LOOPBACK, port, SENDER, timeout=SECONDS, retry_pauses=(0.01, 0.01)))
    for sender in (twin, away):
        with pytest.raises(StoreUnavailable) as error:
            sender.send([ONE], "x", "x")
        assert not isinstance(error.value, OutcomeUnknown)


# --- connections


def test_a_connection_is_used_again(server: MailServer) -> None:
    sender = client(server)
    server.refused.add(TWO)
    for recipient in (ONE, TWO, THREE):
        try:
            sender.send([recipient], "x", "x")
        except ServiceRefused:
            assert recipient == TWO
    assert (server.connections, len(server.mails)) == (1, 2)


@pytest.mark.parametrize("happens", ["drop", "421 too long", "451 too many"])
def test_a_dropped_connection_is_replaced_silently(server: MailServer, happens: str) -> None:
    sender = client(server, retry_pauses=())
    sender.send([ONE], "x", "x")
    server.then("MAIL", happens)
    sender.send([TWO], "x", "x")
    assert [mail.recipients for mail in server.mails] == [(ONE,), (TWO,)]
    assert server.connections == 2


def test_a_connection_that_waited_for_long_is_not_trusted(server: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = client(server)
    sender.send([ONE], "x", "x")
    monkeypatch.setattr(smtp, "IDLE_SECONDS", 0.0)
    sender.send([TWO], "x", "x")
    assert (server.connections, len(server.mails)) == (2, 2)


def test_many_at_once(server: MailServer) -> None:
    sender = client(server)
    with ThreadPoolExecutor(8) as threads:
        recipients = [f"learner-{number}@school.example" for number in range(60)]
        list(threads.map(lambda recipient: sender.send([recipient], recipient, "x"), recipients))
    assert sorted(mail.recipients[0] for mail in server.mails) == sorted(recipients)
    assert all(read(mail)["subject"] == mail.recipients[0] for mail in server.mails)
    assert server.connections <= 8


# --- what goes wrong before the server has the mail: surely nothing was sent


@pytest.mark.parametrize(
    ("command", "happens"),
    [
        *((command, "450 later") for command in ("MAIL", "RCPT", "DATA")),
        *((c, "drop") for c in ("EHLO", "MAIL", "RCPT")),
    ],
)
def test_what_fails_for_now_is_tried_again(server: MailServer, command: str, happens: str) -> None:
    server.then(command, happens, happens)
    client(server).send([ONE], "x", "x")
    assert len(server.mails) == 1
    assert server.commands.count(command) == 3


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
def test_later_three_times(server: MailServer, command: str) -> None:
    server.then(command, *["450 later"] * 9)
    with pytest.raises(StoreUnavailable, match="450"):
        client(server).send([ONE], "x", "x")
    assert server.mails == []
    assert server.commands.count(command) == 3


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
def test_a_refusal_is_final(server: MailServer, command: str) -> None:
    server.then(command, f"552 not of {ONE}")
    with pytest.raises(ServiceRefused, match="552") as error:
        client(server).send([ONE], "x", "x")
    assert "learner" not in str(error.value)
    assert (server.mails, server.commands.count(command)) == ([], 1)


def test_a_refusal_after_which_the_connection_breaks(server: MailServer) -> None:
    server.refused.add(ONE)
    server.then("RSET", "drop")
    sender = client(server)
    with pytest.raises(ServiceRefused, match="550"):
        sender.send([ONE], "x", "x")
    sender.send([TWO], "x", "x")
    assert [mail.recipients for mail in server.mails] == [(TWO,)]


@pytest.mark.parametrize("command", ["EHLO", "MAIL", "RCPT"])
def test_a_server_that_hangs(server: MailServer, command: str) -> None:
    """No wait is longer than the time-out, which no second try begins after."""
    server.then(command, *["hang"] * 9)
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable) as error:
        client(server, timeout=HURRIED).send([ONE], "x", "x")
    assert not isinstance(error.value, OutcomeUnknown)
    assert time.monotonic() - begun < 3 * HURRIED
    assert server.mails == []


def test_a_server_that_hangs_with_the_mail(server: MailServer) -> None:
    server.then("DATA", "hang")
    with pytest.raises(OutcomeUnknown):
        client(server, timeout=HURRIED).send([ONE], "x", "x")
    assert server.commands.count("DATA") == 1


def test_a_server_that_does_not_greet() -> None:
    with closing(socket.create_server((LOOPBACK, 0))) as silent:
        mails = SmtpMails(Smtp(LOOPBACK, silent.getsockname()[1], SENDER, timeout=0.3, retry_pauses=(0.01, 0.01)))
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            mails.send([ONE], "x", "x")
        assert time.monotonic() - begun < 2


def test_without_a_server() -> None:
    with pytest.raises(ServiceRefused, match="mail_server_host is not set"):
        SmtpMails(Smtp("")).send([ONE], "x", "x")


def test_a_sender_that_is_none(server: MailServer) -> None:
    with pytest.raises(ServiceRefused, match="an address that is none"):
        client(server, sender="Sunbird").send([ONE], "x", "x")


def test_a_sender_with_a_name(server: MailServer) -> None:
    client(server, sender=f"Sunbird Schule <{SENDER}>").send([ONE], "x", "x")
    [mail] = server.mails
    assert (mail.sender, read(mail)["from"]) == (SENDER, f"Sunbird Schule <{SENDER}>")


# --- AUTH and TLS


def test_auth_where_it_is_offered() -> None:
    with mail_server(auth=True) as server:
        client(server, username=USERNAME, password=PASSWORD).send([ONE], "x", "x")
        assert server.logins == [USERNAME]
        with pytest.raises(ServiceRefused, match="535") as error:
            client(server, username=USERNAME, password="wrong").send([ONE], "x", "x")
        assert "wrong" not in str(error.value)
        with pytest.raises(ServiceRefused, match="530"):
            client(server).send([ONE], "x", "x")
        assert len(server.mails) == 1


def test_a_user_where_no_auth_is_offered(server: MailServer) -> None:
    """notification-job §9 case 10"""
    client(server, username=USERNAME, password=PASSWORD).send([ONE], "x", "x")
    assert server.logins == [None]


def test_a_password_that_can_not_be_sent() -> None:
    with mail_server(auth=True) as server, pytest.raises(ServiceRefused) as error:
        client(server, username=USERNAME, password="geheim-ü").send([ONE], "x", "x")
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize("auth", [False, True])
def test_starttls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auth: bool) -> None:
    files = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    with mail_server(auth=auth, tls=files) as server:
        sender = client(server, username=USERNAME, password=PASSWORD, starttls=True)
        sender.send([ONE], "x", "x")
        sender.send([TWO], "x", "x")
        assert server.encrypted == [True, True]
        assert server.logins == [USERNAME if auth else None] * 2
        assert server.commands.count("EHLO") == 2


def test_nothing_is_sent_to_a_server_whose_certificate_is_of_nobody(tmp_path: Path) -> None:
    with mail_server(tls=certificate(tmp_path)) as server:
        with pytest.raises(ServiceRefused, match="SSLCertVerificationError"):
            client(server, starttls=True).send([ONE], "x", "x")
        assert server.mails == []


def test_nothing_is_sent_without_the_starttls_that_is_wanted(server: MailServer) -> None:
    with pytest.raises(ServiceRefused, match="SMTPNotSupportedError"):
        client(server, starttls=True).send([ONE], "x", "x")
    assert server.mails == []
