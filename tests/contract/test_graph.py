"""What transforms.services.Graph promises; twin and Neo4j alike. spec: content-auto-creator §4, auto-creator-v2 §3.7"""

from __future__ import annotations

import logging
import socketserver
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from deploy.local.stack import Stack
from io_connectors.memory_graph import MemoryNeo4j
from io_connectors.neo4j import Neo4j
from tests.contract.conftest import REAL
from tests.contract.proxy import Proxy
from transforms.services import Graph
from transforms.stores import Refused, StoreUnavailable


@pytest.fixture(scope="session")
def neo4j(stack_of: Callable[..., Stack]) -> Iterator[Neo4j]:
    """The recipe of the stack's Neo4j."""
    recipe = Neo4j(stack_of("neo4j").environment()["neo4j.routePath"])
    yield recipe
    recipe.open().close()


@pytest.fixture(params=["twin", REAL])
def graph(request: pytest.FixtureRequest) -> Graph:
    """A graph; a test uses ids of its own (fixture ``node``)."""
    if request.param == "twin":
        return MemoryNeo4j(f"contract-{request.node.name}").open()
    return request.getfixturevalue("neo4j").open()


@pytest.fixture
def node() -> str:
    return f"do_{uuid.uuid4().hex}"


def test_a_node_that_is_not_there(graph: Graph, node: str) -> None:
    assert graph.get_node(node) is None


def test_a_node_is_read_as_it_was_merged(graph: Graph, node: str) -> None:
    properties = {
        "name": "Light 'and' \"Shadow\" ü \\ $id {x: 1}",
        "pkgVersion": 3,
        "size": 2.5,
        "negative": -(2**63),
        "isPublic": False,
        "subject": ["Maths", "Science"],
        "none": [],
        "numbers": [1, 2],
        "variants": '{"full":{"ecarUrl":"x"}}',
        "odd name`": "x",
        "empty": "",
    }
    graph.merge_node(node, properties)
    assert graph.get_node(node) == {"IL_UNIQUE_ID": node, **properties}


def test_what_is_not_named_stays_and_none_removes(graph: Graph, node: str) -> None:
    graph.merge_node(node, {"a": 1, "b": 2, "c": 3})
    graph.merge_node(node, {"b": None, "c": [True], "d": None})
    graph.merge_node(node, {})
    assert graph.get_node(node) == {"IL_UNIQUE_ID": node, "a": 1, "c": [True]}


def test_an_id_is_no_statement(graph: Graph, node: str) -> None:
    odd = f"{node}'}}) DETACH DELETE n //"
    graph.merge_node(node, {"a": 1})
    graph.merge_node(odd, {"a": 2})
    assert graph.get_node(node) == {"IL_UNIQUE_ID": node, "a": 1}
    assert graph.get_node(odd) == {"IL_UNIQUE_ID": odd, "a": 2}


@pytest.mark.parametrize("value", [{"a": 1}, [{"a": 1}], [["a"]], ["a", 1], 2**63, ["a", None], object()])
def test_a_value_that_no_property_can_have(graph: Graph, node: str, value: object) -> None:
    graph.merge_node(node, {"before": 1})
    with pytest.raises(Refused) as caught:
        graph.merge_node(node, {"before": 2, "bad": value})
    assert "before" not in str(caught.value)
    assert graph.get_node(node) == {"IL_UNIQUE_ID": node, "before": 1}


def test_many_threads_share_one_client(graph: Graph, node: str) -> None:
    def work(number: int) -> None:
        for _ in range(5):
            graph.merge_node(node, {f"p{number}": number})
            graph.merge_node(f"{node}-{number}", {"own": number})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert graph.get_node(node) == {"IL_UNIQUE_ID": node, **{f"p{number}": number for number in range(8)}}
    assert all(graph.get_node(f"{node}-{n}") == {"IL_UNIQUE_ID": f"{node}-{n}", "own": n} for n in range(8))


@pytest.mark.stack
def test_a_graph_comes_back_while_it_is_waited_for(neo4j: Neo4j, node: str) -> None:
    logging.getLogger("neo4j").setLevel(logging.CRITICAL)
    host, port = neo4j.address.removeprefix("bolt://").split(":")
    proxy = Proxy(host, int(port))
    recipe = replace(neo4j, address=f"bolt://{host}:{proxy.port}", connect_timeout=2.0, retry_pauses=(0.2, 0.5, 1.0))
    graph = recipe.open()
    try:
        graph.merge_node(node, {"a": 1})
        proxy.cut()
        timer = threading.Timer(0.4, proxy.restore)
        timer.start()
        graph.merge_node(node, {"a": 2})
        timer.join()
        assert graph.get_node(node) == {"IL_UNIQUE_ID": node, "a": 2}
        proxy.cut()
        with pytest.raises(StoreUnavailable, match=f"Neo4j at bolt://{host}:{proxy.port} stays away"):
            replace(recipe, retry_pauses=(0.05,)).open().get_node(node)
    finally:
        graph.close()
        proxy.end()


def test_a_graph_that_falls_silent_is_not_waited_for_without_end() -> None:
    """A server that greets, and answers no statement."""
    logging.getLogger("neo4j").setLevel(logging.CRITICAL)
    greeting = b"\xb1\x70\xa2\x86server\x8bNeo4j/4.4.0\x8dconnection_id\x86bolt-1"
    statements = []

    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1024)
            self.request.sendall(b"\x00\x00\x04\x04")
            self.request.recv(4096)
            self.request.sendall(len(greeting).to_bytes(2, "big") + greeting + b"\x00\x00")
            while received := self.request.recv(4096):
                statements.append(b"MATCH" in received)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        address = f"bolt://127.0.0.1:{server.server_address[1]}"
        graph = Neo4j(address, call_timeout=0.3, retry_pauses=(0.0,)).open()
        ended = []

        def ask() -> None:
            try:
                graph.get_node("do_1")
            except StoreUnavailable as error:
                ended.append(str(error))

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(10)
        server.shutdown()
    assert len(ended) == 1
    assert ended[0].startswith(f"Neo4j at {address} stays away")
    assert statements.count(True) == 2
    graph.close()


def test_a_label_is_checked() -> None:
    for label in ("", "a b", "n) DETACH DELETE n //"):
        with pytest.raises(ValueError, match=r"neo4j\.graph"):
            Neo4j("bolt://localhost", label)
