"""The Redis client against a server that misbehaves (spec: core §5)."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator

import pytest

from io_connectors.redis import Redis
from transforms.stores import Refused, StoreUnavailable


class Server:
    """Speaks as much of Redis' protocol as is needed; answers GET with what it was told, the last for ever."""

    def __init__(self) -> None:
        self.answers: list[bytes] = [b"$1\r\nx\r\n"]
        self.connections = 0
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                outer.connections += 1
                while command := self.command():
                    if command[0] != b"GET":
                        answer = b"+OK\r\n"
                    else:
                        answer = outer.answers[0] if len(outer.answers) == 1 else outer.answers.pop(0)
                    if not answer:
                        return
                    self.wfile.write(answer)

            def command(self) -> list[bytes]:
                parts = []
                for _ in range(int(self.rfile.readline()[1:] or b"0")):
                    size = int(self.rfile.readline()[1:])
                    parts.append(self.rfile.read(size + 2)[:-2])
                return parts

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.recipe = Redis("127.0.0.1", self.server.server_address[1], 3, retry_pauses=(0.01, 0.01))


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.server.shutdown()
    thread.join()
    server.server.server_close()


@pytest.mark.parametrize(
    "answer",
    [
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        b"",
    ],
)
def test_it_is_asked_again_over_a_new_connection(server, answer):
    server.answers = [answer, answer, b"$1\r\nx\r\n"]
    assert server.recipe.open().get(["a"]) == ["x"]
    assert server.connections == 3


def test_in_the_end_it_stays_away(server):
    server.answers = [b"-LOADING Redis is loading the dataset in memory\r\n"]
    with pytest.raises(StoreUnavailable, match=rf"{server.recipe.host}:{server.recipe.port}.*loading"):
        server.recipe.open().get(["a"])
    assert server.connections == 3


def test_a_key_of_another_type_is_not_asked_for_again(server):
    server.answers = [b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", b"$1\r\nx\r\n"]
    with pytest.raises(Refused, match="the-key"):
        server.recipe.open().get(["the-key", "other"])
    assert server.recipe.open().get(["other"]) == ["x"]
    assert server.connections == 1


def test_what_is_not_utf_8_is_read_with_replacement_characters(server):
    server.answers = [b"$2\r\n\xffx\r\n"]
    assert server.recipe.open().get(["a"]) == ["\ufffdx"]
