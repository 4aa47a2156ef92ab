"""Elasticsearch: documents by id, in bulk where they are written (spec: core §9)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from elasticsearch import Elasticsearch as Client
from elasticsearch import SerializationError, Transport, TransportError
from elasticsearch import exceptions as errors
from elasticsearch.helpers import streaming_bulk
from elasticsearch.serializer import JSONSerializer

from io_connectors.documents import check_ids, written
from io_connectors.one_per_process import one_per_process
from io_connectors.retries import PAUSES, retrying
from transforms.stores import Refused, StoreUnavailable

__all__ = ["Elasticsearch", "ElasticsearchDocuments"]

_HOST = re.compile(r"(https?://)?([\w.-]+|\[[0-9A-Fa-f:.]+\]):\d+", re.ASCII)
_AT_ONCE = 1_000
_CONFLICTS = 3
_TRY_AGAIN = frozenset({408, 429, 502, 503, 504})
_IN_THE_DATA = frozenset({400, 413})
# What a server before 7 wants of each document that is written in bulk; later ones warn of it, or refuse it.
_TYPE = {"_type": "_doc"}

Action = dict[str, Any]


@dataclass(frozen=True)
class Elasticsearch:
    """The recipe of a client; ``hosts`` as ``host:port[,host:port…]``, timeouts and pauses in seconds. spec: core §9"""

    hosts: str
    timeout: float = 30.0
    retry_pauses: tuple[float, ...] = PAUSES

    def __post_init__(self) -> None:
        for host in self.hosts.split(","):
            if not _HOST.fullmatch(host.strip()):
                raise ValueError(f"es.basePath: {host.strip()!r} is not HOST:PORT")

    def open(self) -> ElasticsearchDocuments:
        """The process' client for this recipe; it connects when it is first asked for something."""
        return one_per_process(self, lambda: ElasticsearchDocuments(self))


class _Away(Exception):
    """The cluster, or the way to it, failed; the call may be made again."""


class _Invalid(Refused):
    """The server calls the whole request invalid, before it looks at any document."""


