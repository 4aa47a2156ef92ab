"""Providers of SMS and pushes as notification-job knows them: what they keep, and what they answer. No HTTP in here.

POST   /api/v2/sendsms                      MSG91: the ``authkey`` counts; kept
POST   /fcm/send                            legacy FCM: the ``Authorization`` counts; kept
POST   /v1/projects/PROJECT/messages:send   FCM HTTP v1: with an access token of /oauth2/token; kept
POST   /oauth2/token                        Google's tokens, for a service account's signed request (a form)

A registration token that begins with ``gone`` is one that FCM does not know.

spec: notification-job §3.2, §3.3
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import orjson
from google.auth import jwt

SMS_PATH = "api/v2/sendsms"
FCM_PATH = "fcm/send"
TOKEN_PATH = "oauth2/token"  # noqa: S105 (a path)
SMS_KEY = "stub-sms-key"
FCM_KEY = "key=stub-fcm-key"
SECONDS_OF_A_TOKEN = 3_600
# beyond 31 bits, as Google's own are
A_MESSAGE = 7_253_391_319_867_149_192


class Answer(NamedTuple):
    """An answer: its status, the text of its body, and the type of that."""

    status: int
    text: str | bytes
    content_type: str = "application/json"


@dataclass
class NotificationProviders:
    """The providers' state, which may be set and read freely, and their answers."""

    text_messages: list[dict[str, Any]] = field(default_factory=list)
    """The bodies of MSG91's requests."""
    pushes: list[dict[str, Any]] = field(default_factory=list)
    """The bodies of FCM's requests, of both protocols."""
    sms_key: str = SMS_KEY
    fcm_key: str = FCM_KEY
    fcm_public_key: str | None = None
    """The public key (PEM) of the service account that gets tokens; None: any account does."""
    fcm_tokens: list[str] = field(default_factory=list)
    """The access tokens that are good; to empty it revokes them."""

    def provider(self, path: str) -> Callable[[Mapping[str, str], bytes], Answer] | None:
        """What answers a POST to this path (without query), given headers and body; None when nothing does."""
        if path == f"/{SMS_PATH}":
            return self._text_message
        if path == f"/{FCM_PATH}":
            return self._legacy_push
        if path == f"/{TOKEN_PATH}":
            return self._access_token
        if path.startswith("/v1/projects/") and path.endswith("/messages:send"):
            return self._push
        return None

    def _text_message(self, headers: Mapping[str, str], body: bytes) -> Answer:
        if header(headers, "authkey") != self.sms_key:
            return _json(401, {"message": "Authentication failure", "type": "error"})
        self.text_messages.append(_object(body))
        return _json(200, {"message": secrets.token_hex(12), "type": "success"})

    def _legacy_push(self, headers: Mapping[str, str], body: bytes) -> Answer:
        if header(headers, "authorization") != self.fcm_key:
            return Answer(401, "<html>Unauthorized</html>", "text/html")
        push = _object(body)
        self.pushes.append(push)
        if "to" in push:
            return _json(200, {"message_id": A_MESSAGE})
        tokens = push.get("registration_ids") or []
        results = [{"error": "NotRegistered"} if _is_gone(token) else {"message_id": "1:0"} for token in tokens]
        failure = sum("error" in result for result in results)
        counts = {"success": len(tokens) - failure, "failure": failure, "canonical_ids": 0}
        return _json(200, {"multicast_id": A_MESSAGE, **counts, "results": results, "extra": True})

    def _push(self, headers: Mapping[str, str], body: bytes) -> Answer:
        scheme, _, token = (header(headers, "authorization") or "").partition(" ")
        if scheme != "Bearer" or token not in self.fcm_tokens:
            return _json(401, {"error": {"code": 401, "status": "UNAUTHENTICATED"}})
        message = _object(body).get("message") or {}
        if not all(isinstance(value, str) for value in message.get("data", {}).values()):
            return _json(400, {"error": {"code": 400, "status": "INVALID_ARGUMENT"}})
        if _is_gone(message.get("token")):
            return _json(404, {"error": {"code": 404, "status": "NOT_FOUND"}})
        self.pushes.append(message)
        return _json(200, {"name": f"projects/p/messages/{A_MESSAGE}"})

    def _access_token(self, headers: Mapping[str, str], body: bytes) -> Answer:
        form = parse_qs(body.decode("utf-8", "replace"))
        assertion = form.get("assertion", [""])[0]
        try:
            jwt.decode(assertion, certs=self.fcm_public_key, verify=self.fcm_public_key is not None)
        except ValueError:
            return _json(400, {"error": "invalid_grant"})
        token = secrets.token_hex(16)
        self.fcm_tokens.append(token)
        return _json(200, {"access_token": token, "expires_in": SECONDS_OF_A_TOKEN, "token_type": "Bearer"})


def header(headers: Mapping[str, str], wanted: str) -> str | None:
    """A header by its name in lower case."""
    return next((value for name, value in headers.items() if name.lower() == wanted), None)


def _is_gone(token: Any) -> bool:
    return str(token).startswith("gone")


def _json(status: int, body: Any) -> Answer:
    return Answer(status, orjson.dumps(body).decode())


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {}
