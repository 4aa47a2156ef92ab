"""The two ways of issuing a certificate: as a record of Sunbird RC, and as a file of our own.

An issuer makes one certificate, can take it back while nobody knows of it, and removes one that was replaced.

spec: collection-certificate-generator §3.4, §3.5, §3.7, §3.11
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

import orjson
from cachetools import TTLCache

from transforms.certificate.access_code import access_code
from transforms.certificate.badge import Certificate, badge, registry_request, signature, stored_document
from transforms.certificate.credential import credential_request, existing_filters
from transforms.certificate.enrolment_entry import credential_entry, legacy_entry
from transforms.certificate.qr_code import qr_code_image
from transforms.certificate.request import CertificateRequest, Recipient
from transforms.certificate.svg import SvgTemplate, print_uri
from transforms.cloud_paths import CloudPaths
from transforms.services import (
    CertificateRegistry,
    Credentials,
    Documents,
    Objects,
    OutcomeUnknown,
    ServiceRefused,
    Signing,
    Templates,
)
from transforms.stores import Delete, Opens, Refused, StoreUnavailable, Tables

__all__ = ["BadgeIssuer", "CouldNotRevoke", "CredentialIssuer", "Issued", "Issuer", "Issues", "SvgTemplates"]

_log = logging.getLogger(__name__)

CERTIFICATES_INDEX = "certs"
RECORDS_LOOKED_AT = 10
TEMPLATES_KEPT = 15
TEMPLATE_LIFETIME_SECONDS = 600


class Issued(NamedTuple):
    """A certificate that exists now: its id, and its entry for ``issued_certificates``."""

    identifier: str
    entry: dict[str, str]


class CouldNotRevoke(Exception):
    """The old certificate still stands. The message names it."""


class Issuer(Protocol):
    """An open issuer; any number of threads may use it."""

    def issue(self, request: CertificateRequest, recipient: Recipient, now: datetime) -> Issued:
        """Make the certificate. Raises InvalidRequest, ServiceRefused, StoreUnavailable."""
        ...

    def take_back(self, issued: Issued) -> None:
        """Remove a certificate that could not be noted anywhere, as far as that is possible."""
        ...

    def revoke(self, old_id: str) -> None:
        """Remove the certificate that was replaced. Raises CouldNotRevoke."""
        ...


class Issues(Protocol):
    """The picklable recipe of an issuer."""

    def open(self, new_id: Callable[[], str]) -> Issuer: ...


# --- Sunbird RC


@dataclass(frozen=True)
class CredentialIssuer:
    """Issues with Sunbird RC (§3.4). ``registry_table`` (``keyspace.table``) and ``documents`` are the stores of
    legacy certificates, where an old one may have to be removed (§3.7)."""

    credentials: Opens[Credentials]
    entity: str
    paths: CloudPaths
    unwanted: tuple[str, ...]
    search_first: bool
    tables: Opens[Tables]
    registry_table: str
    documents: Opens[Documents]

    def open(self, new_id: Callable[[], str]) -> Issuer:
        """Open the stores."""
        return _OpenCredentialIssuer(self)


class _OpenCredentialIssuer:
    def __init__(self, recipe: CredentialIssuer) -> None:
        self._recipe = recipe
        self._credentials = recipe.credentials.open()
        self._tables = recipe.tables.open()
        self._documents = recipe.documents.open()

    def issue(self, request: CertificateRequest, recipient: Recipient, now: datetime) -> Issued:
        osid = self._existing(request, recipient) if self._recipe.search_first else None
        if osid is None:
            osid = self._create(request, recipient)
        return Issued(osid, credential_entry(request, osid, self._recipe.entity, now))

    def _create(self, request: CertificateRequest, recipient: Recipient) -> str:
        body = credential_request(
            request,
            recipient,
            template_url=self._recipe.paths.resolve(request.svg_template),
            key_id=self._credentials.key_id(),
            unwanted=self._recipe.unwanted,
        )
        try:
            return self._credentials.create(body)
        except OutcomeUnknown:
            osid = self._existing(request, recipient)
            if osid is None:
                raise
            return osid

    def _existing(self, request: CertificateRequest, recipient: Recipient) -> str | None:
        """The record that an earlier try has made. spec §3.11"""
        filters = existing_filters(request, recipient, unwanted=self._recipe.unwanted)
        records = self._credentials.search(filters, RECORDS_LOOKED_AT)
        for record in records:
            osid = record.get("osid")
            if record.get("status") == "ACTIVE" and isinstance(osid, str) and osid and osid != request.old_id:
                return osid
        return None

    def take_back(self, issued: Issued) -> None:
        try:
            self._credentials.delete(issued.identifier)
        except StoreUnavailable:
            _log.error("The certificate %s was issued, could not be noted, and stays in RC", issued.identifier)

    def revoke(self, old_id: str) -> None:
        try:
            gone = self._credentials.delete(old_id)
        except StoreUnavailable as error:
            raise CouldNotRevoke(f"old certificate {old_id} could not be revoked") from error
        if not gone:
            self._remove_legacy(old_id)

    def _remove_legacy(self, old_id: str) -> None:
        """Remove a certificate of the time before RC from both of its stores; each is tried. spec §3.7"""
        failure: Exception | None = None
        try:
            (refused,) = self._tables.write([[Delete(self._recipe.registry_table, {"id": old_id})]])
            failure = refused
        except StoreUnavailable as error:
            failure = error
        try:
            self._documents.delete(CERTIFICATES_INDEX, [old_id])
        except (StoreUnavailable, Refused) as error:
            failure = error
        if failure is not None:
            raise CouldNotRevoke(f"old certificate {old_id} could not be revoked") from failure


# --- files of our own


@dataclass(frozen=True)
class BadgeIssuer:
    """Issues an Open Badges document with the picture inside, stores it and registers it (§3.5).

    ``base`` is the address that certificates are under; ``signing`` is asked only for events with keys; ``choose``
    gives one character of a text at random , which nobody can guess.
    """

    base: str
    paths: CloudPaths
    templates: Opens[Templates]
    signing: Opens[Signing]
    objects: Opens[Objects]
    registry: Opens[CertificateRegistry]
    choose: Callable[[str], str]

    def open(self, new_id: Callable[[], str]) -> Issuer:
        """Open the stores; ``new_id`` gives random UUIDs."""
        return _OpenBadgeIssuer(self, new_id)


class SvgTemplates:
    """Templates by their addresses, each kept for some minutes. For many threads at once.

    One thread fetches a template, and those that want the same one wait for it, in vain when it could not be had: one
    after the other, each would wait for as long as the first one did. spec: collection-certificate-generator §3.5.5
    """

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._lock = threading.Lock()
        self._fetched: TTLCache[str, Future[SvgTemplate]] = TTLCache(TEMPLATES_KEPT, TEMPLATE_LIFETIME_SECONDS)

    def of(self, url: str) -> SvgTemplate:
        """The template at an address. Raises what fetching and reading it raises."""
        with self._lock:
            found = self._fetched.get(url)
            if is_first := found is None:
                found = self._fetched[url] = Future()
        if is_first:
            try:
                found.set_result(SvgTemplate.of(self._templates.fetch(url)))
            except BaseException as error:
                with self._lock:
                    self._fetched.pop(url, None)
                found.set_exception(error)
        return found.result()


class _OpenBadgeIssuer:
    def __init__(self, recipe: BadgeIssuer, new_id: Callable[[], str]) -> None:
        self._recipe = recipe
        self._new_id = new_id
        self._signing = recipe.signing.open()
        self._objects = recipe.objects.open()
        self._registry = recipe.registry.open()
        self._svg_templates = SvgTemplates(recipe.templates.open())

    def issue(self, request: CertificateRequest, recipient: Recipient, now: datetime) -> Issued:
        certificate = Certificate.of(request, recipient, base=self._recipe.base, certificate_id=self._new_id(), now=now)
        template = self._svg_templates.of(self._recipe.paths.resolve(request.svg_template))
        code = access_code(self._recipe.choose)
        document = badge(certificate)
        signed = None
        if request.keys_id:
            signed = signature(certificate, self._signing.sign(request.keys_id, document), now)
        picture = print_uri(template, certificate, qr_code_image(certificate.qr_text, code))
        whole = stored_document(document, picture, signed)
        self._objects.put(certificate.object_key, orjson.dumps(whole), "application/json")
        try:
            self._registry.add(registry_request(certificate, whole, code))
        except (ServiceRefused, StoreUnavailable):
            self._remove(certificate.object_key)
            raise
        return Issued(certificate.id, legacy_entry(request, certificate.id, code, now))

    def _remove(self, object_key: str) -> None:
        try:
            self._objects.delete(object_key)
        except StoreUnavailable:
            _log.warning("The object %s belongs to no certificate and stays in the store", object_key)

    def take_back(self, issued: Issued) -> None:
        _log.error("The certificate %s was issued and could not be noted; it stays registered", issued.identifier)

    def revoke(self, old_id: str) -> None:
        """The registry has removed it, with the request that named it (§3.5.7)."""
