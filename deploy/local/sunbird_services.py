"""Sunbird's services as the jobs know them: what they keep, and what they answer. No HTTP in here.

POST   /v3/search                                   the search service: status of collections
GET    /content/v3/read/ID[?fields=A,B]             the content service
GET    /private/user/v1/read/ID[?...]               the user service; a blocked user answers 400 (UOS_USRRED0006)
GET    /api/framework/v1/read/ID                    the taxonomy service
POST   /v1/course/batch/search                      the LMS: batches by ``createdBy``, ``mentors``, ``status``
POST   /v2/notification                             e-mails and SMS: kept
POST   /private/user/feed/v1/create                 feed entries: kept
POST   /registry-service/api/v1/ENTITY              Sunbird RC: make a record (``recipient.id``, ``training.id`` and
                                                    ``training.type`` are required)
POST   /registry-service/api/v1/ENTITY/search       its records; of the entity PublicKey: its keys
GET    /registry-service/api/v1/ENTITY/OSID         one record
DELETE /registry-service/api/v1/ENTITY/OSID         remove one
POST   /certs/v2/registry/add                       the certificate registry
GET    /certs/v2/registry/download/ID               ``printUri`` of a certificate that was added
POST   /sign/ID                                     the encryption service: RSA, SHA-256, PSS with 16 bytes of salt
GET    /keys/ID                                     the public key, PEM
POST   /verify                                      whether a signature fits
GET    /templates/NAME.svg                          an SVG template; NAME may have slashes
DELETE /program/v1/user/ID                          coKreat's contribution service: forgets one of its contributors; for
                                                    an "admin" it always answers 500
GET    /sourcing/content/v3/read/ID                 the content service of coKreat's sourcing repository
PATCH  /sourcing/content/v4/system/update/ID        sets members of one of its contents, and keeps what was set
What else there is for contents, question sets and Google Drive: deploy.local.content_services;
and the providers of SMS and pushes: deploy.local.notification_providers; Keycloak: deploy.local.identity_provider.

spec: collection-cert-pre-processor §3.5-§3.7; collection-certificate-generator §3.4, §3.5.3, §3.5.7, §3.7, §3.9-§3.11;
cokreat-user-delete §3; metrics-data-transformer §3; user-cache-updater §3.3; user-deletion-cleanup §3.1, §3.5;
user-ownership-transfer §3.2
"""

import re
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from deploy.local.content_services import ContentAnswer, ContentServices
from deploy.local.identity_provider import IdentityProvider
from deploy.local.notification_providers import Answer, NotificationProviders, header
from deploy.local.signatures import Keys

PRINT_URIS_KEPT = 1_000
RC = "/registry-service/api/v1"


