"""A real mail server (aiosmtpd) on loopback that behaves as a test wants."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.local.processes import LOOPBACK, free_port
from io_connectors.memory_mail import MemoryMail

USERNAME, PASSWORD = "sender-1", "secret-1"


class MailServer:
    """Answers by ``script``: command -> what happens instead of the server's own answer, each a few times.

    What happens: a reply (``450 busy``), ``drop`` (the connection breaks), ``hang`` (no answer ever comes), ``accept``
    (of DATA: the mail is kept, and the connection breaks). ``commands`` are those that were seen.
    """

    def __init__(self, *, auth: bool) -> None:
        self.auth = auth
        self.port = free_port()
        self.mails: list[MemoryMail] = []
        self.refused: set[str] = set()
        self.script: dict[str, list[str]] = {}
        self.commands: list[str] = []
        self.connections = 0
        self.logins: list[str | None] = []
        self.encrypted: list[bool] = []
        self._lock = threading.Lock()

    def then(self, command: str, *happenings: str) -> None:
        """Let this happen at the next times that the command comes."""
        self.script[command] = list(happenings)

    def at(self, command: str) -> str | None:
        with self._lock:
            self.commands.append(command)
            happenings = self.script.get(command, [])
            return happenings.pop(0) if happenings else None

    # --- as aiosmtpd calls its handler

    async def handle_EHLO(self, server: SMTP, session: Any, envelope: Any, hostname: str, responses: list[str]) -> Any:
        session.host_name = hostname
        happens = self.at("EHLO")
        if happens and happens[0].isdigit():
            return [happens]
        offered = [response for response in responses if self.auth or not response.startswith("250-AUTH")]
        return await self._instead(happens, server) or offered

    async def handle_MAIL(self, server: SMTP, session: Any, envelope: Any, address: str, options: Any) -> str:
        envelope.mail_from = address
        return await self._instead(self.at("MAIL"), server) or "250 OK"

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: Any) -> str:
        happens = "550 no such mailbox: " + address if address in self.refused else None
        instead = await self._instead(self.at("RCPT") or happens, server)
        if instead:
            return instead
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        happens = self.at("DATA")
        if happens == "accept" or not happens:
            self.mails.append(MemoryMail(envelope.mail_from, tuple(envelope.rcpt_tos), envelope.original_content))
            self.logins.append(session.auth_data.login.decode() if session.authenticated else None)
            self.encrypted.append(session.ssl is not None)
        return await self._instead("drop" if happens == "accept" else happens, server) or "250 kept"

    async def handle_RSET(self, server: SMTP, session: Any, envelope: Any) -> str:
        return await self._instead(self.at("RSET"), server) or "250 OK"

    async def _instead(self, happens: str | None, server: SMTP) -> str | None:
        if happens == "drop":
            server.transport.abort()  # type: ignore[union-attr]
        elif happens == "hang":
            # the client's patience ends before it
            await asyncio.sleep(20)
        else:
            return happens
        return "421 gone"

    def authenticate(self, server: SMTP, session: Any, envelope: Any, mechanism: str, login: Any) -> AuthResult:
        self.at("AUTH")
        known = LoginPassword(USERNAME.encode(), PASSWORD.encode())
        return AuthResult(success=login == known, handled=False, auth_data=login)


@contextmanager
def mail_server(*, auth: bool = False, tls: tuple[Path, Path] | None = None) -> Iterator[MailServer]:
    """A server that listens; ``auth``: it offers AUTH and wants it, ``tls``: certificate and key for STARTTLS."""
    found = MailServer(auth=auth)

    class Counting(SMTP):
        def connection_made(self, transport: Any) -> None:
            if self.transport is None:
                found.connections += 1
            super().connection_made(transport)

    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
    options: dict[str, Any] = {"tls_context": context, "auth_require_tls": False}
    if auth:
        options |= {"authenticator": found.authenticate, "auth_required": True}

    class Listening(Controller):
        def factory(self) -> SMTP:
            return Counting(self.handler, hostname="localhost", loop=self.loop, **options)

    controller = Listening(found, hostname=LOOPBACK, port=found.port)
    controller.start()
    # it tries itself
    found.connections = 0
    try:
        yield found
    finally:
        controller.stop()


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for the loopback address that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(LOOPBACK))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(*form))
    return files
