"""The services of contents as the jobs know them: what they keep, and what they answer. No HTTP in here.

POST   /v3/search (with ``filters.origin``)         the search service: contents of an origin
POST   /content/v4/create                           a new Draft; an id that is there already is refused
GET    /content/v4/read/ID?mode=edit                a content
PATCH  /content/v4/update/ID                        with the versionKey of the last read
POST   /content/v4/upload/ID?validation=false       multipart, field ``fileUrl``
POST   /content/v4/review/ID, publish/ID            a content with a file; not while it is being published
PATCH  /content/v4/system/update/ID                 any members
GET    /content/v3/hierarchy/ID?mode=edit           a collection: its childNodes, and who is in which unit
PATCH  /content/v3/hierarchy/add                    a child into a unit
GET    /questionset/v1/read/ID, /question/v1/read/ID    what the sourcing repository says of an object
GET    /schemas/NAME/VERSION/schema.json, config.json   definitions of objects
GET    /drive/v3/files/ID[?alt=media]               Google Drive; ``limits`` says how often it answers "rate limit"
GET    /files/NAME                                  a file

spec: content-auto-creator §3.2-§3.6; auto-creator-v2 §3.1, §3.2, §3.8
"""

import base64
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import orjson

BEING_PUBLISHED = "Processing"


class ContentAnswer(NamedTuple):
    """A status, and a body: an object for JSON, or a file's bytes."""

    status: int
    body: dict[str, Any] | bytes


