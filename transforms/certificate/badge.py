"""The certificate as a document: Open Badges v2 in JSON-LD (spec: collection-certificate-generator §3.5.1-§3.5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from transforms.certificate.dates import expires, issued_on, to_millis
from transforms.certificate.request import CertificateRequest, Recipient

__all__ = ["Certificate", "badge", "registry_request", "signature", "stored_document"]

CONTEXT = "v1/context.json"
SIGNATORY_CONTEXT = "v1/extensions/SignatoryExtension/context.json"


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of the legacy library, before it is drawn or signed.

    ``base`` is BASE of the spec (``cert_domain_url`` + ``/certs``), ``id`` a random UUID (version 4) as text,
    ``issued_on`` a ``yyyy-MM-ddTHH:mm:ssZ``, ``expires`` too or ``""``.
    """

    id: str
    base: str
    request: CertificateRequest
    recipient: Recipient
    issued_on: str
    expires: str

    @classmethod
    def of(
        cls, request: CertificateRequest, recipient: Recipient, *, base: str, certificate_id: str, now: datetime
    ) -> Certificate:
        """Read the dates of the request. Raises InvalidDate. spec: §3.5.1"""
        issued = issued_on(request.issued_date, now)
        return cls(certificate_id, base, request, recipient, issued, expires(request.expiry, issued))

    @property
    def name(self) -> str:
        """What the certificate is for: the course, or the certificate's own name when there is none."""
        return self.request.course_name or self.request.name

    @property
    def object_key(self) -> str:
        """Where the document is stored. spec: §3.5.6"""
        return f"{self.request.tag}/{self.id}.json" if self.request.tag else f"{self.id}.json"

    @property
    def json_url(self) -> str:
        """The address under which the document is registered. spec: §3.5.6"""
        return f"{self.base}/{self.object_key}"

    @property
    def qr_text(self) -> str:
        """What the QR code says. spec: §3.5.4"""
        return f"{self.base}/{self.id}"

    @property
    def signatories(self) -> list[dict[str, str]]:
        """The signatories, absent members as ``""``; what is no object in the event's list is left out."""
        members = ("id", "name", "designation", "image")
        return [
            {member: value if isinstance(value := signatory.get(member), str) else "" for member in members}
            for signatory in self.request.signatories or ()
            if isinstance(signatory, dict)
        ]


def badge(certificate: Certificate) -> dict[str, Any]:
    """The document without picture and signature, which is also what is signed. It holds no null. spec: §3.5.2"""
    request, recipient, base = certificate.request, certificate.recipient, certificate.base
    context = f"{base}/{CONTEXT}"
    folder = f"{base}/{request.tag}" if request.tag else base
    document: dict[str, Any] = {
        "@context": context,
        "id": f"{folder}/{certificate.id}",
        "type": ["Assertion", "Extension", "extensions:CertificateExtension"],
        "issuedOn": certificate.issued_on,
        "recipient": {
            "@context": context,
            "identity": recipient.id,
            "type": ["id"],
            "hashed": False,
            "name": recipient.name,
        },
        "badge": {
            "@context": context,
            "id": f"{folder}/Badge.json",
            "type": ["BadgeClass"],
            "name": certificate.name,
            "description": request.description,
            "image": request.logo,
            "criteria": {"type": ["Criteria"], "narrative": request.narrative},
            "issuer": {
                "@context": context,
                "id": f"{base}/Issuer.json",
                "type": ["Issuer"],
                "name": request.issuer.name,
                "url": request.issuer.url,
                "publicKey": _public_keys(request, base),
            },
        },
        "expires": certificate.expires,
        "verification": _verification(request, base),
        "revoked": False,
        "signatory": [
            {
                "@context": f"{base}/{SIGNATORY_CONTEXT}",
                "identity": signatory["id"],
                "type": ["Extension", "extensions:SignatoryExtension"],
                "designation": signatory["designation"],
                "image": signatory["image"],
                "name": signatory["name"],
            }
            for signatory in certificate.signatories
        ],
    }
    if request.course_name:
        document["evidence"] = {
            "@context": context,
            "id": f"{base}/Evidence.json",
            "type": ["Evidence", "Extension", "extensions:TrainingEvidence"],
            "name": request.course_name,
        }
    if recipient.valid_from is not None:
        document["validFrom"] = recipient.valid_from
    return document


def signature(certificate: Certificate, signature_value: str, now: datetime) -> dict[str, str]:
    """The member ``signature``: what the encryption service made of the badge, in base64. spec: §3.5.3"""
    return {
        "type": "LinkedDataSignature2015",
        "creator": _key_url(certificate.base, certificate.request.keys_id),
        "created": to_millis(now),
        "signatureValue": signature_value,
    }


def stored_document(
    document: Mapping[str, Any], print_uri: str, document_signature: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The whole document, as it is stored and registered. spec: §3.5.2"""
    signed = {} if document_signature is None else {"signature": dict(document_signature)}
    return {**document, **signed, "printUri": print_uri}


def registry_request(certificate: Certificate, document: Mapping[str, Any], code: str) -> dict[str, Any]:
    """The ``request`` to the certificate registry: the whole document and its access code. spec: §3.5.7"""
    request, recipient = certificate.request, certificate.recipient
    return {
        "id": certificate.id,
        "jsonUrl": certificate.json_url,
        "jsonData": dict(document),
        "accessCode": code,
        "recipientName": recipient.name,
        "recipientId": recipient.id,
        "related": request.related,
        **({"oldId": request.old_id} if request.reissue else {}),
    }


def _verification(request: CertificateRequest, base: str) -> dict[str, Any]:
    if not request.keys_id:
        return {"type": ["hosted"]}
    return {"type": ["SignedBadge"], "creator": _key_url(base, request.keys_id)}


def _public_keys(request: CertificateRequest, base: str) -> list[str]:
    keys = request.issuer.public_keys or ((request.keys_id,) if request.keys_id else ())
    return [key if key.startswith("http") else _key_url(base, key) for key in keys]


def _key_url(base: str, key_id: str) -> str:
    return f"{base}/keys/{key_id}_publicKey.json"
