"""The recipes of the stores and services that only contents need."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import SecretStr

from io_connectors.downloads import GoogleDrive, WebFiles
from io_connectors.http import Http
from io_connectors.neo4j import Neo4j
from io_connectors.object_storage import ObjectStore
from io_connectors.workspace import Workspace
from pipelines.settings import FileStoreSettings, Neo4jSettings, SettingsError
from pipelines.stores import plain

T = TypeVar("T")


def web_files(settings: FileStoreSettings, client: Http) -> WebFiles:
    return WebFiles(settings.download_seconds, client)


def google_drive(
    settings: FileStoreSettings, base_url: str, application: str, credentials: SecretStr | None, client: Http
) -> GoogleDrive:
    """Raises SettingsError for credentials that are none."""
    seconds = settings.download_seconds
    return _checked(lambda: GoogleDrive(base_url, application, plain(credentials), seconds, client))


def file_store(settings: FileStoreSettings) -> ObjectStore:
    """Raises SettingsError for settings that no store can have."""
    return _checked(
        lambda: ObjectStore(
            settings.store_kind,
            settings.store_container,
            plain(settings.store_key),
            plain(settings.store_secret),
            settings.store_endpoint,
            # a part of a file, or all of one, over a slow line
            timeout=settings.download_seconds,
            read_base=settings.store_read_base,
            settings="cloud_storage",
            container_setting="cloud_storage_container",
        )
    )


def graph(settings: Neo4jSettings, label: str, at_once: int) -> Neo4j:
    """Raises SettingsError for what can be no label."""
    return _checked(
        lambda: Neo4j(
            settings.neo4j_route_path, label, settings.neo4j_username, plain(settings.neo4j_password), pool=at_once
        )
    )


def workspace(location: str) -> Workspace:
    return Workspace(location)


def _checked(make: Callable[[], T]) -> T:
    try:
        return make()
    except ValueError as error:
        raise SettingsError(str(error)) from None