@dataclass
class ContentServices:
    """The services' state, which may be set and read freely, and their answers. For many threads at once."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The contents of this repository."""
    collections: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Collection -> unit -> children."""
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``question/ID`` or ``questionset/ID`` -> what the sourcing repository says of it."""
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``NAME/VERSION/schema.json`` -> a definition."""
    drive: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Drive's files: ``name``, ``mimeType`` and ``content``, a file of ``files``."""
    drive_limits: int = 0
    """So many next calls of Drive are answered with its rate limit."""
    files: dict[str, bytes | str] = field(default_factory=dict)
    """Name -> bytes, or bytes in base64."""
    searchable: bool = True
    """Whether the search service knows new contents yet."""
    slow_publish: bool = False
    """Whether a content stays in the state of being published."""

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self._versions = count(1)
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., ContentAnswer]]] = [
            (method, re.compile(pattern), route)
            for method, pattern, route in (
                ("POST", r"/content/v4/create", self._create),
                ("GET", r"/content/v4/read/([^/]+)", self._read),
                ("PATCH", r"/content/v4/update/([^/]+)", self._update),
                ("POST", r"/content/v4/upload/([^/]+)", self._upload),
                ("POST", r"/content/v4/review/([^/]+)", self._review),
                ("POST", r"/content/v4/publish/([^/]+)", self._publish),
                ("PATCH", r"/content/v4/system/update/([^/]+)", self._system_update),
                ("GET", r"/content/v3/hierarchy/([^/]+)", self._hierarchy),
                ("PATCH", r"/content/v3/hierarchy/add", self._add_child),
                ("GET", r"/(questionset|question)/v1/read/([^/]+)", self._source),
                ("GET", r"/schemas/(.+\.json)", self._schema),
                ("GET", r"/drive/v3/files/([^/]+)", self._drive),
                ("GET", r"/files/(.+)", self._file),
            )
        ]

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> ContentAnswer | None:
        """What the service at this path (with query) answers; None where there is none."""
        parts = urlsplit(path)
        for wanted, pattern, route in self._routes:
            if method == wanted and (found := pattern.fullmatch(parts.path)):
                names = [unquote(name) for name in found.groups()]
                with self.lock:
                    return route(*names, _request(headers, body), parts.query)
        return None

    def search(self, filters: Mapping[str, Any]) -> ContentAnswer:
        """The contents of an origin, as the search service keeps them: originData as text."""
        with self.lock:
            found = [
                {**content, "originData": orjson.dumps(content["originData"]).decode()}
                for content in self.objects.values()
                if self.searchable and content.get("origin") == filters.get("origin") and "originData" in content
            ]
        return _ok({"count": len(found), **({"content": found} if found else {})})

    # --- contents

    def _create(self, request: Any, query: str) -> ContentAnswer:
        content = _content(request)
        identifier = content.get("identifier") or f"do_{next(self._versions)}"
        missing = [name for name in ("name", "code", "mimeType", "primaryCategory") if not content.get(name)]
        if missing or "contentType" in content:
            return _refused(400, "CLIENT_ERROR", f"Validation Errors: {missing or 'contentType'}")
        if identifier in self.objects:
            return _refused(400, "CLIENT_ERROR", f"Object already exists with identifier {identifier}")
        self.objects[identifier] = {**content, "identifier": identifier, "status": "Draft", **self._version()}
        return self._node(identifier)

    def _read(self, identifier: str, request: Any, query: str) -> ContentAnswer:
        content = self.objects.get(identifier)
        return _ok({"content": content}) if content is not None else _refused(404, "RESOURCE_NOT_FOUND")

    def _update(self, identifier: str, request: Any, query: str) -> ContentAnswer:
        content, change = self.objects.get(identifier), _content(request)
        if content is None:
            return _refused(404, "RESOURCE_NOT_FOUND")
        if change.get("versionKey") != content["versionKey"]:
            return _refused(400, "CLIENT_ERROR", "Invalid version Key")
        if not {"status", "pkgVersion", "identifier"}.isdisjoint(change):
            return _refused(400, "CLIENT_ERROR", "properties that can not be set")
        published = content["status"] in ("Live", "Unlisted")
        content |= {**change, "status": "Draft"} if published else change
        content |= self._version()
        return self._node(identifier)

    def _upload(self, identifier: str, request: Any, query: str) -> ContentAnswer:
        content = self.objects.get(identifier)
        url = request.get("fileUrl") if isinstance(request, dict) else None
        if content is None or not url:
            return _refused(404 if content is None else 400, "CLIENT_ERROR", "File or file url should be specified.")
        content |= {"artifactUrl": url, "uploaded": content.get("uploaded", 0) + 1, **self._version()}
        return self._node(identifier)

    def _review(self, identifier: str, request: Any, query: str) -> ContentAnswer:
        return self._moved(identifier, {"status": "Review"})

    def _publish(self, identifier: str, request: Any, query: str) -> ContentAnswer:
        by = _content(request).get("lastPublishedBy")
        if not by:
            return _refused(400, "CLIENT_ERROR", "lastPublishedBy is mandatory")
        before = self.objects.get(identifier, {})
        live = {"status": "Live", "pkgVersion": before.get("pkgVersion", 0) + 1}
        answer = self._moved(
            identifier, {**({"status": BEING_PUBLISHED} if self.slow_publish else live), "lastPublishedBy": by}
        )
        if answer.status != 200:
            return answer
        status = "Publish Operation for Content Id : initiated"
        return _ok({"identifier": identifier, "publishStatus": status})

    def _moved(self, identifier: str, change: dict[str, Any]) -> ContentAnswer:
        content = self.objects.get(identifier)
        if content is None:
            return _refused(404, "RESOURCE_NOT_FOUND")
        if content["status"] == BEING_PUBLISHED:
            return _refused(400, "ERR_NODE_ACCESS_DENIED", "not while it is being published")
        if not content.get("uploaded"):
            return _refused(400, "CLIENT_ERROR", "a content without a file")
        content |= change
        return self._node(identifier)

    def _system_update(self, identifier: str, request: Any, query: str) -> ContentAnswer:
        if identifier not in self.objects:
            return _refused(404, "RESOURCE_NOT_FOUND")
        self.objects[identifier] |= _content(request)
        return self._node(identifier)

    def _version(self) -> dict[str, str]:
        return {"versionKey": str(next(self._versions))}

    def _node(self, identifier: str) -> ContentAnswer:
        return _ok({"identifier": identifier, "versionKey": self.objects[identifier]["versionKey"]})

    # --- collections

    def _hierarchy(self, collection: str, request: Any, query: str) -> ContentAnswer:
        units = self.collections.get(collection)
        if units is None:
            return _refused(404, "RESOURCE_NOT_FOUND")
        nodes = [*units, *(child for children in units.values() for child in children)]
        return _ok({"content": {"identifier": collection, "childNodes": nodes}})

    def _add_child(self, request: Any, query: str) -> ContentAnswer:
        asked = request.get("request") if isinstance(request, dict) else None
        asked = asked if isinstance(asked, dict) else {}
        children = self.collections.get(asked.get("rootId", ""), {}).get(asked.get("unitId", ""))
        if children is None or not isinstance(asked.get("children"), list):
            return _refused(400, "CLIENT_ERROR", "no such unit")
        children += [child for child in asked["children"] if child not in children]
        return _ok({"rootId": asked["rootId"]})

    # --- the source, and files

    def _source(self, kind: str, identifier: str, request: Any, query: str) -> ContentAnswer:
        found = self.sources.get(f"{kind}/{identifier}")
        return _refused(404, "RESOURCE_NOT_FOUND") if found is None else _ok({kind: found})

    def _schema(self, name: str, request: Any, query: str) -> ContentAnswer:
        found = self.schemas.get(name)
        return _refused(404, "RESOURCE_NOT_FOUND") if found is None else ContentAnswer(200, found)

    def _drive(self, file_id: str, request: Any, query: str) -> ContentAnswer:
        if self.drive_limits:
            self.drive_limits -= 1
            return _drive_error(403, "userRateLimitExceeded")
        found = self.drive.get(file_id)
        if found is None:
            return _drive_error(404, "notFound")
        content = _bytes(self.files[found["content"]])
        if "alt=media" in query:
            return ContentAnswer(200, content)
        about = {"id": file_id, "name": found["name"], "mimeType": found["mimeType"], "size": str(len(content))}
        return ContentAnswer(200, about)

    def _file(self, name: str, request: Any, query: str) -> ContentAnswer:
        found = self.files.get(name)
        return _refused(404, "RESOURCE_NOT_FOUND") if found is None else ContentAnswer(200, _bytes(found))


def _request(headers: Mapping[str, str], body: bytes) -> Any:
    """JSON, or the fields of a multipart form; None for everything else."""
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    if kind.startswith("multipart/form-data"):
        form = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        parts = form.get_payload() if form.is_multipart() else []
        return {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True).decode()
            for part in parts
            if not isinstance(part, str)
        }
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _content(request: Any) -> dict[str, Any]:
    for name in ("request", "content"):
        request = request.get(name) if isinstance(request, dict) else None
    return request if isinstance(request, dict) else {}


def _bytes(file: bytes | str) -> bytes:
    return base64.b64decode(file) if isinstance(file, str) else file


def _ok(result: dict[str, Any]) -> ContentAnswer:
    return ContentAnswer(200, {"params": {"status": "successful"}, "responseCode": "OK", "result": result})


def _refused(status: int, code: str, message: str = "") -> ContentAnswer:
    params = {"status": "failed", "err": code, "errmsg": message}
    return ContentAnswer(status, {"params": params, "responseCode": code, "result": {}})


def _drive_error(status: int, reason: str) -> ContentAnswer:
    return ContentAnswer(status, {"error": {"code": status, "errors": [{"reason": reason}]}})