@dataclass
class SunbirdServices(NotificationProviders, IdentityProvider):
    """The services' state, which may be set and read freely, and their answers. For many threads at once."""

    statuses: dict[str, str] = field(default_factory=dict)
    """Collection -> status."""
    contents: dict[str, dict[str, Any]] = field(default_factory=dict)
    users: dict[str, dict[str, Any] | str] = field(default_factory=dict)
    """User -> what is known of it, or ``"blocked"``."""
    frameworks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Framework -> its members, of them ``categories``: ``[{"code": "board"}, …]``."""
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Batch -> what the search knows of it."""
    batch_page: int = 1_000
    """How many batches the search gives when it is not told a limit."""
    templates: dict[str, str] = field(default_factory=dict)
    """Name without ``.svg`` -> text."""
    notifications: list[dict[str, Any]] = field(default_factory=list)
    feeds: list[dict[str, Any]] = field(default_factory=list)
    credentials: dict[str, dict[str, Any]] = field(default_factory=dict)
    """osid -> record with its osid; ``entity_of`` knows its entity."""
    entity_of: dict[str, str] = field(default_factory=dict)
    public_keys: list[str] = field(default_factory=lambda: [f"1-{uuid.uuid4()}"])
    """The osids of RC's keys."""
    registry: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Certificate -> the request that added it, its document without ``printUri``."""
    print_uris: OrderedDict[str, str] = field(default_factory=OrderedDict)
    contributors: dict[str, dict[str, Any] | str] = field(default_factory=dict)
    """User -> what coKreat's portal knows of it, or ``"admin"``, who may not be deleted."""
    sourcing_contents: dict[str, dict[str, Any]] = field(default_factory=dict)
    content_updates: list[dict[str, Any]] = field(default_factory=list)
    """The updates of sourcing contents: ``identifier``, ``channel``, ``content``, oldest first."""
    rc_key: str | None = "stub-rc-key"
    """What RC wants as ``Authorization``; empty or None: anything."""
    rc_unique: bool = False
    """Whether RC refuses a second active record of the same learner, batch and label, but for the one it replaces."""
    search_form: str = "list"
    """How RC answers searches: ``list``, or ``object`` as newer versions do."""
    keys: Keys = field(default_factory=Keys)
    content_services: ContentServices = field(default_factory=ContentServices)

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = [
            (method, re.compile(pattern), route)
            for method, pattern, route in (
                ("POST", r"/v3/search", self._search),
                ("GET", r"/content/v3/read/([^/]+)", self._content),
                ("GET", r"/private/user/v1/read/([^/]+)", self._user),
                ("GET", r"/api/framework/v1/read/([^/]+)", self._framework),
                ("POST", r"/v1/course/batch/search", self._search_batches),
                ("POST", r"/v2/notification", self._notify),
                ("POST", r"/private/user/feed/v1/create", self._feed),
                ("POST", rf"{RC}/([^/]+)", self._create_record),
                ("POST", rf"{RC}/([^/]+)/search", self._search_records),
                ("GET", rf"{RC}/([^/]+)/([^/]+)", self._record),
                ("DELETE", rf"{RC}/([^/]+)/([^/]+)", self._delete_record),
                ("POST", r"/certs/v2/registry/add", self._add_certificate),
                ("GET", r"/certs/v2/registry/download/([^/]+)", self._download_certificate),
                ("POST", r"/sign/([^/]+)", self._sign),
                ("GET", r"/keys/([^/]+)", self._public_key),
                ("POST", r"/verify", self._verify),
                ("GET", r"/templates/(.+)\.svg", self._template),
                ("DELETE", r"/program/v1/user/([^/]+)", self._delete_contributor),
                ("GET", r"/sourcing/content/v3/read/([^/]+)", self._sourcing_content),
                ("PATCH", r"/sourcing/content/v4/system/update/([^/]+)", self._update_content),
            )
        ]

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """What the service at this path (with query) answers; names of ``headers`` in any case."""
        parts = urlsplit(path)
        provider = self.provider(parts.path) if method == "POST" else None
        if provider is not None:
            with self.lock:
                return provider(headers, body)
        if parts.path.startswith("/auth/"):
            with self.lock:
                return self.identity(method, parts.path, headers, body)
        fitting = (
            (route, found)
            for wanted, pattern, route in self._routes
            if method == wanted and (found := pattern.fullmatch(parts.path))
        )
        route, found = next(fitting, (None, None))
        if route is None or found is None:
            other = self.content_services.answer(method, path, headers, body)
            if other is not None:
                return _of_contents(other)
            return _error(404, "RESOURCE_NOT_FOUND")
        if path.startswith(RC) and self.rc_key and header(headers, "authorization") != self.rc_key:
            return _error(401, "UNAUTHORIZED")
        names = [unquote(name) for name in found.groups()]
        if method not in ("POST", "PATCH"):
            return route(*names, parts.query)
        try:
            request = orjson.loads(body)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict):
            return _error(400, "CLIENT_ERROR")
        if method == "PATCH":
            return route(*names, request, header(headers, "x-channel-id"))
        return route(*names, request)

    # --- search, contents, users, frameworks

    def _search(self, body: dict[str, Any]) -> Answer:
        filters = _object(_object(body.get("request")).get("filters"))
        if "origin" in filters:
            return _of_contents(self.content_services.search(filters))
        identifiers = filters.get("identifier") or []
        allowed = filters.get("status")
        with self.lock:
            found = [
                {"identifier": identifier, "status": self.statuses[identifier]}
                for identifier in ([identifiers] if isinstance(identifiers, str) else identifiers)
                if identifier in self.statuses and (not allowed or self.statuses[identifier] in allowed)
            ]
        result: dict[str, Any] = {"count": len(found)}
        if found:
            result["content"] = found
        return _ok("api.search-service.search", result)

    def _content(self, content_id: str, query: str) -> Answer:
        return self._read_content(self.contents.get(content_id), content_id, query)

    def _sourcing_content(self, content_id: str, query: str) -> Answer:
        return self._read_content(self.sourcing_contents.get(content_id), content_id, query)

    @staticmethod
    def _read_content(content: dict[str, Any] | None, content_id: str, query: str) -> Answer:
        if content is None:
            return _error(404, "RESOURCE_NOT_FOUND")
        content = {"identifier": content_id, **content}
        if query.startswith("fields="):
            fields = unquote(query.removeprefix("fields=")).split(",")
            content = {name: value for name, value in content.items() if name in ("identifier", *fields)}
        return _ok("api.content.read", {"content": content})

    def _user(self, user_id: str, query: str) -> Answer:
        user = self.users.get(user_id)
        if user is None:
            return _error(404, "RESOURCE_NOT_FOUND", "UOS_USRRED0001")
        if isinstance(user, str):
            return _error(400, "CLIENT_ERROR", "UOS_USRRED0006")
        return _ok("api.user.read", {"response": {"id": user_id, "userId": user_id, "identifier": user_id, **user}})

    def _framework(self, framework_id: str, query: str) -> Answer:
        framework = self.frameworks.get(framework_id)
        if framework is None:
            return _error(404, "RESOURCE_NOT_FOUND", "ERR_CATEGORY_NOT_FOUND")
        return _ok("api.taxonomy.read", {"framework": {"identifier": framework_id, **framework}})

    def _notify(self, body: dict[str, Any]) -> Answer:
        with self.lock:
            self.notifications.append(_object(body.get("request")))
        return _ok("api.notification", {"response": "SUCCESS"})

    def _feed(self, body: dict[str, Any]) -> Answer:
        with self.lock:
            self.feeds.append(_object(body.get("request")))
        return _ok("api.user.feed.create", {"response": "SUCCESS"})

    def _search_batches(self, body: dict[str, Any]) -> Answer:
        request = _object(body.get("request"))
        filters, fields, offset = _object(request.get("filters")), request.get("fields"), request.get("offset") or 0
        with self.lock:
            found = [batch for batch in self.batches.values() if _fits(batch, filters)]
        page = found[offset : offset + (request.get("limit") or self.batch_page)]
        if isinstance(fields, list):
            page = [{name: batch[name] for name in fields if name in batch} for batch in page]
        response: dict[str, Any] = {"count": len(found), **({"content": page} if found else {})}
        return _ok("api.course.batch.search", {"response": response})

    # --- Sunbird RC

    def _create_record(self, entity: str, record: dict[str, Any]) -> Answer:
        training = _object(record.get("training"))
        wanted = (_object(record.get("recipient")).get("id"), training.get("id"), training.get("type"))
        if not all(isinstance(value, str) for value in wanted):
            return _rc("create", 400, {"status": "UNSUCCESSFUL", "errmsg": "required key not found"}, {})
        osid = f"1-{uuid.uuid4()}"
        with self.lock:
            if self.rc_unique and any(_same_certificate(record, other) for other in self.credentials.values()):
                return _rc("create", 400, {"status": "UNSUCCESSFUL", "errmsg": "duplicate record"}, {})
            self.credentials[osid] = {**record, "osid": osid}
            self.entity_of[osid] = entity
        return _rc("create", 200, {"status": "SUCCESSFUL", "errmsg": ""}, {entity: {"osid": osid}})

    def _search_records(self, entity: str, body: dict[str, Any]) -> Answer:
        filters, limit = _object(body.get("filters")), body.get("limit")
        if not all(isinstance(wanted, dict) and set(wanted) == {"eq"} for wanted in filters.values()):
            return _rc("search", 400, {"status": "UNSUCCESSFUL", "errmsg": "only eq is known here"}, {})
        with self.lock:
            if entity == "PublicKey":
                records = [{"osid": osid, "alg": "RSA", "value": "-"} for osid in self.public_keys]
            else:
                records = [record for osid, record in self.credentials.items() if self.entity_of[osid] == entity]
        found = [
            record
            for record in records
            if all(_dotted(record, name) == wanted["eq"] for name, wanted in filters.items())
        ]
        page = found[:limit] if isinstance(limit, int) else found
        return _json(200, {"totalCount": len(found), "data": page} if self.search_form == "object" else page)

    def _record(self, entity: str, osid: str, query: str) -> Answer:
        record = self.credentials.get(osid)
        if record is None or self.entity_of[osid] != entity:
            return _rc("read", 404, {"status": "UNSUCCESSFUL", "errmsg": "no such record"}, {})
        return _json(200, record)

    def _delete_record(self, entity: str, osid: str, query: str) -> Answer:
        with self.lock:
            if self.entity_of.get(osid) != entity:
                return _rc("delete", 404, {"status": "UNSUCCESSFUL", "errmsg": "no such record"}, {})
            del self.credentials[osid], self.entity_of[osid]
        return _rc("delete", 200, {"status": "SUCCESSFUL", "errmsg": ""}, {})

    # --- the certificate registry

    def _add_certificate(self, body: dict[str, Any]) -> Answer:
        request = _object(body.get("request"))
        wanted = ("id", "jsonUrl", "accessCode", "recipientName", "recipientId")
        document = request.get("jsonData")
        if not all(_is_filled(request.get(name)) for name in wanted) or not isinstance(document, dict):
            return _error(400, "CLIENT_ERROR", "MANDATORY_PARAMETER_MISSING")
        if not _is_filled(_object(request.get("related")).get("type")):
            return _error(400, "CLIENT_ERROR", "INVALID_RELATED_TYPE")
        identifier, old = request["id"], str(request.get("oldId") or "")
        with self.lock:
            if identifier in self.registry:
                return _error(400, "CLIENT_ERROR", "CERTIFICATE_ID_EXISTS")
            if old in self.registry and self.registry[old]["recipientId"] != request["recipientId"]:
                return _error(400, "CLIENT_ERROR", "INVALID_OLD_ID")
            self.registry.pop(old, None)
            self.print_uris.pop(old, None)
            kept = {name: value for name, value in document.items() if name != "printUri"}
            self.registry[identifier] = {**request, "jsonData": kept}
            self.print_uris[identifier] = str(document.get("printUri", ""))
            if len(self.print_uris) > PRINT_URIS_KEPT:
                self.print_uris.popitem(last=False)
        return _ok("api.certs.registry.add", {"id": identifier})

    def _download_certificate(self, identifier: str, query: str) -> Answer:
        picture = self.print_uris.get(identifier)
        if picture is None:
            return _error(404, "RESOURCE_NOT_FOUND")
        return _ok("api.certs.registry.download", {"printUri": picture})

    # --- signatures, templates

    def _sign(self, key_id: str, body: dict[str, Any]) -> Answer:
        if not isinstance(body.get("entity"), dict):
            return _error(400, "CLIENT_ERROR")
        try:
            signature = self.keys.sign(key_id, body["entity"])
        except ValueError:
            return _error(500, "SERVER_ERROR")
        return _json(200, {"signatureValue": signature, "keyId": key_id, "version": "1.0.0"})

    def _public_key(self, key_id: str, query: str) -> Answer:
        return Answer(200, self.keys.public_pem(key_id), "text/plain; charset=utf-8")

    def _verify(self, body: dict[str, Any]) -> Answer:
        entity = _object(body.get("entity"))
        claim, signature = entity.get("claim"), entity.get("signatureValue")
        fits = isinstance(signature, str) and self.keys.fits(str(entity.get("keyId")), claim, signature)
        return _json(200, fits)

    def _template(self, name: str, query: str) -> Answer:
        text = self.templates.get(name)
        if text is None:
            return _error(404, "RESOURCE_NOT_FOUND")
        return Answer(200, text, "image/svg+xml")

    # --- coKreat

    def _delete_contributor(self, user_id: str, query: str) -> Answer:
        with self.lock:
            known = self.contributors.get(user_id)
            if known == "admin":
                return _error(500, "SERVER_ERROR", "ERR_USER_DELETE")
            if known is None:
                found = {"response": "User not found in Sunbird"}
                return _json(404, {"params": {"status": "failed"}, "responseCode": "CLIENT_ERROR", "result": found})
            del self.contributors[user_id]
        return _ok("api.user.delete", {"response": "SUCCESS"})

    def _update_content(self, content_id: str, body: dict[str, Any], channel: str | None) -> Answer:
        values = _object(_object(body.get("request")).get("content"))
        with self.lock:
            if content_id not in self.sourcing_contents:
                return _error(404, "RESOURCE_NOT_FOUND")
            if not values:
                return _error(400, "CLIENT_ERROR")
            self.sourcing_contents[content_id] |= values
            self.content_updates.append({"identifier": content_id, "channel": channel, "content": values})
        return _ok("api.content.system.update", {"identifier": content_id})


