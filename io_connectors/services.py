"""Sunbird's services, each a small client over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from io_connectors.http import LATER, Calls, Http, HttpResult, Unsendable
from io_connectors.service_calls import ANSWER_LIMIT, ServiceCalls, all_but, path_part
from transforms.services import ServiceRefused, UserBlocked
from transforms.stores import Opens, StoreUnavailable

__all__ = [
    "AccountCalls",
    "AccountService",
    "BatchCalls",
    "BatchService",
    "CertificateRegistryCalls",
    "CertificateRegistryService",
    "ContentCalls",
    "ContentReadApi",
    "ContentReadCalls",
    "ContentService",
    "SearchService",
    "SearchServiceStatuses",
    "SigningCalls",
    "SigningService",
    "TemplateCalls",
    "TemplateStore",
    "UserCalls",
    "UserService",
]

_log = logging.getLogger(__name__)

TEMPLATE_LIMIT = 2 * 1024 * 1024
"""Bytes of the largest template."""

BATCHES_IN_ONE_PAGE = 1_000
"""What is asked for when the first page was not all."""

_BLOCKED = ("UOS_USRRED0006", "USER_ACCOUNT_BLOCKED")
_USER_PARTS = "organisations,roles,locations,declarations,externalIds"


@dataclass(frozen=True)
class SearchService:
    """The recipe of the search service; ``base_path`` as ``http://host:port``."""

    base_path: str | None
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> SearchServiceStatuses:
        """The client; nothing is called before a status is asked for."""
        return SearchServiceStatuses(self.base_path, self.http.open())


class SearchServiceStatuses:
    """The client (``transforms.stores.CollectionStatuses``)."""

    def __init__(self, base_path: str | None, calls: Calls) -> None:
        self._base_path = base_path
        self._calls = calls

    def status(self, course_id: str) -> str | None:
        """The status of a collection (``Live``, ``Unlisted``, ``Retired``); None when the service knows none.

        That is: a status other than 200, no hit, or a body that does not say. Raises StoreUnavailable when the
        service can not be reached, or no address is configured. spec: activity-aggregate-updater §3.5.1
        """
        if not self._base_path:
            raise StoreUnavailable(
                "no search service to ask for a collection's status: service.search.basePath is not set"
            )
        request = {
            "request": {
                "filters": {
                    "objectType": "Collection",
                    "identifier": course_id,
                    "status": ["Live", "Unlisted", "Retired"],
                },
                "fields": ["status"],
            }
        }
        result = self._calls.call(
            "POST", f"{self._base_path.rstrip('/')}/v3/search", data=orjson.dumps(request), repeatable=True
        )
        return _status(result.text) if result.status == 200 else None


def _status(text: str) -> str | None:
    try:
        found: Any = orjson.loads(text)["result"]
        status = found["content"][0]["status"] if found["count"] > 0 else None
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return None
    return status if isinstance(status, str) else None


@dataclass(frozen=True)
class ContentService:
    """The recipe of the content service; ``read_path`` as ``/content/v3/read``."""

    base_path: str | None
    read_path: str = "/content/v3/read"
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> ContentCalls:
        """The client; nothing is called before it is asked."""
        return ContentCalls(self)


