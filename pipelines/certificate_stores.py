"""The recipes of the stores and services that only certificates need."""

from __future__ import annotations

from pydantic import SecretStr

from io_connectors.http import Http
from io_connectors.object_storage import ObjectStore
from io_connectors.sunbird_rc import SunbirdRC
from pipelines.settings import SettingsError
from pipelines.stores import plain


def sunbird_rc(base_path: str | None, entity: str, api_key: SecretStr | None, client: Http) -> SunbirdRC:
    return SunbirdRC(base_path, entity, plain(api_key), client)


def object_store(
    kind: str | None, container: str | None, store_key: SecretStr | None, secret: SecretStr | None, endpoint: str | None
) -> ObjectStore:
    """Raises SettingsError for settings that no store can have."""
    try:
        return ObjectStore(kind or "", container or "", plain(store_key), plain(secret), endpoint)
    except ValueError as error:
        raise SettingsError(str(error)) from None
