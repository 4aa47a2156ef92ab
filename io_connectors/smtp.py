"""E-mails over SMTP (spec: notification-job §3.1)."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from io_connectors.mail_message import checked_address, composed, envelope_sender
from io_connectors.one_per_process import one_per_process
from io_connectors.pace import Pace
from io_connectors.retries import retrying
from transforms.services import OutcomeUnknown, ServiceRefused
from transforms.stores import StoreUnavailable

__all__ = ["Smtp", "SmtpMails"]

PORT = 25
IDLE_SECONDS = 30.0
"""How long a connection waits for its next mail before it is given up: servers and firewalls drop it silently."""

_DOT_FIRST = re.compile(rb"^\.", re.MULTILINE)


@dataclass(frozen=True)
class Smtp:
    """The recipe of a mail server; times in seconds.

    ``sender`` is the address that mails come from, a name may stand before it. ``username``: for a server that offers
    AUTH. ``starttls``: nothing is sent without it; the server's certificate is checked. A try that surely sent nothing
    is made again after each of ``retry_pauses``, as long as ``timeout`` has not passed since the first.
    """

    host: str
    port: int = PORT
    sender: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    starttls: bool = False
    timeout: float = 30.0
    retry_pauses: tuple[float, ...] = (1.0, 5.0)
    pace: Pace = field(default_factory=lambda: Pace("mails"))

    def open(self) -> SmtpMails:
        """The process' client for this recipe; it connects when there is something to send."""
        return one_per_process(self, lambda: SmtpMails(self))


class _Dropped(StoreUnavailable):
    """The server, or the way to it, failed before the mail was its own."""


class _Later(StoreUnavailable):
    """The server says that it may take the mail later (4xx)."""