class ContentCalls:
    """The client (``transforms.services.Contents``)."""

    def __init__(self, recipe: ContentService) -> None:
        self._service = ServiceCalls(
            "content service", "service.content.basePath", recipe.base_path, recipe.http.open()
        )
        self._read_path = recipe.read_path.rstrip("/")

    def metadata(self, content_id: str) -> dict[str, Any] | None:
        """As the protocol says. Raises StoreUnavailable when no usable address is configured, which time does not mend.

        spec: collection-cert-pre-processor §3.5, §6
        """
        try:
            result = self._service.get(f"{self._read_path}/{path_part(content_id)}")
        except Unsendable:
            raise
        except (ServiceRefused, StoreUnavailable):
            return None
        try:
            answer: Any = orjson.loads(result.text) if result.is_success else None
            is_good = str(answer["responseCode"]).upper() == "OK"
            content = answer["result"]["content"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            return None
        return content if is_good and content and isinstance(content, dict) else None

    def course_name(self, course_id: str) -> str:
        """As the protocol says. spec: collection-cert-pre-processor §3.7"""
        result = self._service.get(f"{self._read_path}/{path_part(course_id)}?fields=name")
        content = _member(self._service, result, "content")
        name = content.get("name")
        if name is not None and not isinstance(name, str):
            raise self._service.refused(result, "with a name that is no text")
        return name or ""


@dataclass(frozen=True)
class ContentReadApi:
    """The recipe of one address under which contents are read; ``prefix`` as ``http://host/api/content/v1/read/``."""

    prefix: str
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> ContentReadCalls:
        """The client; nothing is called before it is asked."""
        return ContentReadCalls(self.prefix, self.http.open())


class ContentReadCalls:
    """The client (``transforms.services.ContentReads``)."""

    def __init__(self, prefix: str, calls: Calls) -> None:
        self._prefix = prefix if prefix.endswith("/") else f"{prefix}/"
        self._calls = calls

    def read(self, content_id: str) -> dict[str, Any]:
        """As the protocol says. Raises StoreUnavailable when the address is none, which time does not mend.

        spec: assessment-aggregator §3.4
        """
        try:
            result = self._calls.call("GET", self._prefix + path_part(content_id), limit=ANSWER_LIMIT)
        except Unsendable:
            raise
        except StoreUnavailable:
            raise ServiceRefused("the content service does not answer") from None
        try:
            answer: Any = orjson.loads(result.text)
            is_good = str(answer["responseCode"]).upper() == "OK"
        except (orjson.JSONDecodeError, LookupError, TypeError):
            is_good = False
        if not is_good:
            raise ServiceRefused(f"the content service answers {result.status} without responseCode OK")
        found = answer.get("result")
        content = found.get("content") if isinstance(found, dict) else None
        return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class UserService:
    """The recipe of the user and organisation service; ``read_path`` as ``/private/user/v1/read``."""

    base_path: str | None
    read_path: str = "/private/user/v1/read"
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> UserCalls:
        """The client; nothing is called before it is asked."""
        return UserCalls(self)


class UserCalls:
    """The client (``transforms.services.Users``)."""

    def __init__(self, recipe: UserService) -> None:
        self._service = ServiceCalls("user service", "service.learner.basePath", recipe.base_path, recipe.http.open())
        self._read_path = recipe.read_path.rstrip("/")

    def user(self, user_id: str) -> dict[str, Any] | None:
        """As the protocol says. spec: collection-cert-pre-processor §3.6"""
        return self._read(f"{self._read_path}/{path_part(user_id)}?{_USER_PARTS}")

    def profile(self, user_id: str) -> dict[str, Any] | None:
        """As the protocol says. spec: collection-certificate-generator §3.9"""
        return self._read(f"/private/user/v1/read/{path_part(user_id)}")

    def notify(self, request: Mapping[str, Any]) -> None:
        """As the protocol says; a 200 is all that counts. spec: collection-certificate-generator §3.9"""
        self._send("/v2/notification", request)

    def feed(self, request: Mapping[str, Any]) -> None:
        """As the protocol says; a 200 is all that counts. spec: collection-certificate-generator §3.10"""
        self._send("/private/user/feed/v1/create", request)

    def _read(self, path: str) -> dict[str, Any] | None:
        result = self._service.get(path)
        if result.status == 400 and any(code in result.text for code in _BLOCKED):
            raise UserBlocked("the user service answers that the account is deleted or blocked")
        return _member(self._service, result, "response") or None

    def _send(self, path: str, request: Mapping[str, Any]) -> None:
        result = self._service.post(path, {"request": request})
        if result.status != 200:
            raise self._service.refused(result)


@dataclass(frozen=True)
class AccountService:
    """The recipe of the userorg service's user read; ``read_path`` as ``/private/user/v1/read/``."""

    base_path: str | None
    read_path: str = "/private/user/v1/read/"
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> AccountCalls:
        """The client; nothing is called before it is asked."""
        return AccountCalls(self)


class AccountCalls:
    """The client (``transforms.services.Accounts``)."""

    def __init__(self, recipe: AccountService) -> None:
        self._service = ServiceCalls(
            "userorg service",
            "service.userorg.basePath",
            recipe.base_path,
            recipe.http.open(),
            later=all_but(200, 400, 404),
            only_json=True,
        )
        self._read_path = f"/{recipe.read_path.strip('/')}"

    def read(self, user_id: str) -> dict[str, Any] | None:
        """As the protocol says. spec: user-deletion-cleanup §3.1, §6"""
        result = self._service.get(f"{self._read_path}/{path_part(user_id)}?identifier,rootOrgId")
        if result.status == 404:
            return None
        if result.status == 400:
            raise UserBlocked("the userorg service answers 400: the account is deleted or blocked")
        found = self._service.answer(result).get("result")
        user = found.get("response") if isinstance(found, dict) else None
        return user if isinstance(user, dict) else {}


@dataclass(frozen=True)
class BatchService:
    """The recipe of the LMS's batch search; ``search_path`` as ``/v1/course/batch/search``."""

    base_path: str | None
    search_path: str = "/v1/course/batch/search"
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> BatchCalls:
        """The client; nothing is called before it is asked."""
        return BatchCalls(self)


class BatchCalls:
    """The client (``transforms.services.Batches``)."""

    def __init__(self, recipe: BatchService) -> None:
        self._service = ServiceCalls(
            "LMS", "service.lms.basePath", recipe.base_path, recipe.http.open(), later=all_but(200, 400), only_json=True
        )
        self._search_path = f"/{recipe.search_path.strip('/')}"

    def search(self, filters: Mapping[str, Any], fields: Sequence[str]) -> list[dict[str, Any]]:
        """As the protocol says; the first page is as large as the service makes it. spec: its §3.2"""
        request: dict[str, Any] = {"filters": filters, "fields": list(fields)}
        batches, count = self._page(request)
        while len(batches) < count:
            more, _ = self._page({**request, "offset": len(batches), "limit": BATCHES_IN_ONE_PAGE})
            if not more:
                _log.warning("The LMS found %d batches and gave %d of them", count, len(batches))
                break
            batches += more
        return batches

    def _page(self, request: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
        """The batches of one page, and how many the service says there are."""
        answer = self._service.answer(self._service.ask(self._search_path, {"request": request})).get("result")
        found = answer.get("response") if isinstance(answer, dict) else None
        count = found.get("count") if isinstance(found, dict) else None
        if not isinstance(found, dict) or not isinstance(count, int | float):
            return [], 0
        content = found.get("content")
        return [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else [], int(count)


@dataclass(frozen=True)
class CertificateRegistryService:
    """The recipe of the certificate registry."""

    base_path: str | None
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> CertificateRegistryCalls:
        """The client; nothing is called before it is asked."""
        return CertificateRegistryCalls(self)


class CertificateRegistryCalls:
    """The client (``transforms.services.CertificateRegistry``)."""

    def __init__(self, recipe: CertificateRegistryService) -> None:
        self._service = ServiceCalls(
            "certificate registry", "service.certreg.basePath", recipe.base_path, recipe.http.open()
        )

    def add(self, request: Mapping[str, Any]) -> None:
        """As the protocol says; a 200 is all that counts. spec: collection-certificate-generator §3.5.7"""
        result = self._service.create("/certs/v2/registry/add", {"request": request})
        if result.status != 200:
            raise self._service.refused(result)


@dataclass(frozen=True)
class SigningService:
    """The recipe of the encryption service."""

    base_path: str | None
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> SigningCalls:
        """The client; nothing is called before it is asked."""
        return SigningCalls(self)


class SigningCalls:
    """The client (``transforms.services.Signing``)."""

    def __init__(self, recipe: SigningService) -> None:
        self._service = ServiceCalls("encryption service", "service.enc.basePath", recipe.base_path, recipe.http.open())

    def sign(self, key_id: str, entity: Mapping[str, Any]) -> str:
        """As the protocol says. A signature leaves nothing behind, so it is asked for again as a search is.

        spec: collection-certificate-generator §3.5.3
        """
        result = self._service.ask(f"/sign/{path_part(key_id)}", {"entity": entity})
        signature = self._service.answer(result).get("signatureValue")
        if not isinstance(signature, str) or not signature:
            raise self._service.refused(result, "without a signature")
        return signature


@dataclass(frozen=True)
class TemplateStore:
    """The recipe of templates, wherever their addresses point."""

    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> TemplateCalls:
        """The client; nothing is called before it is asked."""
        return TemplateCalls(self.http.open())


class TemplateCalls:
    """The client (``transforms.services.Templates``); it keeps nothing."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def fetch(self, url: str) -> str:
        """As the protocol says; a web page or an empty file is no template. spec: its §3.5.5 step 1"""
        try:
            status, content = self._calls.fetch(url, limit=TEMPLATE_LIMIT)
        except Unsendable as error:
            raise ServiceRefused(f"no template can be fetched: {error}") from None
        if status in LATER:
            raise StoreUnavailable(f"the template's server answers {status}")
        if status != 200:
            raise ServiceRefused(f"the template's server answers {status}")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            raise ServiceRefused("the template is not UTF-8") from None
        if not text.strip() or text.lstrip()[:14].lower().startswith(("<!doctype html", "<html")):
            raise ServiceRefused("the template's server answers 200 without a template")
        return text


def _member(service: ServiceCalls, result: HttpResult, name: str) -> dict[str, Any]:
    """The object ``name`` of a 200's ``result``, empty when there is none.

    Raises ServiceRefused for another status, for other types, and for an error inside a 200 without the object.
    """
    answer = service.answer(result)
    found = answer.get("result")
    found = {} if found is None else found
    member = found.get(name) if isinstance(found, dict) else found
    if isinstance(member, dict):
        return member
    if member is not None:
        raise service.refused(result, f"with a {name} of another type")
    if str(answer.get("responseCode") or "OK").upper() not in ("OK", "SUCCESS"):
        raise service.refused(result, "with an error inside")
    return {}
