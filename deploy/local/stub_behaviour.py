"""The stand-ins of Sunbird's services with what tests want of them: calls that are kept, and faults on demand.

Under /stub, in JSON; NAME in a path is percent-encoded:

PUT    /stub/collections/NAME   {"status": "Live"}; null makes the collection unknown again
PUT    /stub/contents/NAME      the content's members
PUT    /stub/users/NAME         the user's members, or "blocked"
PUT    /stub/frameworks/NAME    {"categories": [{"code": "board"}]}
PUT    /stub/batches/NAME       the batch's members, as the LMS' search knows them
PUT    /stub/keycloak-users/NAME  the members of Keycloak's user, NAME is f:PROVIDER:USER
PUT    /stub/templates/NAME     the text of /templates/NAME.svg
PUT    /stub/contributors/NAME  what coKreat's portal knows of a user, or "admin", who may not be deleted
PUT    /stub/sourcing_contents/NAME  the members of a content of coKreat's sourcing repository
PUT    /stub/KIND/NAME          what deploy.local.content_services keeps: KIND is objects, units (the units of a
                                collection), sources, schemas, drive, or files (in base64)
       (null removes; a PUT without NAME takes an object with many of them at once; GET without NAME gives all)
GET    /stub/notifications      what was sent (the ``request`` of each), oldest first; also /stub/feeds,
                                /stub/content_updates (of sourcing contents), /stub/text_messages and /stub/pushes
                                (the body of each)
GET    /stub/credentials        RC's records by osid; /stub/registry: the certificate registry's by id
DELETE /stub/KIND               forgets all of the kind, for each of the kinds above
PUT    /stub/settings           any of {"rc_key": "…", "rc_unique": true (RC refuses duplicates), "delay_ms": 50 (for
                                every answer of a service), "search_form": "list" or "object",
                                "public_keys": ["1-…"], "sms_key": "…", "fcm_key": "…", "fcm_public_key": PEM of the
                                service account, "fcm_tokens": [] (revokes all), "drive_limits": 2, "searchable": false,
                                "slow_publish": true (see deploy.local.content_services),
                                "batch_page": 1000 (batches in a page of the LMS' search),
                                "keycloak_client": "ID:SECRET"}; GET gives all
PUT    /stub/behaviour          {"fail_with": 503, "delay_ms": 200, "times": 3}: how the next POSTs are answered;
                                without `times` until this is set again, `{}` for good behaviour
PUT    /stub/faults             a list of faults, in place of those before; GET gives those that are left, DELETE ends
                                them. The first one that fits a call is what happens to it:
                                  "path": a prefix of the path (default: all), "method": default: all
                                  "times": of so many calls; without it until the faults are set again
                                  "status", "body": the answer; body "error" (JSON, the default), "html", "empty",
                                      "wrong" (JSON of another shape), status 200 if not given; without either the
                                      service's own
                                  "delay_ms": before the answer
                                  "no_answer": "silent" (none ever comes) or "broken" (the connection is closed)
                                  "processed": true: the service does its work all the same
GET    /stub/calls              the last calls of services, oldest first: method, path, body (null when large or not
                                JSON), at (ms); ?path=PREFIX for those of a path; DELETE forgets them
GET    /stub/load               {"calls": all since the DELETE, "in_flight": now, "most_in_flight": since the DELETE}
DELETE /stub                    forgets everything, and behaves well

Calls under /stub are neither kept nor counted nor delayed, and no fault meets them.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from deploy.local.sunbird_services import Answer, SunbirdServices
from io_connectors.http import NoAnswer

CALLS_KEPT = 10_000
LARGEST_BODY_KEPT = 16_384

STATES = {
    "collections": "statuses",
    "contents": "contents",
    "users": "users",
    "frameworks": "frameworks",
    "templates": "templates",
    "notifications": "notifications",
    "feeds": "feeds",
    "text_messages": "text_messages",
    "pushes": "pushes",
    "credentials": "credentials",
    "registry": "registry",
    "contributors": "contributors",
    "sourcing_contents": "sourcing_contents",
    "content_updates": "content_updates",
    "batches": "batches",
    "keycloak-users": "keycloak_users",
}
OF_CONTENTS = {
    "objects": "objects",
    "units": "collections",
    "sources": "sources",
    "schemas": "schemas",
    "drive": "drive",
    "files": "files",
}
SETTINGS = (
    *("rc_key", "rc_unique", "search_form", "public_keys", "batch_page", "keycloak_client"),
    *("sms_key", "fcm_key", "fcm_public_key", "fcm_tokens"),
)
SETTINGS_OF_CONTENTS = ("drive_limits", "searchable", "slow_publish")
SETTABLE = (
    *("collections", "contents", "users", "frameworks", "templates", "contributors", "sourcing_contents"),
    *OF_CONTENTS,
    *("batches", "keycloak-users"),
)
BODIES = {"error": '{"responseCode":"SERVER_ERROR"}', "html": "<html><body>hello</body></html>", "empty": ""}
WRONG = '{"result":["wrong"],"signatureValue":7,"data":"wrong"}'


class Reply(NamedTuple):
    """What happens to a call: its answer, after some seconds, or ``silent`` or ``broken`` instead of one."""

    answer: Answer
    delay_seconds: float = 0.0
    instead: str | None = None


class Call(NamedTuple):
    """A call of a service, as it was read."""

    method: str
    path: str
    body: bytes
    at: int


@dataclass
class StubServices:
    """The services, their behaviour, and the calls. For many threads at once."""

    services: SunbirdServices = field(default_factory=SunbirdServices)
    behaviour: dict[str, Any] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)
    delay_ms: float = 0
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=CALLS_KEPT))
    total: int = 0
    in_flight: int = 0
    most_in_flight: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def reply(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """What happens to a call. Each call of a service is in flight until ``ended``."""
        if path == "/stub" or path.startswith("/stub/"):
            return Reply(self._control(method, path, body))
        kept = body if len(body) <= LARGEST_BODY_KEPT else b""
        with self._lock:
            self.calls.append(Call(method, path, kept, int(time.time() * 1000)))
            self.total += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            fault = self._next_fault(method, path)
        delay = (self.delay_ms + fault.get("delay_ms", 0)) / 1000
        instead = fault.get("no_answer")
        is_own = not instead and "status" not in fault and "body" not in fault
        if is_own or fault.get("processed"):
            answer = self.services.answer(method, path, headers, body)
            if is_own:
                return Reply(answer, delay)
        return Reply(_faulty(fault), delay, instead)

    def ended(self, path: str) -> None:
        """Say that a call is over, with an answer or without."""
        if not (path == "/stub" or path.startswith("/stub/")):
            with self._lock:
                self.in_flight -= 1

    def in_memory(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str | bytes]:
        """A handler for ``io_connectors.memory_http``. Raises NoAnswer where the server would not answer."""
        reply = self.reply(method, path, headers, body)
        try:
            if reply.delay_seconds:
                time.sleep(reply.delay_seconds)
            if reply.instead:
                raise NoAnswer(f"the stub does not answer: {reply.instead}")
            return reply.answer.status, reply.answer.text
        finally:
            self.ended(path)

    def _next_fault(self, method: str, path: str) -> dict[str, Any]:
        if method == "POST" and self.behaviour and _takes_one(self.behaviour):
            status = self.behaviour.get("fail_with")
            delay = {"delay_ms": self.behaviour.get("delay_ms", 0)}
            return {**delay, "status": status} if status is not None else delay
        for fault in self.faults:
            fits = path.startswith(fault.get("path", "")) and fault.get("method", method) == method
            if fits and _takes_one(fault):
                return fault
        return {}

    # --- /stub

    def _control(self, method: str, path: str, body: bytes) -> Answer:
        parts = urlsplit(path)
        kind, _, name = parts.path.removeprefix("/stub").strip("/").partition("/")
        try:
            value = orjson.loads(body) if body else None
            with self._lock, self.services.lock:
                given = self._do(method, kind, unquote(name), value, parse_qs(parts.query))
        except (LookupError, TypeError, ValueError, AttributeError):
            return Answer(400, '{"error":"not understood; see deploy/local/stub_behaviour.py"}')
        return Answer(404, "{}") if given is None else Answer(200, orjson.dumps(given).decode())

    def _do(self, method: str, kind: str, name: str, value: Any, query: Mapping[str, list[str]]) -> Any:
        """The answer to a call under /stub; None when there is no such thing."""
        if method == "GET" and not name:
            return self._tell(kind, query)
        if method == "DELETE" and not name:
            return self._forget(kind)
        if method != "PUT":
            return None
        if kind == "behaviour":
            self.behaviour = dict(value)
        elif kind == "faults":
            self.faults = [dict(fault) for fault in value]
        elif kind == "settings":
            self._set(value)
        elif kind in SETTABLE:
            for each, what in ({name: value} if name else value).items():
                self._know(kind, each, what)
        else:
            return None
        return {}

    def _tell(self, kind: str, query: Mapping[str, list[str]]) -> Any:
        if kind == "calls":
            prefix = query.get("path", [""])[0]
            return [_told(call) for call in self.calls if call.path.startswith(prefix)]
        if kind == "load":
            return {"calls": self.total, "in_flight": self.in_flight, "most_in_flight": self.most_in_flight}
        if kind == "faults":
            return [fault for fault in self.faults if fault.get("times") != 0]
        if kind == "settings":
            own = {name: getattr(self.services, name) for name in SETTINGS}
            of_contents = {name: getattr(self.services.content_services, name) for name in SETTINGS_OF_CONTENTS}
            return own | of_contents | {"delay_ms": self.delay_ms}
        return self._state(kind) if kind in STATES or kind in OF_CONTENTS else None

    def _state(self, kind: str) -> Any:
        if kind in OF_CONTENTS:
            return getattr(self.services.content_services, OF_CONTENTS[kind])
        return getattr(self.services, STATES[kind])

    def _set(self, settings: Mapping[str, Any]) -> None:
        if unknown := set(settings) - {*SETTINGS, *SETTINGS_OF_CONTENTS, "delay_ms"}:
            raise ValueError(f"no settings: {unknown}")
        for name, value in settings.items():
            of_contents = name in SETTINGS_OF_CONTENTS
            owner = self if name == "delay_ms" else self.services.content_services if of_contents else self.services
            setattr(owner, name, value)

    def _know(self, kind: str, name: str, value: Any) -> None:
        state: dict[str, Any] = self._state(kind)
        if kind == "collections" and value is not None:
            value = value["status"]
        if value is None:
            state.pop(name, None)
        else:
            state[name] = value

    def _forget(self, kind: str) -> Any:
        if kind in ("", "calls"):
            self.calls.clear()
            self.total, self.most_in_flight = 0, self.in_flight
        if kind in ("", "faults"):
            self.faults = []
        if kind == "":
            self.behaviour, self.delay_ms = {}, 0
            self.services = SunbirdServices(keys=self.services.keys)
        elif kind in STATES or kind in OF_CONTENTS:
            self._state(kind).clear()
            if kind == "credentials":
                self.services.entity_of.clear()
            if kind == "registry":
                self.services.print_uris.clear()
        elif kind not in ("calls", "faults"):
            return None
        return {}


def _takes_one(fault: dict[str, Any]) -> bool:
    """Whether this one still happens; if it is for some times only, there is one time less now."""
    left = fault.get("times")
    if left is None:
        return True
    fault["times"] = max(0, left - 1)
    return bool(left > 0)


def _faulty(fault: Mapping[str, Any]) -> Answer:
    body = fault.get("body", "error")
    text = WRONG if body == "wrong" else BODIES[body]
    return Answer(fault.get("status", 200), text, "text/html" if body == "html" else "application/json")


def _told(call: Call) -> dict[str, Any]:
    try:
        body = orjson.loads(call.body) if call.body else None
    except orjson.JSONDecodeError:
        body = None
    return {"method": call.method, "path": call.path, "body": body, "at": call.at}
