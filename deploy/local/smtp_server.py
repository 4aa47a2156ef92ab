"""A mail server that keeps what it gets: `python -m deploy.local.smtp_server PORT FILE`.

Each mail is a line of JSON more in FILE: ``sender``, ``recipients``, ``username`` (null without a login), ``message``.
It offers AUTH, and takes mails without it too. A recipient whose address begins with ``refused`` is refused for good,
with ``later`` for now.
"""

import asyncio
import signal
import sys
from pathlib import Path

import orjson
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from deploy.local.processes import LOOPBACK
from deploy.local.smtp import PASSWORD, USERNAME

LARGEST_MAIL = 33_554_432


class Keeper:
    """What the server does with a mail."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient, or refuse it."""
        if address.startswith("refused"):
            return "550 no such mailbox"
        if address.startswith("later"):
            return "450 the mailbox is busy"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep a mail."""
        login = session.auth_data if session.authenticated else None
        mail = {
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "username": login.login.decode() if isinstance(login, LoginPassword) else None,
            "message": (envelope.original_content or b"").decode("utf-8", "replace"),
        }
        with self._file.open("ab") as file:
            file.write(orjson.dumps(mail) + b"\n")
        return "250 kept"


def authenticated(server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: object) -> AuthResult:
    """Whether it is the stack's user."""
    known = LoginPassword(USERNAME.encode(), PASSWORD.encode())
    return AuthResult(success=login == known, handled=False, auth_data=login)


async def serve(port: int, file: Path) -> None:
    """Take mails on that port of the loopback address until the process is told to end."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    def connection() -> SMTP:
        return SMTP(
            Keeper(file),
            data_size_limit=LARGEST_MAIL,
            hostname="localhost",
            authenticator=authenticated,
            auth_require_tls=False,
            loop=loop,
        )

    server = await loop.create_server(connection, LOOPBACK, port)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
