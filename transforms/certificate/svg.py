"""The certificate as a picture: a template with values, as data URI (spec: collection-certificate-generator §3.5.5)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote
from xml.sax.saxutils import escape

from lxml import etree

from transforms.certificate.badge import Certificate
from transforms.certificate.dates import long_date
from transforms.certificate.request import InvalidRequest

__all__ = ["MOST_BYTES", "VARIABLES", "InvalidTemplate", "SvgTemplate", "check_template", "print_uri", "variables"]

MOST_BYTES = 2_000_000
VARIABLES = frozenset(
    {
        *("recipientName", "recipientId", "courseName", "certificateName", "certificateDescription"),
        *("issuedDate", "expiryDate", "issuerName", "qrCodeImage"),
        *("signatory0Image", "signatory0Designation", "signatory1Image", "signatory1Designation"),
    }
)
"""The names that every certificate gives a value."""

_DATA_URI = "data:image/svg+xml,"
_ENCODED = str.maketrans(
    {"%": "%25", "<": "%3C", ">": "%3E", "#": "%23", '"': "%22", "\n": "%0A", "\r": "%0D", "\t": "%09"}
)
_QUOTES = {'"': "&quot;", "'": "&#39;"}
# what no XML document may hold
_NO_XML_CHARACTERS = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_DECLARATIONS = re.compile("<!(ENTITY|ATTLIST|ELEMENT|NOTATION)")
_ACTIVE_ELEMENTS = frozenset(
    {"script", "handler", "listener", "iframe", "object", "embed", "form", "base", "meta", "link"}
)
_ACTIVE_ADDRESS = re.compile(r"(javascript|vbscript):|data:text/html", re.IGNORECASE)
# stands for a value while a template is checked; a character of the private use area, which no syntax has
_VALUE = "\ue000"
# browsers skip white space inside an address, and a value may be empty
_SKIPPED_IN_ADDRESSES = re.compile(f"[\x00-\x20{_VALUE}]")


class InvalidTemplate(InvalidRequest):
    """An event's template that is not used. The message is one line and says why; it holds no part of the template."""


@dataclass(frozen=True, slots=True)
class _Variable:
    """``${name}`` as it stands in the encoded text, and what it gives when nobody knows the name."""

    name: str
    default: str


@dataclass(frozen=True, slots=True)
class SvgTemplate:
    """A template, checked and encoded once, to be filled many times. Keep it in a cache, key = address."""

    parts: tuple[str | _Variable, ...]

    @classmethod
    def of(cls, text: str, most_bytes: int = MOST_BYTES) -> SvgTemplate:
        """Check and encode a template's text. Raises InvalidTemplate. spec: §3.5.5, 2"""
        check_template(text, most_bytes)
        return cls(tuple(_parts(text.translate(_ENCODED))))

    def fill(self, values: Mapping[str, str]) -> str:
        """The picture as a data URI; ``values`` are encoded (see ``variables``) and are not scanned again."""
        filled = (part if isinstance(part, str) else values.get(part.name, part.default) for part in self.parts)
        return _DATA_URI + "".join(filled)


def print_uri(template: SvgTemplate, certificate: Certificate, qr_code: bytes) -> str:
    """The certificate's picture as a data URI; ``qr_code`` is a PNG. spec: §3.5.5"""
    return template.fill(variables(certificate, qr_code))


def variables(certificate: Certificate, qr_code: bytes) -> dict[str, str]:
    """The values of a template's variables, encoded for its data URI; ``qr_code`` is a PNG. spec: §3.5.5, 3"""
    request, signatories = certificate.request, certificate.signatories
    values = {
        "recipientName": certificate.recipient.name,
        "recipientId": certificate.recipient.id,
        "courseName": request.course_name,
        "certificateName": certificate.name,
        "certificateDescription": request.description,
        "issuedDate": long_date(certificate.issued_on),
        "expiryDate": certificate.expires,
        "issuerName": request.issuer.name,
    }
    for place in (0, 1):
        signatory = signatories[place] if place < len(signatories) else {}
        values[f"signatory{place}Image"] = signatory.get("image", "")
        values[f"signatory{place}Designation"] = signatory.get("designation", "")
    encoded = {name: encode_value(value) for name, value in values.items()}
    picture = base64.b64encode(qr_code).decode("ascii")
    return encoded | {"qrCodeImage": f"data:image/png;base64,{picture}"}


