"""Sunbird's services, each a small client over HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from io_connectors.http import Http, HttpCalls
from transforms.stores import StoreUnavailable

__all__ = ["SearchService", "SearchServiceStatuses"]


@dataclass(frozen=True)
class SearchService:
    """The recipe of the search service; ``base_path`` as ``http://host:port``."""

    base_path: str | None
    http: Http = field(default_factory=Http)

    def open(self) -> SearchServiceStatuses:
        """The client; nothing is called before a status is asked for."""
        return SearchServiceStatuses(self.base_path, self.http.open())


class SearchServiceStatuses:
    """The client (``transforms.stores.CollectionStatuses``)."""

    def __init__(self, base_path: str | None, calls: HttpCalls) -> None:
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
