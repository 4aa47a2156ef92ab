"""A stand-in for Sunbird's HTTP services: `python -m deploy.local.stub_server PORT`.

What it answers: deploy.local.sunbird_services; what can be set and asked under /stub: deploy.local.stub_behaviour.
One process, one thread, connections that are kept: an answer costs a fraction of a millisecond, and answers that are
delayed cost nothing while they wait.
"""

import asyncio
import signal
import sys
from http import HTTPStatus

from deploy.local.stub_behaviour import Reply, StubServices

LOOPBACK = "127.0.0.1"
BACKLOG = 1_024
HEAD_LIMIT = 65_536

Request = tuple[str, str, dict[str, str], bytes]


class Connection(asyncio.Protocol):
    """One connection: its requests are answered one after the other, in their order."""

    def __init__(self, stubs: StubServices) -> None:
        self._stubs = stubs
        self._received = bytearray()
        self._in_flight: str | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (of a stream server)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """A client that went has nothing in flight."""
        self._transport = None
        self._end()

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._received += data
        self._go_on()

    def _go_on(self) -> None:
        while self._in_flight is None and self._transport is not None:
            try:
                request = self._next_request()
            except (ValueError, UnicodeDecodeError):
                self._transport.close()
                return
            if request is None:
                return
            self._in_flight = request[1]
            reply = self._stubs.reply(*request)
            closing = request[2].get("connection", "").lower() == "close"
            if reply.instead == "silent":
                return
            if reply.delay_seconds:
                asyncio.get_running_loop().call_later(reply.delay_seconds, self._send_late, reply, closing)
                return
            self._send(reply, closing)

    def _next_request(self) -> Request | None:
        """The next request when all of it has come. Raises ValueError for what is not one."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > HEAD_LIMIT:
                raise ValueError("a head without an end")
            return None
        first, *lines = self._received[:end].decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if "transfer-encoding" in headers:
            raise ValueError("only bodies of a known length are read here")
        length = int(headers.get("content-length") or 0)
        begin = end + 4
        if len(self._received) < begin + length:
            return None
        body = bytes(self._received[begin : begin + length])
        del self._received[: begin + length]
        return method, path, headers, body

    def _send_late(self, reply: Reply, closing: bool) -> None:
        if self._transport is not None:
            self._send(reply, closing)
            self._go_on()

    def _send(self, reply: Reply, closing: bool) -> None:
        transport = self._transport
        if transport is None:
            return
        self._end()
        if reply.instead == "broken":
            transport.abort()
            return
        status, text, content_type = reply.answer
        body = text.encode() if isinstance(text, str) else text
        try:
            reason = HTTPStatus(status).phrase
        except ValueError:
            reason = "Unknown"
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        transport.write(head.encode("latin-1") + body)
        if closing:
            transport.close()

    def _end(self) -> None:
        if self._in_flight is not None:
            self._stubs.ended(self._in_flight)
            self._in_flight = None


async def serve(port: int) -> None:
    """Answer on that port of the loopback address until the process is told to end."""
    loop = asyncio.get_running_loop()
    stubs = StubServices()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await loop.create_server(lambda: Connection(stubs), LOOPBACK, port, backlog=BACKLOG)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
