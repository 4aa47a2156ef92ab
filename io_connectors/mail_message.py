"""An e-mail as it goes over the wire (spec: notification-job §3.1)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import datetime
from email.errors import MessageError
from email.header import Header
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from email.utils import format_datetime, make_msgid, parseaddr

from transforms.services import ServiceRefused

__all__ = ["checked_address", "composed", "envelope_sender"]


class _Subject(UnstructuredHeader, BaseHeader):
    """Python's own folding of what is not ASCII loses spaces where one encoded word ends and the next begins."""

    def fold(self, *, policy: Policy) -> str:
        text = str(self)
        if text.isascii():
            return super().fold(policy=policy)
        encoded = Header(text, "utf-8", header_name="Subject").encode(linesep=policy.linesep)
        return f"Subject: {encoded}{policy.linesep}"


# the content type is written as it is, without quotes around the character set
_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("content-type", UnstructuredHeader)  # type: ignore[arg-type]
_HEADERS.map_to_type("subject", _Subject)
_POLICY = SMTP.clone(header_factory=_HEADERS)

# and what else Python takes for the end of a line, which no header may have
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NOT_IN_AN_ADDRESS = re.compile(r"[\s<>\x00-\x1f\x7f]|[^\x00-\x7f]")
_BASE64_LINE = 57
# RFC 5321 §4.5.3.1.3; the parser of addresses takes hours for one as long as an event may be
_LONGEST_ADDRESS = 254


def composed(
    sender: str,
    recipients: Sequence[str],
    subject: str | None,
    html: str,
    identifier: str | None,
    now: datetime,
) -> bytes:
    """The message with CRLF line ends. One recipient is named in ``To``, several in no header at all.

    The body is the UTF-8 of ``html``, byte by byte. ``identifier``: the first part of ``Message-ID``, by default a
    random one. ``now`` has a time zone. Raises ServiceRefused for a sender that no header can hold.
    """
    domain = envelope_sender(sender).rpartition("@")[2]
    message = EmailMessage(policy=_POLICY)
    try:
        message["From"] = sender
        message["To"] = recipients[0] if len(recipients) == 1 else "undisclosed-recipients:;"
        if subject is not None:
            message["Subject"] = _CONTROLS.sub(" ", subject)
    except ValueError:
        raise ServiceRefused("a header that a mail can not have") from None
    message["Date"] = format_datetime(now)
    message["Message-ID"] = f"<{identifier}@{domain}>" if identifier else make_msgid(domain=domain)
    message["MIME-Version"] = "1.0"
    message["Content-Type"] = "text/html; charset=utf-8"
    encoding, payload = _encoded(html.encode())
    message["Content-Transfer-Encoding"] = encoding
    message.set_payload(payload)
    return message.as_bytes()


def checked_address(recipient: str) -> str:
    """An address as ``name@domain`` in ASCII, without white space around. Raises ServiceRefused for what is none."""
    address = recipient.strip()
    if len(address) > _LONGEST_ADDRESS:
        raise ServiceRefused("an address that is none")
    try:
        parsed = Address(addr_spec=address)
    except (ValueError, LookupError, AttributeError, MessageError):
        parsed = Address()
    if not parsed.username or not parsed.domain or _NOT_IN_AN_ADDRESS.search(address):
        raise ServiceRefused("an address that is none")
    return address


def envelope_sender(sender: str) -> str:
    """The address of a sender that may have a name before it. Raises ServiceRefused when there is none."""
    return checked_address(parseaddr(sender)[1])


def _encoded(body: bytes) -> tuple[str, str]:
    """The shorter one of the two encodings that keep every byte, and the body in it."""
    # the line end that follows every message belongs to neither
    quoted = binascii.b2a_qp(body, istext=False) + b"="
    if len(quoted) <= len(body) * 4 / 3 + _BASE64_LINE:
        return "quoted-printable", quoted.decode("ascii")
    lines = (body[at : at + _BASE64_LINE] for at in range(0, len(body), _BASE64_LINE))
    return "base64", "\n".join(base64.b64encode(line).decode("ascii") for line in lines)
