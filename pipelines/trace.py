"""Why has this learner no progress, no certificate? A walk through the stores that answers it, step by step.

The walk only reads: tables, Redis, services, the ends of the topics. What a step means is said by the rules of the
jobs (``transforms.trace`` and its neighbours); here is what is read for them, and what becomes of a store that stays
away: its steps are unknown, and the walk goes on.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from io_connectors.http import Http
from io_connectors.services import ContentService, SearchService, UserService
from pipelines.certificate_stores import sunbird_rc
from pipelines.clock import epoch_millis
from pipelines.stores import cassandra, cloud_paths, meta_redis, redis
from pipelines.trace_settings import TraceSettings
from pipelines.trace_topics import Kafka, Match, Topics
from schemas import redis_keys
from transforms.certificate.credential import existing_filters, unwanted_texts
from transforms.certificate.request import CertificateRequest
from transforms.certificate_criteria import score_percentages
from transforms.certificate_templates import BrokenTemplate, Template, svg_templates
from transforms.issuers import RECORDS_LOOKED_AT
from transforms.known_contents import KnownContents, NoMetadata
from transforms.progress import Relations
from transforms.services import Contents, Credentials, ServiceRefused, UserBlocked, Users
from transforms.stores import CollectionStatuses, KeyValues, Opens, Refused, Row, Select, StoreUnavailable, Tables
from transforms.trace import (
    Aggregated,
    Fault,
    Learner,
    Step,
    Unread,
    consumption_step,
    enrolment_step,
    progress_step,
    relation_cache_step,
    row_of,
)
from transforms.trace_certificate import (
    Registered,
    certificate_step,
    criteria_step,
    issued_under,
    request_of,
    templates_step,
)
from transforms.trace_records import (
    Backlog,
    Tail,
    asks_to_generate,
    asks_to_issue,
    backlog_step,
    dead_letters_step,
    failure_of,
    might_name,
    requests_step,
)
from transforms.trace_verdict import (
    Conclusion,
    conclude,
    is_certificate_due,
    is_certificate_missing,
    is_progress_missing,
    is_something_missing,
)

__all__ = ["KafkaLimits", "Trace", "TraceStores", "stores", "trace"]

T = TypeVar("T")
R = TypeVar("R")

Doing = Callable[[str], AbstractContextManager[Any]]

# An operator waits: no job's patience here.
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_PAUSES = (0.5,)


@dataclass(frozen=True)
class TraceStores:
    """The recipes. ``credentials`` is None where certificates are files of our own."""

    tables: Opens[Tables]
    relation_cache: Opens[KeyValues]
    content_cache: Opens[KeyValues]
    collection_cache: Opens[KeyValues]
    collections: Opens[CollectionStatuses]
    contents: Opens[Contents]
    users: Opens[Users]
    credentials: Opens[Credentials] | None
    topics: Opens[Topics]


class KafkaLimits(NamedTuple):
    """The most records of the end of each topic, 0 for none, and the seconds for all topics together."""

    records: int = 10_000
    seconds: float = 60.0


class Trace(NamedTuple):
    """The walk. ``away``: why stores that it needs could not be asked, empty when all could."""

    learner: Learner
    steps: list[Step]
    conclusion: Conclusion
    away: list[str]


def stores(settings: TraceSettings) -> TraceStores:
    """The stores and services that the settings name, asked with less patience than a job has."""
    http = Http(_CONNECT_SECONDS, _ANSWER_SECONDS, 1, _PAUSES)
    impatient = partial(replace, connect_timeout=_CONNECT_SECONDS, read_timeout=_ANSWER_SECONDS, retry_pauses=_PAUSES)
    of_check, of_issue = settings.check, settings.issue
    rc = sunbird_rc(of_issue.rc_base_path, of_issue.rc_entity, of_issue.rc_api_key, http)
    return TraceStores(
        tables=replace(
            cassandra(settings.progress),
            connect_timeout=_CONNECT_SECONDS,
            request_timeout=_ANSWER_SECONDS,
            retry_pauses=_PAUSES,
        ),
        relation_cache=impatient(redis(settings.progress, settings.progress.relation_cache_database)),
        content_cache=impatient(meta_redis(of_check, of_check.content_database)),
        collection_cache=impatient(redis(of_check, of_check.collection_database)),
        collections=SearchService(settings.progress.search_base_path, http),
        contents=ContentService(of_check.content_base_path, of_check.content_read_path, http),
        users=UserService(of_check.learner_base_path, of_check.user_read_path, http),
        credentials=rc if of_issue.with_rc else None,
        topics=Kafka(settings.progress.kafka_broker_servers),
    )


def trace(
    learner: Learner,
    settings: TraceSettings,
    stores: TraceStores,
    limits: KafkaLimits = KafkaLimits(),  # noqa: B008 - it can not be changed
    doing: Doing = nullcontext,
    clock: Callable[[], int] = epoch_millis,
) -> Trace:
    """Walk through everything. ``doing`` is entered with the name of what is asked; ``clock`` in epoch milliseconds."""
    walk = _Walk(learner, settings, stores, limits, doing, clock)
    steps = walk.steps()
    return Trace(learner, steps, conclude(steps), walk.away())


class _Asked(Generic[T]):
    """A store that is not asked again once it stayed away."""

    def __init__(self, what: str, recipe: Opens[T], doing: Doing, *, needed: bool) -> None:
        self._what = what
        self._recipe = recipe
        self._doing = doing
        self._needed = needed
        self._away: str | None = None

    @property
    def missed(self) -> str | None:
        """Why the walk did not have a store that it needs."""
        return self._away if self._needed else None

    def ask(self, call: Callable[[T], R], about: str = "") -> R | Unread:
        """What the store answers. Raises Refused and ServiceRefused, which are its answers, too."""
        if self._away is not None:
            return Unread(self._away)
        try:
            with self._doing(f"{self._what}: {about}" if about else self._what):
                return call(self._recipe.open())
        except StoreUnavailable as error:
            self._away = str(error)
            return Unread(self._away)


class _Walk:
    def __init__(
        self,
        learner: Learner,
        settings: TraceSettings,
        stores: TraceStores,
        limits: KafkaLimits,
        doing: Doing,
        clock: Callable[[], int],
    ) -> None:
        self._learner = learner
        self._settings = settings
        self._stores = stores
        self._limits = limits
        self._doing = doing
        self._clock = clock
        self._tables = _Asked("Cassandra", stores.tables, doing, needed=True)
        # a table that an installation may do without
        self._registry = _Asked("Cassandra", stores.tables, doing, needed=False)
        self._relation_cache = _Asked("the relation cache", stores.relation_cache, doing, needed=True)
        self._content_cache = _Asked("the content cache", stores.content_cache, doing, needed=True)
        self._collection_cache = _Asked("the collection cache", stores.collection_cache, doing, needed=True)
        self._collections = _Asked("the search service", stores.collections, doing, needed=False)
        self._users = _Asked("the user service", stores.users, doing, needed=False)
        self._credentials = _Asked("RC", stores.credentials, doing, needed=False) if stores.credentials else None
        self._topics = _Asked("Kafka", stores.topics, doing, needed=False)

    def away(self) -> list[str]:
        """Why stores that are needed could not be asked."""
        asked = (self._tables, self._relation_cache, self._content_cache, self._collection_cache)
        return list(dict.fromkeys(store.missed for store in asked if store.missed is not None))

    def steps(self) -> list[Step]:
        of = self._settings.progress
        table = f"{of.keyspace}.{of.enrolments_table}"
        enrolments = self._select(
            Select(table, (), {"userid": self._learner.user_id, "courseid": self._learner.course_id})
        )
        row: Row | Unread | None = enrolments if isinstance(enrolments, Unread) else row_of(self._learner, enrolments)
        steps = [enrolment_step(table, self._learner, enrolments), *self._progress(row)]
        steps += self._certificates(row)
        return [*steps, *self._of_topics(steps)]

    # --- 2, 3, 4: progress

    def _progress(self, row: Row | Unread | None) -> Iterator[Step]:
        of, learner = self._settings.progress, self._learner
        where = {"userid": learner.user_id, "courseid": learner.course_id, "batchid": learner.batch_id}
        table = f"{of.keyspace}.{of.consumption_table}"
        rows = self._select(Select(table, (), where))
        yield consumption_step(table, rows)

        relations = self._relations()
        status: str | Unread | None = None
        if isinstance(relations, Relations) and not relations.leaf_nodes.get((learner.course_id, learner.course_id)):
            status = self._collections.ask(lambda service: service.status(learner.course_id))
        keys = f"Redis {of.relation_cache_database}: {redis_keys.leafnodes(learner.course_id, learner.course_id)}"
        published = f"{of.job_env}.content.postpublish.request"
        yield relation_cache_step(keys, learner.course_id, relations, status, published)

        yield progress_step(
            f"{of.keyspace}.{of.aggregates_table}",
            learner,
            row if isinstance(row, dict) else None,
            rows,
            relations,
            self._aggregated(relations),
            f"{of.job_env}.batch.enrolment.sync.request",
        )

    def _relations(self) -> Relations | Unread | Fault:
        """The leaf nodes of the course and of all of its units."""
        course = self._learner.course_id

        def read(cache: KeyValues) -> Relations:
            found = Relations()

            def sets(kind: Callable[[str, str], str], ids: list[str]) -> dict[tuple[str, str], frozenset[str]]:
                members = cache.members([kind(course, one) for one in ids])
                return {(course, one): some for one, some in zip(ids, members, strict=True) if some}

            found.leaf_nodes |= sets(redis_keys.leafnodes, [course])
            leaf_nodes = sorted(found.leaf_nodes.get((course, course), ()))
            found.ancestors |= sets(redis_keys.ancestors, leaf_nodes)
            units = sorted(frozenset[str]().union(*found.ancestors.values()) - {course})
            found.leaf_nodes |= sets(redis_keys.leafnodes, units)
            found.optional_nodes |= sets(redis_keys.optionalnodes, [course, *units])
            return found

        try:
            return self._relation_cache.ask(read)
        except Refused as refused:
            return Fault(str(refused))

    def _aggregated(self, relations: Relations | Unread | Fault) -> Aggregated | Unread:
        of, learner = self._settings.progress, self._learner
        if not isinstance(relations, Relations):
            return Unread("not asked for")
        table = f"{of.keyspace}.{of.aggregates_table}"
        ids = sorted({learner.course_id, *(collection for _, collection in relations.leaf_nodes)})
        selects = [Select(table, (), _aggregate_key(learner, one)) for one in ids]
        answers = self._tables.ask(lambda tables: tables.select(selects))
        if isinstance(answers, Unread):
            return answers
        counts = {
            one: int(count)
            for one, rows in zip(ids, answers, strict=True)
            if not isinstance(rows, Refused)
            and rows
            and math.isfinite(count := (rows[0].get("aggregates") or {}).get("completedCount", math.nan))
        }
        return Aggregated(counts)

    # --- 5, 6, 7: certificates

    def _certificates(self, row: Row | Unread | None) -> Iterator[Step]:
        of = self._settings.check
        table = f"{of.keyspace}.{of.batches_table}"
        where = {"courseid": self._learner.course_id, "batchid": self._learner.batch_id}
        batches = self._select(Select(table, ("cert_templates",), where))
        yield templates_step(table, batches)
        templates = (
            svg_templates(batches[0].get("cert_templates")) if batches and not isinstance(batches, Unread) else []
        )
        if not templates:
            return
        user, course_name = self._user(), self._course_name()
        percentages = self._percentages() if any(map(_asks_for_a_score, templates)) else {}
        for template in templates:
            looked_at = f"{table}, criteria of {template.identifier}"
            criteria = criteria_step(looked_at, template, row, percentages, user, course_name)
            yield criteria
            yield self._certificate(template, row, criteria, user)

    def _user(self) -> Mapping[str, Any] | Unread | Fault | None:
        try:
            return self._users.ask(lambda users: users.user(self._learner.user_id))
        except UserBlocked:
            return Fault("the account is deleted or blocked")
        except ServiceRefused as refused:
            return Fault(str(refused))

    def _course_name(self) -> str | Unread | Fault:
        course = self._learner.course_id
        # so that it is known which of the two is away
        in_cache = self._collection_cache.ask(lambda cache: cache.exists([course]))
        if isinstance(in_cache, Unread):
            return in_cache
        try:
            with self._doing("the content service"):
                return self._known().course_name(course, Counter())
        except ServiceRefused as refused:
            return Fault(str(refused))
        except StoreUnavailable as error:
            return Unread(str(error))

    def _percentages(self) -> Mapping[str, float] | Unread | Fault:
        """The scores of the contents that count as assessments. spec: collection-cert-pre-processor §3.5"""
        of = self._settings.check
        table = f"{of.keyspace}.{of.aggregates_table}"
        rows = self._select(Select(table, (), _aggregate_key(self._learner, self._learner.course_id)))
        if isinstance(rows, Unread):
            return rows
        row = rows[0] if rows else {}
        known = score_percentages(row.get("agg"), row.get("aggregates"))
        in_cache = self._content_cache.ask(lambda cache: cache.exists(list(known))) if known else []
        if isinstance(in_cache, Unread):
            return in_cache
        kept = {}
        for content, percentage in known.items():
            try:
                with self._doing("the content service"):
                    kind = self._known().content_type(content, Counter())
            except NoMetadata:
                if of.tolerant:
                    continue
                return Fault(f"Metadata not available in cache or API {content}")
            except StoreUnavailable as error:
                return Unread(str(error))
            if kind in of.assessment_types:
                kept[content] = percentage
        return kept

    def _known(self) -> KnownContents:
        of = self._stores
        opened = of.content_cache.open(), of.collection_cache.open(), of.contents.open()
        return KnownContents(*opened, self._settings.check.cache_expiry, self._clock)

    def _certificate(self, template: Template, row: Row | Unread | None, criteria: Step, user: Any) -> Step:
        of_check, of_issue = self._settings.check, self._settings.issue
        request = request_of(
            template,
            self._learner,
            row,
            user,
            svg_template=cloud_paths(of_check).resolve(template.text("url")),
            base_path=f"{of_check.certificate_domain}/certs" if of_check.certificate_domain else "",
            suppress_signatories=of_issue.suppress_signatories,
        )
        entry = issued_under(template, row)
        records: list[dict[str, Any]] | Unread | None = None
        if isinstance(request, CertificateRequest) and row is not None:
            records = self._records(request)
        in_registry: bool | Unread | None = None
        identifier = (entry or {}).get("identifier")
        of_rc = Registered(records, None).active
        if identifier and identifier not in of_rc and not isinstance(records, Unread):
            in_registry = self._in_registry(identifier)
        table = f"{of_issue.keyspace}.{of_issue.enrolments_table}, {'RC' if self._credentials else 'cert_registry'}"
        return certificate_step(table, template, row, criteria, request, Registered(records, in_registry))

    def _records(self, request: CertificateRequest) -> list[dict[str, Any]] | Unread | None:
        if self._credentials is None:
            return None
        unwanted = unwanted_texts(self._settings.issue.unwanted)
        filters = existing_filters(request, request.recipients[0], unwanted=unwanted)
        try:
            return self._credentials.ask(lambda credentials: credentials.search(filters, RECORDS_LOOKED_AT))
        except ServiceRefused as refused:
            return Unread(str(refused))

    def _in_registry(self, identifier: str) -> bool | Unread:
        of = self._settings.issue
        select = Select(f"{of.registry_keyspace}.{of.registry_table}", ("id",), {"id": identifier})
        found = self._registry.ask(lambda tables: tables.select([select])[0])
        if isinstance(found, Refused):
            return Unread(str(found))
        return found if isinstance(found, Unread) else bool(found)

    # --- 8: the topics

    def _of_topics(self, steps: list[Step]) -> Iterator[Step]:
        of = self._settings
        until = time.monotonic() + self._limits.seconds
        asked = (of.check.kafka_input_topic, of.issue.kafka_input_topic)
        issues = self._tail(asked[0], _where(asks_to_issue, self._learner), until)
        generates = self._tail(asked[1], _where(asks_to_generate, self._learner), until)
        missing = is_something_missing(steps)
        yield requests_step(issues, generates, asked, is_certificate_due(steps))
        failed = (of.progress.failed_topic, of.check.failed_topic, of.issue.failed_topic)
        named = partial(failure_of, learner=self._learner)
        letters = {topic: self._tail(topic, named, until) for topic in dict.fromkeys(failed)}
        telling = [of.progress.failed_topic] if is_progress_missing(steps) else []
        telling += [of.check.failed_topic, of.issue.failed_topic] if is_certificate_missing(steps) else []
        yield dead_letters_step(letters, telling)
        requests = [record for tail in (issues, generates) if isinstance(tail, Tail) for record in tail.found]
        backlogs = {
            job.kafka_input_topic: self._backlog(job.kafka_group_id, job.kafka_input_topic)
            for job in (of.progress, of.check, of.issue)
        }
        yield backlog_step(backlogs, requests, missing)

    def _tail(self, topic: str, match: Match, until: float) -> Tail | Unread:
        if not self._limits.records:
            return Unread("topics are not read (--kafka-records 0)")
        seconds = max(0.0, until - time.monotonic())
        try:
            return self._topics.ask(
                lambda topics: topics.tail(topic, self._limits.records, seconds, might_name(self._learner), match),
                topic,
            )
        except LookupError as error:
            return Unread(str(error))

    def _backlog(self, group: str, topic: str) -> Backlog | Unread:
        if not self._limits.records:
            return Unread("topics are not read (--kafka-records 0)")
        try:
            return self._topics.ask(lambda topics: topics.backlog(group, topic), group)
        except LookupError as error:
            return Unread(str(error))

    # --- tables

    def _select(self, select: Select) -> list[Row] | Unread:
        found = self._tables.ask(lambda tables: tables.select([select])[0])
        return Unread(str(found)) if isinstance(found, Refused) else found


def _aggregate_key(learner: Learner, activity: str) -> dict[str, str]:
    return {
        "activity_type": "Course",
        "activity_id": activity,
        "user_id": learner.user_id,
        "context_id": f"cb:{learner.batch_id}",
    }


def _asks_for_a_score(template: Template) -> bool:
    try:
        return bool(template.json_object("criteria").get("assessment"))
    except BrokenTemplate:
        return False


def _where(asks: Callable[[bytes, Learner], bool], learner: Learner) -> Match:
    return lambda value: "" if asks(value, learner) else None
