"""What an event asks for: its validation, and what is read of it (spec: collection-certificate-generator §2, §3.2)."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

__all__ = ["CertificateRequest", "InvalidRequest", "Issuer", "Recipient", "key_id_of", "legacy_id", "validate"]

_log = logging.getLogger(__name__)

_SIGNATORY_MEMBERS = ("name", "id", "designation", "image")
# the specified characters and white space; control characters would be refused by every object store, again and again
_FORBIDDEN_IN_TAG = re.compile(r"""[!@#$%^&*()+=,.?/":;'{}|<>\s\x00-\x1f\x7f-]""")
# the tag is a folder's name in the object store
_LONGEST_TAG = 255
_SCHEME = re.compile(r"(https?|ftp|file|jar|mailto):", re.IGNORECASE)
# what RFC 3986 allows, and letters beyond ASCII
_ADDRESS = re.compile(r"[a-z]+:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2}|[^\x00-\xa0\s])+", re.IGNORECASE)
_LONGEST_SHOWN = 200


class InvalidRequest(ValueError):
    """An event that can not be processed because of its data. The message is one line and names no person."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who issues; ``public_keys`` are ids or addresses, as in the event (numbers as text)."""

    name: str
    url: str
    public_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who gets one certificate: an element of ``edata.data``."""

    id: str
    name: str
    valid_from: str | None


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A valid event's ``edata``. Absent texts are ``""``; ``keys_id`` is ``""`` when the event has no keys.

    ``signatories`` is the event's list as it came, None when it has none (which only passes when suppressed).
    ``svg_template`` still has the placeholder. Dates are as in the event.
    """

    name: str
    svg_template: str
    recipients: tuple[Recipient, ...]
    issuer: Issuer
    signatories: list[Any] | None
    narrative: str
    tag: str
    keys_id: str
    user_id: str
    course_id: str
    batch_id: str
    related: dict[str, Any]
    old_id: str
    course_name: str
    template_id: str
    issued_date: str
    expiry: str
    logo: str
    description: str

    @classmethod
    def of(cls, edata: Any, *, suppress_signatories: bool) -> CertificateRequest:
        """Validate and read. Raises InvalidRequest, and nothing else whatever the types.

        Optional texts may come as numbers; any other type is refused. spec: collection-certificate-generator §2, §3.2
        """
        validate(edata, suppress_signatories=suppress_signatories)
        issuer, signatories = edata["issuer"], edata.get("signatoryList")
        related = _object(edata, "related", "edata.related")
        user_id = _text(edata, "userId")
        return cls(
            name=edata["name"],
            svg_template=edata["svgTemplate"],
            recipients=tuple(_recipient(element, user_id) for element in edata["data"]),
            issuer=Issuer(issuer["name"], issuer["url"], _public_keys(issuer)),
            signatories=signatories if isinstance(signatories, list) else None,
            narrative=edata["criteria"]["narrative"],
            tag=_text(edata, "tag").strip(),
            keys_id=_text(_object(edata, "keys", "edata.keys"), "id", "edata.keys.id"),
            user_id=user_id,
            course_id=_text(related, "courseId", "edata.related.courseId"),
            batch_id=_text(related, "batchId", "edata.related.batchId"),
            related=dict(related),
            old_id=_text(edata, "oldId"),
            course_name=_text(edata, "courseName"),
            template_id=_text(edata, "templateId"),
            issued_date=_text(edata, "issuedDate"),
            expiry=_text(edata, "expiry"),
            logo=_text(edata, "logo"),
            description=_text(edata, "description"),
        )

    @property
    def reissue(self) -> bool:
        """Whether this replaces the certificate ``old_id``."""
        return bool(self.old_id)


def validate(edata: Any, *, suppress_signatories: bool) -> None:
    """Check an event's ``edata``; InvalidRequest names the first fault, in the specified order.

    With ``suppress_signatories`` a fault of the signatory list is only logged.
    spec: collection-certificate-generator §3.2
    """
    _required(edata, ("name", "svgTemplate"), "edata")
    _required_each(edata.get("data"), ("recipientName",), "edata.data")
    _required(edata.get("issuer"), ("name", "url"), "edata.issuer")
    try:
        _required_each(edata.get("signatoryList"), _SIGNATORY_MEMBERS, "edata.signatoryList")
    except InvalidRequest as fault:
        if not suppress_signatories:
            raise
        _log.info("accepted, although: %s", fault)
    _required(edata.get("criteria"), ("narrative",), "edata.criteria")
    _check_tag(_text(edata, "tag"))
    _check_base_path(_text(edata, "basePath"))
    _check_keys(edata)


def legacy_id(edata: Any) -> str:
    """The id of the certificate that is to be migrated: ``identifier`` or ``oldId``, which must not differ.

    Also checks what else a migration needs: the enrolment's key. ``edata`` is valid otherwise.
    Raises InvalidRequest. spec: legacy-certificate-migrator §2, §3.1
    """
    _required(_object(edata, "related", "edata.related"), ("batchId", "courseId"), "edata.related", numbers=True)
    if not _text(edata, "userId").strip():
        raise _missing("edata.userId")
    identifier, old_id = _text(edata, "identifier"), _text(edata, "oldId")
    if not identifier.strip() and not old_id.strip():
        raise _missing("edata.identifier")
    if identifier.strip() and old_id.strip() and identifier != old_id:
        raise InvalidRequest("edata.identifier and edata.oldId differ.")
    return identifier if identifier.strip() else old_id


def key_id_of(public_key: str) -> str:
    """The id of an entry of ``issuer.publicKey``: of an address the last segment up to its first ``_``."""
    if not public_key.startswith("http"):
        return public_key
    path = re.split(r"[?#]", public_key, maxsplit=1)[0]
    return path.rpartition("/")[2].partition("_")[0]


def _check_tag(tag: str) -> None:
    if tag.strip() and (_FORBIDDEN_IN_TAG.search(tag) or len(tag.encode("utf-8", "replace")) > _LONGEST_TAG):
        raise _invalid(tag, "tag")


def _check_base_path(base_path: str) -> None:
    if not base_path.strip():
        return
    try:
        urlsplit(base_path)
    except ValueError:
        raise _invalid(base_path, "certificate.basePath") from None
    if not _SCHEME.match(base_path) or not _ADDRESS.fullmatch(base_path):
        raise _invalid(base_path, "certificate.basePath")


def _check_keys(edata: Mapping[str, Any]) -> None:
    keys = _object(edata, "keys", "edata.keys")
    if not keys:
        return
    keys_id = _text(keys, "id", "edata.keys.id")
    if not keys_id.strip():
        raise _missing("edata.keys.id")
    public_keys = _public_keys(edata["issuer"])
    if public_keys and keys_id not in map(key_id_of, public_keys):
        fault = _invalid(f"[{', '.join(public_keys)}]", "edata.issuer.publicKey")
        raise InvalidRequest(f"{fault} ,public key attribute must contain keys.id value")


def _public_keys(issuer: Mapping[str, Any]) -> tuple[str, ...]:
    path = "edata.issuer.publicKey"
    keys = issuer.get("publicKey")
    if keys is None:
        return ()
    if not isinstance(keys, list):
        raise _invalid(keys, path)
    texts = (_as_text(key, path).strip() for key in keys)
    return tuple(text for text in texts if text)


def _recipient(element: Mapping[str, Any], user_id: str) -> Recipient:
    recipient_id = _text(element, "recipientId", "edata.data.recipientId")
    valid_from = element.get("validFrom")
    return Recipient(
        id=recipient_id if recipient_id.strip() else user_id,
        name=element["recipientName"],
        valid_from=None if valid_from is None else _as_text(valid_from, "edata.data.validFrom"),
    )


def _required(parent: Any, members: Sequence[str], path: str, *, numbers: bool = False) -> None:
    if not isinstance(parent, Mapping) or not parent:
        raise _missing(path)
    for member in members:
        value = _text(parent, member, f"{path}.{member}") if numbers else parent.get(member)
        if not isinstance(value, str) or not value.strip():
            raise _missing(f"{path}.{member}")


def _required_each(elements: Any, members: Sequence[str], path: str) -> None:
    if not isinstance(elements, list) or not elements:
        raise _missing(path)
    for element in elements:
        # an element that is no object lacks its first member
        _required(element if isinstance(element, Mapping) and element else {"": None}, members, path)


def _object(parent: Mapping[str, Any], member: str, path: str) -> Mapping[str, Any]:
    value = parent.get(member)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _invalid(value, path)
    return value


def _text(parent: Mapping[str, Any], member: str, path: str = "") -> str:
    return _as_text(parent.get(member), path or f"edata.{member}")


def _as_text(value: Any, path: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid(value, path)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _missing(path: str) -> InvalidRequest:
    return InvalidRequest(f"Mandatory parameter {path} is missing.")


def _invalid(value: Any, path: str) -> InvalidRequest:
    shown = value if isinstance(value, str) else f"of type {type(value).__name__}"
    return InvalidRequest(f"Invalid value {one_line(shown)} for parameter {path}.")


def one_line(text: str) -> str:
    """A value as a message shows it: without line ends and other control characters, and not without end."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_LONGEST_SHOWN])
