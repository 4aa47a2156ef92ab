"""The list of certificates in a learner's enrolment (spec: collection-certificate-generator §3.3, §3.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum

from transforms.certificate.dates import last_issued_on
from transforms.certificate.request import CertificateRequest

__all__ = [
    "Standing",
    "credential_entry",
    "has_newer_credential",
    "legacy_entry",
    "migrated_entry",
    "standing",
    "with_entry",
]

Entry = Mapping[str, str | None]
"""An entry of ``issued_certificates`` as the table has it."""


class Standing(Enum):
    """What is to be done for a learner."""

    GO_ON = "go on"
    ALREADY_ISSUED = "already issued"
    REISSUED_ALREADY = "re-issued already"
    """A repeated or outdated request: only the old certificate is to be revoked again."""


def standing(issued: Sequence[Entry] | None, name: str, old_id: str) -> Standing:
    """Whether the learner gets the certificate ``name``, given the enrolment's list (null is empty). spec: §3.3"""
    same = [entry for entry in issued or () if _has_name(entry, name)]
    if not same:
        return Standing.GO_ON
    if not old_id:
        return Standing.ALREADY_ISSUED
    if any(entry.get("identifier") == old_id for entry in same):
        return Standing.GO_ON
    return Standing.REISSUED_ALREADY


def has_newer_credential(issued: Sequence[Entry] | None, name: str, legacy_id: str, entity: str) -> bool:
    """Whether the list has a credential of this name that is not the one to migrate.

    spec: legacy-certificate-migrator §3.3
    """
    return any(
        _has_name(entry, name) and entry.get("identifier") != legacy_id and entry.get("type") == entity
        for entry in issued or ()
    )


def with_entry(issued: Sequence[Entry] | None, entry: Mapping[str, str]) -> list[dict[str, str | None]]:
    """The new list: the old one in its order, without entries of the same name, then ``entry``. spec: §3.6"""
    return [dict(old) for old in issued or () if not _has_name(old, entry["name"])] + [dict(entry)]


def credential_entry(request: CertificateRequest, osid: str, entity: str, now: datetime) -> dict[str, str]:
    """The entry of a certificate in RC. spec: §3.6"""
    return {
        "name": request.name,
        "identifier": osid,
        "token": "",
        "lastIssuedOn": last_issued_on(now),
        "templateUrl": request.svg_template,
        "type": entity,
    }


def legacy_entry(request: CertificateRequest, certificate_id: str, code: str, now: datetime) -> dict[str, str]:
    """The entry of a certificate of the legacy registry; ``code`` is its access code. spec: §3.6"""
    return {
        "name": request.name,
        "identifier": certificate_id,
        "token": code,
        "lastIssuedOn": last_issued_on(now),
    }


def migrated_entry(request: CertificateRequest, osid: str, entity: str) -> dict[str, str]:
    """The entry of a migrated certificate: it keeps its date of issue. spec: legacy-certificate-migrator §3.6"""
    return {
        "name": request.name,
        "identifier": osid,
        "token": "",
        **({"lastIssuedOn": request.issued_date} if request.issued_date.strip() else {}),
        "templateUrl": request.svg_template,
        "type": entity,
    }


def _has_name(entry: Entry, name: str) -> bool:
    return (entry.get("name") or "").casefold() == name.casefold()
