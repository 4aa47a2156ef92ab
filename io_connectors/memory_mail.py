"""The mail server's twin in memory (see ``io_connectors.memory``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from io_connectors.mail_message import checked_address, composed, envelope_sender
from io_connectors.memory import Twin
from io_connectors.one_per_process import one_per_process
from transforms.services import OutcomeUnknown, ServiceRefused

__all__ = ["MemoryMail", "MemoryMailServer", "MemoryMails"]


@dataclass(frozen=True)
class MemoryMailServer:
    """The recipe of a mail server."""

    name: str
    sender: str = "support@open-sunbird.org"

    def open(self) -> MemoryMails:
        """The twin of this name."""
        return one_per_process(self, lambda: MemoryMails(self.sender))


class MemoryMail(NamedTuple):
    """A mail as the server got it: the envelope, and the message."""

    sender: str
    recipients: tuple[str, ...]
    message: bytes


class MemoryMails(Twin):
    """The server and its client (``transforms.services.Mails``).

    ``refused`` are the addresses that it refuses; the next ``unknown`` mails are kept, and nobody is told.
    """

    def __init__(self, sender: str) -> None:
        super().__init__()
        self.mails: list[MemoryMail] = []
        self.refused: set[str] = set()
        self.unknown = 0
        self._sender = sender

    def send(self, recipients: Sequence[str], subject: str | None, html: str, identifier: str | None = None) -> None:
        """As the protocol says."""
        addresses = tuple(checked_address(recipient) for recipient in recipients)
        sender = envelope_sender(self._sender)
        message = composed(self._sender, addresses, subject, html, identifier, datetime.now(UTC))
        with self._call():
            if self.refused.intersection(addresses):
                raise ServiceRefused("the mail server answers 550 to a recipient")
            self.mails.append(MemoryMail(sender, addresses, message))
            if self.unknown:
                self.unknown -= 1
                raise OutcomeUnknown("the mail server took the mail and did not say what became of it")
