"""The steps that keep the cache of user profiles: which records ask for it, what is read and written in which order.

``transforms.user_cache`` has the rules of what a profile holds.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam
import orjson
from apache_beam.pvalue import TaggedOutput

from schemas import redis_keys
from transforms.counters import count
from transforms.decode import NotAnObject, Record, id_at, parse_object, value_at
from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.overlapped import side_by_side
from transforms.services import Frameworks, ServiceRefused, UserBlocked, UserProfiles
from transforms.stores import HashChange, KeyValues, Opens, Refused, StoreUnavailable
from transforms.user_cache import (
    Fields,
    SignIn,
    change_of,
    changes_a_user,
    framework_of,
    general_fields,
    is_registered,
    profile_fields,
    user_of,
)

__all__ = ["SelectUserChanges", "UpdateUserCache", "UserCacheStores"]

_log = logging.getLogger(__name__)

# What the user service says of a user; none for a blocked account; an error for one that it does not give.
Answers = Mapping[str, dict[str, Any] | Exception | None]


@dataclass(frozen=True)
class UserCacheStores:
    """The recipes of the store and the services; ``calls`` bounds how many users are read side by side."""

    profiles: Opens[KeyValues]
    users: Opens[UserProfiles]
    frameworks: Opens[Frameworks]
    calls: Opens[Executor]


class _Change(NamedTuple):
    """What an event tells of a user; ``mid`` names it in the log."""

    user: str
    mid: str | None
    registered: bool
    general: Fields

    @classmethod
    def of(cls, payload: bytes) -> _Change:
        return cls(*orjson.loads(payload))

    def to_bytes(self) -> bytes:
        return orjson.dumps(tuple(self))


@beam.typehints.with_output_types(tuple[bytes, bytes])
class SelectUserChanges(beam.DoFn):
    """Takes Records and gives ``(shard, change)``, all bytes, for those that change a user.

    Most records of the topic are about something else: they are counted as skipped and end here.
    spec: user-cache-updater §2, §3.1, §3.2
    """

    def __init__(self, job: str, shards: int, *, producer: str, sign_in: SignIn) -> None:
        self._job = job
        self._shards = shards
        self._producer = producer
        self._sign_in = sign_in

    def process(self, record: Record) -> Iterable[tuple[bytes, bytes]]:
        count(self._job, "total-audit-events-count")
        change = self._change(record)
        if change is None:
            count(self._job, "skipped-message-count")
            return []
        return [(shard_of(change.user, self._shards), change.to_bytes())]

    def _change(self, record: Record) -> _Change | None:
        try:
            event = parse_object(record.value)
        except NotAnObject as error:
            _log.warning("Skipped %s: %s", record.name, error)
            return None
        user = user_of(event)
        if user is None or value_at(event, "edata.state") is None:
            return None
        mid = id_at(event, "mid")
        if not changes_a_user(event):
            _log.info("Skipped %s: the state of event %.200s is not one that counts", record.name, mid)
            return None
        return _Change(user, mid, is_registered(event, self._producer), general_fields(event, self._sign_in))


class UpdateUserCache(KeyedBatch):
    """Takes ``(shard, change)`` and brings the profiles of the users up to date; nothing comes out.

    All users of a batch that the user service changed are read side by side, then the frameworks that they chose; what
    the profiles hold is read in one round trip and changed in one, each profile in one step. The events of one user
    share one read, which is later than all of them. A user whom the service does not give is logged, and the event
    counts as skipped. Raises StoreUnavailable: then nothing of the batch is written.

    spec: user-cache-updater §3, §6, §7
    """

    def __init__(self, job: str, stores: UserCacheStores, *, size: int, removable: Collection[str]) -> None:
        super().__init__(size)
        self._job = job
        self._stores = stores
        self._removable = frozenset(removable)

    def setup(self) -> None:
        self._profiles = self._stores.profiles.open()
        self._users = self._stores.users.open()
        self._frameworks = self._stores.frameworks.open()
        self._pool = self._stores.calls.open()
        super().setup()

    def handle(self, payloads: list[bytes]) -> list[TaggedOutput]:
        counts: Counter[str] = Counter()
        changes = [_Change.of(payload) for payload in payloads]
        answers = self._read_users(changes, counts)
        categories = self._read_categories(answers)
        to_write: defaultdict[str, list[tuple[bool, Fields]]] = defaultdict(list)
        for change in changes:
            fields = _fields(change, answers, categories)
            if fields:
                to_write[redis_keys.user(change.user)].append((change.registered, fields))
            else:
                counts["skipped-message-count"] += 1
        self._write(to_write, counts)
        for name, times in counts.items():
            count(self._job, name, times)
        return []

    def refuse(self, payload: bytes, error: Exception) -> list[TaggedOutput]:
        """This job has no failed topic: the user's next event, or the same again, brings the profile up to date."""
        change = _Change.of(payload)
        _log.error(
            "Event %.200s of user %.200r could not be handled: %s", change.mid, change.user, type(error).__name__
        )
        count(self._job, "skipped-message-count")
        return []

    def _read_users(self, changes: Sequence[_Change], counts: Counter[str]) -> Answers:
        """What the user service says of the users whom it changed. spec §3.3, §6"""
        users = list(dict.fromkeys(change.user for change in changes if change.registered))
        try:
            found = side_by_side(self._pool, [partial(self._users.read, user) for user in users])
        except StoreUnavailable:
            count(self._job, "api-read-miss-count")
            raise
        answers = {
            user: None if isinstance(answer, UserBlocked) else answer for user, answer in zip(users, found, strict=True)
        }
        for change in changes:
            if not change.registered:
                continue
            answer = answers[change.user]
            counts["api-read-success-count" if isinstance(answer, dict) else "api-read-miss-count"] += 1
            if isinstance(answer, ServiceRefused):
                _log.error("Event %.200s of user %.200r is skipped: %s", change.mid, change.user, answer)
            elif isinstance(answer, Exception):
                raise answer
        return answers

    def _read_categories(self, answers: Answers) -> Mapping[str, tuple[str, ...]]:
        """The category codes of the frameworks that the users chose. spec §3.3"""
        chosen = (framework_of(answer) for answer in answers.values() if isinstance(answer, dict))
        identifiers = list(dict.fromkeys(identifier for identifier in chosen if identifier))
        found = side_by_side(self._pool, [partial(self._frameworks.categories, name) for name in identifiers])
        categories = {}
        for identifier, answer in zip(identifiers, found, strict=True):
            if isinstance(answer, Exception):
                raise answer
            categories[identifier] = answer
        return categories

    def _write(self, to_write: Mapping[str, list[tuple[bool, Fields]]], counts: Counter[str]) -> None:
        """Change the profiles, those of registered events after a look at their fields. spec §3.4"""
        cleaned = [key for key, events in to_write.items() if any(registered for registered, _ in events)]
        there = dict(zip(cleaned, self._profiles.hash_fields(cleaned), strict=True)) if cleaned else {}
        outcomes: dict[str, Refused | None] = {}
        hash_changes: dict[str, HashChange] = {}
        for key, events in to_write.items():
            names = there.get(key, frozenset())
            if isinstance(names, Refused):
                outcomes[key] = names
            else:
                hash_changes[key] = change_of(names, events, self._removable)
        if hash_changes:
            outcomes |= zip(hash_changes, self._profiles.change_hashes(hash_changes), strict=True)
        for key, events in to_write.items():
            refused = outcomes[key]
            if refused:
                _log.error("%d events of one user are skipped: %s", len(events), refused)
                counts["skipped-message-count"] += len(events)
            else:
                counts["success-message-count"] += len(events)
                counts["user-cache-hit"] += len(events)


def _fields(change: _Change, answers: Answers, categories: Mapping[str, tuple[str, ...]]) -> Fields:
    """What an event gives to write: what the user service says, overlaid by what the event tells. spec §3.1"""
    answer = answers[change.user] if change.registered else None
    if isinstance(answer, Exception):
        return {}
    if answer is None:
        return change.general
    return {**profile_fields(answer, categories.get(framework_of(answer) or "", ())), **change.general}