def encode_value(value: str) -> str:
    """A value as it stands in the data URI: escaped for XML, then percent-encoded.

    Characters that XML forbids are left out: no escape makes them legal. spec: §3.5.5, 3
    """
    legal = _NO_XML_CHARACTERS.sub("", value)
    return quote(escape(legal, _QUOTES), safe="*").replace("~", "%7E")


def check_template(text: str, most_bytes: int = MOST_BYTES) -> None:
    """Refuse what is no SVG picture, or more than a picture. Raises InvalidTemplate.

    The result is opened by browsers, under the address of the portal, so nothing in it may run: no scripts, no event
    handlers, no ``javascript:`` addresses, no link whose address begins with a value. Declarations (entities and the
    like) are refused and nothing is loaded while checking. A ``<!DOCTYPE svg PUBLIC …>`` without them, which drawing
    programs write, does nothing and is left; so are addresses of pictures and fonts, which the browser fetches.
    """
    if len(text) > most_bytes or len(text.encode("utf-8", "replace")) > most_bytes:
        raise InvalidTemplate(f"the template is larger than {most_bytes} bytes")
    # as it will be with its values, or a default could complete what is looked for
    filled = "".join(_checked(part) for part in _parts(text))
    if _DECLARATIONS.search(filled):
        raise InvalidTemplate("the template declares entities, elements or attributes")
    parser = etree.XMLParser(encoding="utf-8", resolve_entities=False, load_dtd=False, no_network=True)
    try:
        root = etree.fromstring(filled.encode("utf-8"), parser)
    except (etree.XMLSyntaxError, UnicodeEncodeError):
        # the parser's message quotes the template
        raise InvalidTemplate("the template is not well-formed XML") from None
    if _local_name(root) != "svg":
        raise InvalidTemplate("the template is not an SVG picture")
    for node in (*root.itersiblings(preceding=True), *root.itersiblings(), *root.iter()):
        _check_node(node)


def _checked(part: str | _Variable) -> str:
    if isinstance(part, str):
        return part
    return _VALUE if part.name in VARIABLES else part.default


def _check_node(node: etree._Element) -> None:
    if isinstance(node, etree._Comment):
        return
    if isinstance(node, etree._ProcessingInstruction):
        if node.target.lower() == "xml-stylesheet":
            raise InvalidTemplate("the template has a style sheet of its own")
        return
    if isinstance(node, etree._Entity):
        raise InvalidTemplate("the template refers to an entity")
    element = _local_name(node).lower()
    if element in _ACTIVE_ELEMENTS:
        raise InvalidTemplate(f"the template has an element {element}")
    for name, value in node.attrib.items():
        _check_attribute(element, etree.QName(name), str(value))


def _check_attribute(element: str, name: etree.QName, value: str) -> None:
    attribute = name.localname.lower()
    if attribute.startswith("on") and not name.namespace:
        raise InvalidTemplate("the template has an event handler")
    address = _SKIPPED_IN_ADDRESSES.sub("", value)
    if _ACTIVE_ADDRESS.search(address):
        raise InvalidTemplate("the template has an address that runs a script")
    if attribute != "href":
        return
    if element == "a" and value.strip().startswith(_VALUE):
        raise InvalidTemplate("the template has a link whose address begins with a variable")
    if element == "use" and address.lower().startswith("data:"):
        raise InvalidTemplate("the template uses another document's parts")


def _local_name(element: etree._Element) -> str:
    return etree.QName(element).localname


def _parts(encoded: str) -> Iterator[str | _Variable]:
    """The encoded text in pieces: texts that stay, and variables."""
    done = at = 0
    while (at := encoded.find("${", at)) >= 0:
        if at > done and encoded[at - 1] == "$":
            yield encoded[done : at - 1]
            done, at = at, at + 2
            continue
        end = encoded.find("}", at)
        if end < 0:
            break
        yield encoded[done:at]
        yield _variable(encoded[at : end + 1])
        done = at = end + 1
    yield encoded[done:]


def _variable(written: str) -> _Variable:
    inside = written[2:-1]
    name, separator, default = inside.partition(":-")
    if separator and "${" not in name:
        return _Variable(name, default)
    return _Variable(inside, written)
