"""Keycloak: removing a user with three plain calls (spec: user-deletion-cleanup §3.5)."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from io_connectors.http import Calls, Http, HttpResult, NoAnswer, NotReached
from io_connectors.one_per_process import one_per_process
from io_connectors.service_calls import ANSWER_LIMIT, path_part
from transforms.services import ServiceRefused
from transforms.stores import Opens, StoreUnavailable

__all__ = ["Keycloak", "KeycloakCalls"]

SECONDS = 30.0
"""How long Keycloak may take. spec §6"""

# A token is renewed so many seconds before its end, for the calls under way.
_SOONER = 10.0
_BLANK = {"email": "", "emailVerified": False, "enabled": False, "firstName": "", "lastName": ""}


@dataclass(frozen=True)
class Keycloak:
    """The recipe of a realm, and of a client that may manage its users; ``base`` as ``https://host/auth/``.

    ``provider_id`` is the middle part of the ids of users: ``f:PROVIDER:USER``. With a part that is empty or None,
    every call is refused.
    """

    base: str | None
    realm: str | None
    client_id: str | None
    client_secret: str | None = field(repr=False)
    provider_id: str | None
    http: Opens[Calls] = field(default_factory=lambda: Http(SECONDS, SECONDS))

    def open(self) -> KeycloakCalls:
        """The process' client for this recipe; nothing is called before it is asked."""
        return one_per_process(self, lambda: KeycloakCalls(self))


class KeycloakCalls:
    """The client (``transforms.services.Identities``). ``clock`` gives seconds; the token is kept by it.

    Each call is made once: what Keycloak does not do now is reported, and holds up nobody. A removal that gets no
    answer counts as one that failed.
    """

    def __init__(self, recipe: Keycloak) -> None:
        self.clock: Callable[[], float] = time.monotonic
        self._recipe = recipe
        self._calls = recipe.http.open()
        self._token: tuple[str, float] | None = None

    def has(self, user_id: str) -> bool:
        """As the protocol says."""
        result = self._call("GET", user_id)
        if result.status not in (200, 404):
            raise _refused("GET", result)
        return result.status == 200

    def remove(self, user_id: str) -> bool:
        """As the protocol says. spec: user-deletion-cleanup §3.5"""
        try:
            deleted = self._call("DELETE", user_id).status
        except NotReached:
            raise
        except NoAnswer:
            # it may have been done: the user is looked for
            deleted = None
        if deleted is not None and deleted // 100 == 2:
            return True
        found = self._call("GET", user_id)
        if found.status == 404 and deleted in (404, None):
            return deleted is None
        user = _object(found)
        if found.status // 100 != 2 or user is None:
            raise _refused("GET", found)
        put = self._call("PUT", user_id, {**user, **_BLANK})
        if put.status // 100 != 2:
            raise _refused("PUT", put)
        return True

    def _call(self, method: str, user_id: str, body: dict[str, Any] | None = None) -> HttpResult:
        """A call with the token that there is; with a new one when that is not valid any more."""
        recipe = self._recipe
        if not all((recipe.base, recipe.realm, recipe.client_id, recipe.client_secret, recipe.provider_id)):
            raise ServiceRefused("Keycloak is not configured (sunbird_sso_…)")
        user = f"f:{path_part(recipe.provider_id or '')}:{path_part(user_id)}"
        before = self._token
        result = self._with_token(method, user, body)
        if result.status == 401 and before is not None:
            self._token = None
            result = self._with_token(method, user, body)
        return result

    def _with_token(self, method: str, user: str, body: dict[str, Any] | None) -> HttpResult:
        token = self._token
        if token is None or self.clock() >= token[1]:
            # threads that find none at once ask at once: none waits for another
            token = self._token = self._new_token()
        return self._calls.call(
            method,
            f"{self._base}/admin/realms/{path_part(self._recipe.realm or '')}/users/{user}",
            repeatable=False,
            limit=ANSWER_LIMIT,
            data=None if body is None else orjson.dumps(body),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {token[0]}"},
        )

    def _new_token(self) -> tuple[str, float]:
        """A token, and until when it is used. spec §3.5 step 1"""
        recipe = self._recipe
        asked = self.clock()
        try:
            result = self._calls.call(
                "POST",
                f"{self._base}/realms/{path_part(recipe.realm or '')}/protocol/openid-connect/token",
                repeatable=False,
                limit=ANSWER_LIMIT,
                data={"grant_type": "client_credentials"},
                headers={
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Authorization": "Basic "
                    + b64encode(f"{recipe.client_id}:{recipe.client_secret}".encode()).decode(),
                },
            )
        except NoAnswer as error:
            # nothing of a user was asked yet, so nothing is looked for
            raise StoreUnavailable(str(error)) from error
        answer = _object(result) or {}
        token, seconds = answer.get("access_token"), answer.get("expires_in")
        if result.status != 200 or not isinstance(token, str) or not token:
            raise ServiceRefused(f"Keycloak answers {result.status} without a token")
        return token, asked + (seconds - _SOONER if isinstance(seconds, int | float) else 0.0)

    @property
    def _base(self) -> str:
        return (self._recipe.base or "").rstrip("/")


def _object(result: HttpResult) -> dict[str, Any] | None:
    try:
        found = orjson.loads(result.text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _refused(method: str, result: HttpResult) -> ServiceRefused:
    return ServiceRefused(f"Keycloak answers {result.status} to {method}")
