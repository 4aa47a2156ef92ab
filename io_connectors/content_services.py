"""The services that contents are made with: content service, search service, and JSON documents at any address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson

from io_connectors.http import LATER, Calls, Http, HttpResult, Unsendable
from io_connectors.service_calls import ANSWER_LIMIT, path_part
from transforms.services import Reply, ServiceRefused
from transforms.stores import Opens, StoreUnavailable

__all__ = [
    "ContentSearchCalls",
    "ContentSearchService",
    "ContentWritingCalls",
    "ContentWritingService",
    "JsonDocuments",
    "JsonReader",
]

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class ContentWritingService:
    """The recipe of the content service; ``setting`` is the configuration key of ``base_path``, for messages."""

    base_path: str | None
    setting: str
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> ContentWritingCalls:
        """The client; nothing is called before it is asked."""
        return ContentWritingCalls(self)


class ContentWritingCalls:
    """The client (``transforms.services.WritesContents``). spec: content-auto-creator §3.4, §3.5"""

    def __init__(self, recipe: ContentWritingService) -> None:
        self._calls = recipe.http.open()
        self._base = recipe.base_path.rstrip("/") if recipe.base_path else None
        self._setting = recipe.setting

    def create(self, channel: str, content: Mapping[str, Any]) -> Reply:
        """As the protocol says."""
        return self._send("POST", "/content/v4/create", channel, content)

    def read(self, channel: str, content_id: str) -> Reply:
        """As the protocol says."""
        path = f"/content/v4/read/{path_part(content_id)}?mode=edit"
        return self._call("GET", path, headers=_headers(channel))

    def update(self, channel: str, content_id: str, content: Mapping[str, Any]) -> Reply:
        """As the protocol says."""
        return self._send("PATCH", f"/content/v4/update/{path_part(content_id)}", channel, content)

    def upload(self, channel: str, content_id: str, file_url: str, file_format: str | None) -> Reply:
        """As the protocol says."""
        query = urlencode({"validation": "false", **({"fileFormat": file_format} if file_format else {})})
        path = f"/content/v4/upload/{path_part(content_id)}?{query}"
        # a part without a file name is a plain field of the form
        return self._call("POST", path, headers={"X-Channel-Id": channel}, files={"fileUrl": (None, file_url)})

    def review(self, channel: str, content_id: str) -> Reply:
        """As the protocol says."""
        return self._send("POST", f"/content/v4/review/{path_part(content_id)}", channel, {})

    def publish(self, channel: str, content_id: str, published_by: Any) -> Reply:
        """As the protocol says."""
        path = f"/content/v4/publish/{path_part(content_id)}"
        return self._send("POST", path, channel, {"lastPublishedBy": published_by})

    def system_update(self, channel: str, content_id: str, content: Mapping[str, Any]) -> Reply:
        """As the protocol says."""
        return self._send("PATCH", f"/content/v4/system/update/{path_part(content_id)}", channel, content)

    def hierarchy(self, collection_id: str) -> Reply:
        """As the protocol says."""
        return self._call("GET", f"/content/v3/hierarchy/{path_part(collection_id)}?mode=edit", headers=JSON)

    def add_to_hierarchy(self, collection_id: str, unit_id: str, child_id: str) -> Reply:
        """As the protocol says."""
        request = {"rootId": collection_id, "unitId": unit_id, "children": [child_id]}
        return self._call("PATCH", "/content/v3/hierarchy/add", headers=JSON, data=_json({"request": request}))

    def _send(self, method: str, path: str, channel: str, content: Mapping[str, Any]) -> Reply:
        body = _json({"request": {"content": content}})
        return self._call(method, path, headers=_headers(channel), data=body)

    def _call(self, method: str, path: str, **arguments: Any) -> Reply:
        if self._base is None:
            raise Unsendable(f"no content service to call: {self._setting} is not set")
        return _reply(self._calls.call(method, self._base + path, limit=ANSWER_LIMIT, **arguments))


@dataclass(frozen=True)
class ContentSearchService:
    """The recipe of the search service; ``base_path`` as ``http://host:port``."""

    base_path: str | None
    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> ContentSearchCalls:
        """The client; nothing is called before it is asked."""
        return ContentSearchCalls(self.base_path, self.http.open())


class ContentSearchCalls:
    """The client (``transforms.services.ContentSearch``)."""

    def __init__(self, base_path: str | None, calls: Calls) -> None:
        self._base = base_path.rstrip("/") if base_path else None
        self._calls = calls

    def search(self, request: Mapping[str, Any]) -> Reply:
        """As the protocol says; a search may be repeated. spec: content-auto-creator §3.2"""
        if self._base is None:
            raise Unsendable("no search service to ask for contents: service.search.basePath is not set")
        body = _json({"request": request})
        url = f"{self._base}/v3/search"
        return _reply(self._calls.call("POST", url, data=body, headers=JSON, limit=ANSWER_LIMIT, repeatable=True))


@dataclass(frozen=True)
class JsonDocuments:
    """The recipe of JSON documents, wherever their addresses point."""

    http: Opens[Calls] = field(default_factory=Http)

    def open(self) -> JsonReader:
        """The client; nothing is called before it is asked."""
        return JsonReader(self.http.open())


class JsonReader:
    """The client (``transforms.services.JsonReads``); it keeps nothing."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def read(self, url: str) -> dict[str, Any]:
        """As the protocol says. spec: auto-creator-v2 §3.1, §3.2"""
        try:
            result = self._calls.call("GET", url, headers=JSON, limit=ANSWER_LIMIT, again=LATER)
        except Unsendable as error:
            raise ServiceRefused(f"no document can be read: {error}") from None
        if result.status in LATER:
            raise StoreUnavailable(f"the document's server answers {result.status}")
        found = _parsed(result)
        if result.status != 200 or found is None:
            raise ServiceRefused(f"the document's server answers {result.status}, no JSON object with status 200")
        return found


def _headers(channel: str) -> dict[str, str]:
    return {"X-Channel-Id": channel, **JSON}


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:
        raise ServiceRefused("not a request that can be sent as JSON") from None


def _reply(result: HttpResult) -> Reply:
    answer = _parsed(result)
    if answer is None and result.status == 200:
        # something between has answered: nothing was found, or done
        raise ServiceRefused("status: 200 without a JSON object")
    found = (answer or {}).get("result")
    return Reply(result.status, found if isinstance(found, dict) else {}, result.text)


def _parsed(result: HttpResult) -> dict[str, Any] | None:
    try:
        found = orjson.loads(result.text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
