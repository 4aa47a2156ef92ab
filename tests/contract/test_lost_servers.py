"""Servers that go away and come back, as the clients see it (spec: core §5, §7)."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cassandra.cluster import Cluster

from io_connectors.cassandra import Cassandra
from io_connectors.redis import Redis
from schemas.cassandra import create_statements
from transforms.stores import Refused, Select, StoreUnavailable, Update

pytestmark = pytest.mark.stack

PATIENT = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)


def after(seconds: float, call: Callable[[], Any]) -> threading.Timer:
    timer = threading.Timer(seconds, call)
    timer.start()
    return timer


# --- Cassandra


@pytest.fixture
def table(keyspace: str) -> str:
    return f"{keyspace}.user_enrolments"


def enrolment(user: str, table: str, n: int, status: Any = 1) -> Update:
    return Update(table, {"userid": user, "courseid": "c", "batchid": f"{n:04}"}, {"status": status})


def statuses(user: str, table: str) -> Select:
    return Select(table, ("batchid", "status"), {"userid": user})


def test_cassandra_comes_back_while_it_is_waited_for(cassandra, opened, proxy_to, table, user):
    proxy = proxy_to(cassandra.host, cassandra.port)
    tables = opened(replace(cassandra, port=proxy.port, retry_pauses=PATIENT))
    assert tables.write([[enrolment(user, table, 0)]]) == [None]
    proxy.cut()
    timer = after(1.5, proxy.restore)
    batches = [[enrolment(user, table, n, "?" if n == 5 else 1)] for n in range(200)]
    results = tables.write(batches)
    timer.join()
    assert isinstance(results[5], Refused)
    assert results[:5] + results[6:] == [None] * 199
    [rows] = tables.select([statuses(user, table)])
    assert isinstance(rows, list)
    assert len(rows) == 199


def test_cassandra_is_lost_in_the_middle(cassandra, opened, proxy_to, table, user):
    proxy = proxy_to(cassandra.host, cassandra.port)
    tables = opened(replace(cassandra, port=proxy.port, retry_pauses=PATIENT, concurrency=8))
    tables.write([[enrolment(user, table, 0)]])
    timers = [after(0.05, proxy.cut), after(1.0, proxy.restore)]
    results = tables.write([[enrolment(user, table, n)] for n in range(3_000)])
    for timer in timers:
        timer.join()
    assert results == [None] * 3_000
    [rows] = tables.select([statuses(user, table)])
    assert isinstance(rows, list)
    assert len(rows) == 3_000


def test_cassandra_stays_away_and_comes_back_later(cassandra, opened, proxy_to, table, user):
    proxy = proxy_to(cassandra.host, cassandra.port)
    tables = opened(replace(cassandra, port=proxy.port, retry_pauses=(0.05, 0.1)))
    tables.write([[enrolment(user, table, 0)]])
    proxy.cut()
    begin = time.monotonic()
    for call in (lambda: tables.write([[enrolment(user, table, 1)]]), lambda: tables.select([statuses(user, table)])):
        with pytest.raises(StoreUnavailable, match=f"{cassandra.host}:{proxy.port}"):
            call()
    assert time.monotonic() - begin < 20
    proxy.restore()
    patient = time.monotonic() + 20
    while True:
        try:
            assert tables.write([[enrolment(user, table, 2)]]) == [None]
            break
        except StoreUnavailable:
            assert time.monotonic() < patient


def test_cassandra_that_does_not_answer_in_time(cassandra, opened, proxy_to, table, user):
    proxy = proxy_to(cassandra.host, cassandra.port)
    tables = opened(replace(cassandra, port=proxy.port, request_timeout=0.5, retry_pauses=(0.05,)))
    tables.write([[enrolment(user, table, 0)]])
    proxy.silence()
    begin = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"{cassandra.host}:{proxy.port}"):
        tables.write([[enrolment(user, table, n)] for n in range(100)])
    assert time.monotonic() - begin < 20
    proxy.restore()
    assert opened(replace(cassandra, port=proxy.port)).write([[enrolment(user, table, 1)]]) == [None]


def test_a_value_that_can_not_be_read_is_refused_and_the_others_are_read(cassandra, table, user):
    cluster = Cluster([cassandra.host], port=cassandra.port, connect_timeout=60, control_connection_timeout=60)
    cluster.connect().execute(
        f"UPDATE {table} SET completedon = 1000000000000000 WHERE userid = %s AND courseid = 'c' AND batchid = 'b'",  # noqa: S608
        [f"{user}-bad"],
    )
    cluster.shutdown()
    tables = cassandra.open()
    assert tables.write([[enrolment(user, table, 0)]]) == [None]
    bad = Select(table, ("completedon",), {"userid": f"{user}-bad"})
    good = Select(table, ("status",), {"userid": user})
    results = tables.select([*[good] * 20, bad, *[good] * 20])
    assert isinstance(results[20], Refused)
    assert results[:20] + results[21:] == [[{"status": 1}]] * 40


def test_cassandra_was_never_there(opened, nobody, table, user):
    recipe = Cassandra("127.0.0.1", nobody, connect_timeout=1.0, retry_pauses=(0.05, 0.1))
    tables = opened(recipe)
    begin = time.monotonic()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{nobody}"):
            tables.write([[enrolment(user, table, 1)]])
    assert time.monotonic() - begin < 20
    assert tables.write([]) == []
    with pytest.raises(StoreUnavailable, match=r"no-such-host\.invalid"):
        opened(replace(recipe, host="no-such-host.invalid")).select([statuses(user, table)])


def test_one_of_several_contact_points_is_enough(opened, cassandra, table, user):
    tables = opened(replace(cassandra, host=f"no-such-host.invalid, {cassandra.host}"))
    assert tables.select([statuses(user, table)]) == [[]]


def test_the_password_is_in_no_message(nobody, caplog):
    caplog.set_level(logging.INFO)
    recipes = [
        Cassandra("127.0.0.1", nobody, username="u", password="secret-1", retry_pauses=()),
        Redis("127.0.0.1", nobody, 0, password="secret-1", retry_pauses=()),
    ]
    assert "secret-1" not in repr(recipes)
    with pytest.raises(StoreUnavailable) as of_cassandra:
        recipes[0].open().select([Select("a.b", ("c",), {"d": "e"})])
    with pytest.raises(StoreUnavailable) as of_redis:
        recipes[1].open().get(["a"])
    assert "secret-1" not in f"{of_cassandra.value} {of_redis.value} {caplog.text}"


def test_statements_that_the_server_has_forgotten_are_prepared_again(cassandra, user):
    keyspace = f"contract_{uuid.uuid4().hex[:12]}"
    table = f"{keyspace}.user_enrolments"
    makes = [
        statement.replace("sunbird_courses", keyspace)
        for statement in create_statements("dev")
        if "KEYSPACE IF NOT EXISTS sunbird_courses" in statement or "sunbird_courses.user_enrolments" in statement
    ]
    cluster = Cluster([cassandra.host], port=cassandra.port, connect_timeout=60, control_connection_timeout=60)
    session = cluster.connect()
    tables = cassandra.open()
    try:
        for _ in range(2):
            for statement in makes:
                session.execute(statement, timeout=60)
            batch = [enrolment(user, table, n) for n in range(3)]
            assert tables.write([batch, [enrolment(user, table, 3)]]) == [None, None]
            [rows] = tables.select([statuses(user, table)])
            assert isinstance(rows, list)
            assert len(rows) == 4
            session.execute(f"DROP KEYSPACE {keyspace}", timeout=60)
    finally:
        session.execute(f"DROP KEYSPACE IF EXISTS {keyspace}", timeout=60)
        cluster.shutdown()


def test_one_session_for_many_threads(cassandra, opened, proxy_to, table, user):
    proxy = proxy_to(cassandra.host, cassandra.port)
    recipe = replace(cassandra, port=proxy.port)
    failures: list[Any] = []

    def work(n: int) -> None:
        results = opened(recipe).write([[enrolment(f"{user}-{n}", table, m)] for m in range(50)])
        failures.extend(result for result in results if result is not None)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    # the control connection and the one for requests
    assert proxy.connections == 2


# --- Redis


def test_redis_comes_back_while_it_is_waited_for(redis_recipe, proxy_to):
    proxy = proxy_to(redis_recipe.host, redis_recipe.port)
    store = replace(redis_recipe, port=proxy.port, retry_pauses=PATIENT).open()
    store.set({"lost": "1"})
    proxy.cut()
    timer = after(0.5, proxy.restore)
    assert store.get(["lost"]) == ["1"]
    timer.join()
    store.delete(["lost"])


def test_redis_is_lost_in_the_middle(redis_recipe, proxy_to):
    proxy = proxy_to(redis_recipe.host, redis_recipe.port)
    store = replace(redis_recipe, port=proxy.port, retry_pauses=PATIENT).open()
    sets = {f"lost:{n}": [str(n), "x"] for n in range(20_000)}
    timers = [after(0.1, proxy.cut), after(0.6, proxy.restore)]
    store.replace_sets(sets)
    for timer in timers:
        timer.join()
    assert store.members(list(sets)) == [frozenset(members) for members in sets.values()]
    assert store.delete(list(sets)) == len(sets)


def test_redis_stays_away_and_comes_back_later(redis_recipe, proxy_to):
    proxy = proxy_to(redis_recipe.host, redis_recipe.port)
    store = replace(redis_recipe, port=proxy.port, retry_pauses=(0.05, 0.1)).open()
    store.get(["lost"])
    proxy.cut()
    for call in (lambda: store.get(["lost"]), lambda: store.scan("lost"), lambda: store.set({"lost": ""}, 5)):
        with pytest.raises(StoreUnavailable, match=f"{redis_recipe.host}:{proxy.port}"):
            call()
    proxy.restore()
    assert store.get(["lost"]) == [None]


def test_redis_that_does_not_answer_in_time(redis_recipe, proxy_to):
    proxy = proxy_to(redis_recipe.host, redis_recipe.port)
    store = replace(redis_recipe, port=proxy.port, read_timeout=0.3, retry_pauses=(0.05,)).open()
    store.get(["lost"])
    proxy.silence()
    begin = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"{redis_recipe.host}:{proxy.port}"):
        store.get(["lost"])
    assert time.monotonic() - begin < 20
    proxy.restore()
    assert store.get(["lost"]) == [None]


def test_redis_was_never_there(nobody):
    store = Redis("127.0.0.1", nobody, 0, retry_pauses=(0.05, 0.1)).open()
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{nobody}"):
        store.members(["a"])
    assert store.members([]) == []