def _fits(batch: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    """Whether a batch has one of the wanted values in each field, as the search index has it."""

    def values(value: Any) -> list[Any]:
        return value if isinstance(value, list) else [value]

    return all(any(value in values(wanted) for value in values(batch.get(name))) for name, wanted in filters.items())


def _same_certificate(record: dict[str, Any], other: dict[str, Any]) -> bool:
    names = ("recipient.id", "training.batchId", "certificateLabel", "status")
    same = all(_dotted(record, name) == _dotted(other, name) for name in names)
    return same and record.get("status") == "ACTIVE" and record.get("oldId") != other["osid"]


def _json(status: int, body: Any) -> Answer:
    return Answer(status, orjson.dumps(body).decode())


def _of_contents(answer: ContentAnswer) -> Answer:
    if isinstance(answer.body, bytes):
        return Answer(answer.status, answer.body, "application/octet-stream")
    return _json(answer.status, answer.body)


def _ok(name: str, result: dict[str, Any]) -> Answer:
    return _json(200, {"id": name, "params": {"status": "success"}, "responseCode": "OK", "result": result})


def _error(status: int, code: str, error: str | None = None) -> Answer:
    return _json(status, {"params": {"status": "failed", "err": error or code}, "responseCode": code, "result": {}})


def _rc(action: str, status: int, params: dict[str, Any], result: dict[str, Any]) -> Answer:
    body = {"id": f"sunbird-rc.registry.{action}", "params": params, "responseCode": "OK", "result": result}
    return _json(status, body)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _dotted(record: Any, name: str) -> Any:
    for part in name.split("."):
        record = _object(record).get(part)
    return record
