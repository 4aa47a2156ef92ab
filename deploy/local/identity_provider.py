"""Keycloak as user-deletion-cleanup knows it: its users, and what it answers. No HTTP in here.

POST   /auth/realms/REALM/protocol/openid-connect/token    a token for the client, by its id and secret (HTTP Basic)
GET    /auth/admin/realms/REALM/users/ID                   one of the users, for those with a token
PUT    /auth/admin/realms/REALM/users/ID                   sets its members
DELETE /auth/admin/realms/REALM/users/ID                   removes it

spec: user-deletion-cleanup §3.5
"""

import re
import uuid
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from deploy.local.notification_providers import Answer, header

TOKENS_KEPT = 1_000
SECONDS_OF_A_TOKEN = 300

_TOKEN = re.compile(r"/auth/realms/[^/]+/protocol/openid-connect/token")
_USER = re.compile(r"/auth/admin/realms/[^/]+/users/([^/]+)")


@dataclass
class IdentityProvider:
    """Keycloak's state, which may be set and read freely, and its answers."""

    keycloak_users: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``f:PROVIDER:USER`` -> the members of the user."""
    keycloak_client: str = "stub-client:stub-client-secret"
    """Who gets a token: id and secret of the client."""
    keycloak_tokens: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """The tokens that are good; to empty it revokes them."""

    def identity(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """What Keycloak answers at this path (without query)."""
        if method == "POST" and _TOKEN.fullmatch(path):
            return self._keycloak_token(headers, body)
        found = _USER.fullmatch(path)
        if found is None:
            return _json(404, {"error": "RESTEASY003210: Could not find resource"})
        if (header(headers, "authorization") or "").removeprefix("Bearer ") not in self.keycloak_tokens:
            return _json(401, {"error": "HTTP 401 Unauthorized"})
        return self._keycloak_user(method, unquote(found.group(1)), body)

    def _keycloak_token(self, headers: Mapping[str, str], body: bytes) -> Answer:
        if header(headers, "authorization") != f"Basic {b64encode(self.keycloak_client.encode()).decode()}":
            return _json(401, {"error": "unauthorized_client"})
        if parse_qs(body.decode()) != {"grant_type": ["client_credentials"]}:
            return _json(400, {"error": "unsupported_grant_type"})
        token = uuid.uuid4().hex
        self.keycloak_tokens[token] = None
        if len(self.keycloak_tokens) > TOKENS_KEPT:
            self.keycloak_tokens.popitem(last=False)
        return _json(200, {"access_token": token, "expires_in": SECONDS_OF_A_TOKEN, "token_type": "Bearer"})

    def _keycloak_user(self, method: str, user_id: str, body: bytes) -> Answer:
        user = self.keycloak_users.get(user_id)
        if user is None:
            return _json(404, {"error": "User not found"})
        if method == "GET":
            return _json(200, {"id": user_id, **user})
        if method == "DELETE":
            del self.keycloak_users[user_id]
        elif method == "PUT":
            user |= orjson.loads(body)
        else:
            return _json(405, {"error": "HTTP 405 Method Not Allowed"})
        return Answer(204, "")


def _json(status: int, body: Any) -> Answer:
    return Answer(status, orjson.dumps(body).decode())
