"""The recipes of those that send notifications."""

from __future__ import annotations

from pydantic import SecretStr

from io_connectors.fcm import FcmV1, LegacyFcm, service_account
from io_connectors.http import Http
from io_connectors.pace import Pace
from pipelines.settings import SettingsError
from pipelines.stores import plain
from transforms.services import Pushes
from transforms.stores import Opens

# the pauses between the tries of one send
PAUSES = (1.0, 5.0)


def provider_http(timeout: float, at_once: int) -> Http:
    """How providers are called: what surely was not done is tried again, while the time-out has not passed."""
    return Http(timeout, timeout, at_once, PAUSES, retry_within=timeout)


def pushes(url: str, account_key: SecretStr | None, account: SecretStr | None, http: Http, pace: Pace) -> Opens[Pushes]:
    """HTTP v1 with a service account, the legacy protocol without. Raises SettingsError for an account that is none."""
    given = (plain(account) or "").strip()
    if not given:
        return LegacyFcm(url, plain(account_key) or "", http, pace)
    if given.startswith("{"):
        try:
            service_account(given)
        except ValueError as error:
            raise SettingsError(str(error)) from None
    # a path is one of the worker's
    return FcmV1(url, given, http, pace)