class _Connection:
    """One connection, logged in. ``used_at`` by the monotonic clock."""

    def __init__(self, recipe: Smtp, local_name: str) -> None:
        self._timeout = recipe.timeout
        self._end = time.monotonic() + recipe.timeout
        self.used_at = 0.0
        self.smtp = smtplib.SMTP(recipe.host, recipe.port, local_name, recipe.timeout)
        try:
            self._hello()
            if recipe.starttls:
                self._within(self._end - time.monotonic())
                self.smtp.starttls(context=ssl.create_default_context())
                self._hello()
            if recipe.username and self.smtp.has_extn("auth"):
                self._within(self._end - time.monotonic())
                self.smtp.login(recipe.username, recipe.password)
        except BaseException:
            self.close()
            raise

    def send(self, sender: str, recipients: Sequence[str], message: bytes) -> None:
        """Hand the mail over to all recipients, or to none."""
        self._end = time.monotonic() + self._timeout
        try:
            self._expect(250, self._command(f"MAIL FROM:<{sender}>"), "the sender")
            for recipient in recipients:
                self._expect(250, self._command(f"RCPT TO:<{recipient}>"), "a recipient")
            self._expect(354, self._command("DATA"), "the mail")
        except (_Later, ServiceRefused):
            self._forget()
            raise
        # what fails here leaves the server without the end of the mail, which it must then not send
        self._within(self._end - time.monotonic())
        self.smtp.send(_DOT_FIRST.sub(b"..", message) + b"\r\n.\r\n")
        # from here on, nobody but the server knows what became of it
        self._within(self._timeout)
        try:
            code, _ = self.smtp.getreply()
        except (smtplib.SMTPException, OSError):
            raise OutcomeUnknown("the mail server took the mail and did not say what became of it") from None
        self._expect(250, code, "the mail")
        self.used_at = time.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether it can be used again."""
        return self.smtp.sock is not None

    def close(self) -> None:
        """Hang up without a word."""
        self.smtp.close()

    def _forget(self) -> None:
        try:
            self._command("RSET")
        except (smtplib.SMTPException, OSError):
            self.close()

    def _hello(self) -> None:
        self._within(self._end - time.monotonic())
        self.smtp.ehlo_or_helo_if_needed()

    def _command(self, line: str) -> int:
        self._within(self._end - time.monotonic())
        return self.smtp.docmd(line)[0]

    def _within(self, seconds: float) -> None:
        """Let the server take no more time than that for what follows."""
        if self.smtp.sock is None or seconds <= 0:
            raise TimeoutError
        self.smtp.sock.settimeout(seconds)

    @staticmethod
    def _expect(wanted: int, code: int, what: str) -> None:
        """Raise _Later or ServiceRefused for another answer. Its text may hold an address, so it is not told."""
        if code == wanted or (wanted == 250 and code == 251):
            return
        kind = _Later if 400 <= code < 500 else ServiceRefused
        raise kind(f"the mail server answers {code} to {what}")


class SmtpMails:
    """The client (``transforms.services.Mails``); each thread that sends has a connection of its own meanwhile."""

    def __init__(self, recipe: Smtp) -> None:
        self._recipe = recipe
        self._address = f"mail server {recipe.host}:{recipe.port}"
        self._turns = recipe.pace.open()
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self._local_name: str | None = None
        self._trying = retrying(recipe.retry_pauses, _Dropped, _Later, within=recipe.timeout)

    def send(self, recipients: Sequence[str], subject: str | None, html: str, identifier: str | None = None) -> None:
        """As the protocol says. spec: notification-job §3.1"""
        if not self._recipe.host:
            raise ServiceRefused("no mail server: mail_server_host is not set")
        addresses = [checked_address(recipient) for recipient in recipients]
        sender = envelope_sender(self._recipe.sender)
        message = composed(self._recipe.sender, addresses, subject, html, identifier, datetime.now(UTC))
        self._turns.wait()
        self._trying(self._once, sender, addresses, message)

    def close(self) -> None:
        """Hang up all connections that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _once(self, sender: str, recipients: Sequence[str], message: bytes) -> None:
        connection = self._waiting()
        if connection:
            # it may have been dropped while it waited, which says nothing of the server
            with suppress(_Dropped, _Later):
                return self._over(connection, sender, recipients, message)
        self._over(self._connected(), sender, recipients, message)

    def _over(self, connection: _Connection, sender: str, recipients: Sequence[str], message: bytes) -> None:
        try:
            connection.send(sender, recipients, message)
        except ServiceRefused:
            self._keep(connection)
            raise
        except (_Later, OutcomeUnknown):
            # "later" may be meant of this connection: it is too old, or has sent enough
            connection.close()
            raise
        except (smtplib.SMTPException, OSError) as error:
            connection.close()
            raise self._dropped(error) from None
        self._keep(connection)

    def _waiting(self) -> _Connection | None:
        """A connection that waits for its next mail, when there is one."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if time.monotonic() - connection.used_at < IDLE_SECONDS:
                return connection
            connection.close()

    def _keep(self, connection: _Connection) -> None:
        if not connection.is_open:
            return
        connection.used_at = time.monotonic()
        with self._lock:
            self._idle.append(connection)

    def _connected(self) -> _Connection:
        if self._local_name is None:
            self._local_name = socket.getfqdn()
        try:
            return _Connection(self._recipe, self._local_name)
        except smtplib.SMTPResponseException as error:
            kind = _Later if 400 <= error.smtp_code < 500 else ServiceRefused
            raise kind(f"{self._address} answers {error.smtp_code} to {type(error).__name__}") from None
        except (smtplib.SMTPNotSupportedError, ssl.SSLCertVerificationError, UnicodeError) as error:
            # no STARTTLS, no mechanism that both know, a wrong certificate, a password that can not be sent
            raise ServiceRefused(f"{self._address}: {type(error).__name__}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise self._dropped(error) from None

    def _dropped(self, error: Exception) -> _Dropped:
        said = error.strerror if isinstance(error, OSError) and error.strerror else ""
        return _Dropped(f"{self._address} does not answer: {type(error).__name__}{said and f' ({said})'}")
