"""What Sunbird RC is asked to make (spec: collection-certificate-generator §3.4, legacy-certificate-migrator §3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transforms.certificate.request import CertificateRequest, Recipient

__all__ = ["credential_request", "existing_filters", "migration_request", "unwanted_texts"]


def unwanted_texts(setting: str) -> tuple[str, ...]:
    """The texts of ``task.rc.badcharlist``, separated by commas; empty ones are ignored. spec: §3.4 c"""
    return tuple(text for text in setting.split(",") if text)


def credential_request(
    request: CertificateRequest, recipient: Recipient, *, template_url: str, key_id: str, unwanted: Sequence[str]
) -> dict[str, Any]:
    """The body that makes one record; ``template_url`` has no placeholder, ``key_id`` is that of RC's public key.

    Members that are null are left out; ``unwanted`` texts and NUL are removed from every value. spec: §3.4 b, c
    """
    body = {
        "certificateLabel": request.name,
        "status": "ACTIVE",
        "templateUrl": template_url,
        "training": {
            "id": request.course_id,
            "name": request.course_name,
            "type": "Course",
            "batchId": request.batch_id,
        },
        "recipient": {"id": recipient.id, "name": recipient.name},
        "issuer": {"url": request.issuer.url, "name": request.issuer.name, "kid": key_id},
        "signatory": request.signatories,
        "oldId": request.old_id or None,
    }
    return _clean(body, unwanted)


def migration_request(
    request: CertificateRequest,
    recipient: Recipient,
    *,
    legacy_id: str,
    template_url: str,
    key_id: str,
    unwanted: Sequence[str],
) -> dict[str, Any]:
    """The body that makes the record of a legacy certificate, which it names. spec: legacy-certificate-migrator §3.5"""
    body = credential_request(request, recipient, template_url=template_url, key_id=key_id, unwanted=unwanted)
    body["recipient"]["type"] = "user"
    more = {"oldId": legacy_id, "issuedOn": request.issued_date if request.issued_date.strip() else None}
    return body | _clean(more, unwanted)


def existing_filters(request: CertificateRequest, recipient: Recipient, *, unwanted: Sequence[str]) -> dict[str, Any]:
    """What finds a record that a run that was cut short has made (``rc.search.before.create``).

    RC has the values as ``credential_request`` sends them, without ``unwanted`` texts. spec: §3.11, §3.4 c
    """
    sent = {
        "recipient.id": recipient.id,
        "training.batchId": request.batch_id,
        "certificateLabel": request.name,
    }
    return {name: {"eq": value} for name, value in _clean(sent, unwanted).items()}


def _clean(body: dict[str, Any], unwanted: Sequence[str]) -> dict[str, Any]:
    """The body without nulls, unwanted texts and NUL, at any depth."""
    cleaned: dict[str, Any] = _cleaned(body, (*unwanted, "\0"))
    return cleaned


def _cleaned(value: Any, unwanted: Sequence[str]) -> Any:
    if isinstance(value, str):
        for text in unwanted:
            value = value.replace(text, "")
        return value
    if isinstance(value, dict):
        return {name: _cleaned(member, unwanted) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_cleaned(element, unwanted) for element in value]
    return value