class _AnyServer(Transport):
    """Asks no server for its name: the client would refuse those that are as good, OpenSearch and builds without
    Elastic's own parts among them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._verified_elasticsearch = True


class _Json(JSONSerializer):
    def dumps(self, data: Any) -> str:
        return data if isinstance(data, str) else orjson.dumps(data).decode()


class ElasticsearchDocuments:
    """The client (``transforms.services.Documents``); any number of threads may use it.

    What is no JSON or no id raises Refused before anything is sent; so does what the server calls invalid, once all
    other documents of the call are written. No connection, no answer in time, and the statuses that say "later" are
    tried again and raise StoreUnavailable in the end; any other answer, such as one that asks for a password, at once.
    """

    def __init__(self, recipe: Elasticsearch) -> None:
        self._recipe = recipe
        self._address = f"Elasticsearch at {recipe.hosts}"
        self._type: dict[str, str] = {}
        self._client = Client(
            [host.strip() for host in recipe.hosts.split(",")],
            transport_class=_AnyServer,
            serializer=_Json(),
            timeout=recipe.timeout,
            max_retries=0,
        )

    def index(self, index: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Write documents by id, each in full. spec: core §9"""
        self._bulk(index, documents, lambda document: {"_op_type": "index", "_source": document})

    def update(self, index: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Merge documents by id into those that are there, objects in them too, or create them. spec: core §9"""
        self._bulk(
            index,
            documents,
            lambda document: {
                "_op_type": "update",
                "doc": document,
                "upsert": document,
                "retry_on_conflict": _CONFLICTS,
            },
        )

    def change(self, index: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Merge documents by id into those that are there, for searches to see. spec: user-ownership-transfer §3.4"""
        self._bulk(
            index,
            documents,
            lambda document: {"_op_type": "update", "doc": document, "retry_on_conflict": _CONFLICTS},
            only_what_is_there=True,
            refresh="wait_for",
        )

    def get(self, index: str, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """The documents, None where there is none, or no such index."""
        check_ids(index, ids)
        found: list[dict[str, Any] | None] = []
        for start in range(0, len(ids), _AT_ONCE):
            wanted = list(ids[start : start + _AT_ONCE])
            answer = self._tried(partial(self._client.mget, index=index, body={"ids": wanted}))
            found += self._sources(answer["docs"])
        return found

    def delete(self, index: str, ids: Sequence[str]) -> list[bool]:
        """Remove documents; whether each was there. spec: collection-certificate-generator §3.7"""
        check_ids(index, ids)
        answers = [self._tried(partial(self._client.delete, index=index, id=id_, ignore=404)) for id_ in ids]
        return [isinstance(answer, dict) and answer.get("result") == "deleted" for answer in answers]

    def has_index(self, index: str) -> bool:
        """Whether there is such an index or alias. spec: core §9"""
        check_ids(index, ())
        return bool(self._tried(lambda: self._client.indices.exists(index=index)))

    def _sources(self, docs: list[dict[str, Any]]) -> Iterator[dict[str, Any] | None]:
        for doc in docs:
            error = doc.get("error", {}).get("type")
            if error not in (None, "index_not_found_exception"):
                raise StoreUnavailable(f"{self._address}: {error}")
            yield doc.get("_source")

    def _bulk(
        self,
        index: str,
        documents: Mapping[str, Mapping[str, Any]],
        action: Callable[[Mapping[str, Any]], Action],
        only_what_is_there: bool = False,
        **options: Any,
    ) -> None:
        check_ids(index, documents)
        pending = {id_: written(document) for id_, document in documents.items()}
        refused: list[str] = []

        def send() -> None:
            later = 0
            actions = [
                {"_index": index, "_id": id_, **self._type, **action(document)} for id_, document in pending.items()
            ]
            for done, item in streaming_bulk(self._client, actions, raise_on_error=False, **options):
                [outcome] = item.values()
                if outcome["status"] in _TRY_AGAIN:
                    later = outcome["status"]
                    continue
                del pending[outcome["_id"]]
                if not done and not (only_what_is_there and _is_missing(outcome)):
                    refused.append(self._refusal(index, outcome))
            if later:
                raise _Away(f"status {later}")

        try:
            self._tried(send)
        except _Invalid:
            if self._type or not self._wants_types():
                raise
            self._type = _TYPE
            self._tried(send)
        if refused:
            raise Refused(refused[0])

    def _wants_types(self) -> bool:
        """Whether the server is one of 6."""
        return str(self._tried(self._client.info)["version"]["number"]).startswith("6.")

    def _refusal(self, index: str, outcome: Mapping[str, Any]) -> str:
        """Which document the server does not take, and what it calls that; its reason may quote the document."""
        error = outcome.get("error")
        kind = error.get("type") if isinstance(error, dict) else None
        text = f"{self._address}: {index}/{outcome['_id']}: status {outcome['status']} {kind or ''}".rstrip()
        if outcome["status"] not in _IN_THE_DATA:
            raise StoreUnavailable(text)
        return text

    def _tried(self, call: Callable[[], Any]) -> Any:
        def once() -> Any:
            try:
                return call()
            except (errors.ConnectionError, SerializationError) as error:
                raise _Away(_reason(error)) from None
            except TransportError as error:
                if error.status_code in _TRY_AGAIN:
                    raise _Away(_reason(error)) from None
                kind: type[Exception] = Refused if error.status_code in _IN_THE_DATA else StoreUnavailable
                if error.error == "action_request_validation_exception":
                    kind = _Invalid
                raise kind(f"{self._address}: {_reason(error)}") from None

        try:
            return retrying(self._recipe.retry_pauses, _Away)(once)
        except _Away as error:
            raise StoreUnavailable(f"{self._address} stays away: {error}") from None


def _is_missing(outcome: Mapping[str, Any]) -> bool:
    """Whether it is the document that is not there, and not the index."""
    error = outcome.get("error")
    return isinstance(error, dict) and error.get("type") == "document_missing_exception"


def _reason(error: Exception) -> str:
    """What the error is called, without what was sent and answered."""
    if isinstance(error, errors.ConnectionError):
        return f"{type(error).__name__}: {error.error}"
    if isinstance(error, TransportError):
        kind = error.error if isinstance(error.error, str) and error.error.isidentifier() else ""
        return f"status {error.status_code} {kind}".rstrip()
    return type(error).__name__
