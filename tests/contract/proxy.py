"""A way to a server that a test can cut and silence."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable


class Proxy:
    """Passes bytes between its own port on loopback and a server's. ``cut`` closes all connections and refuses new
    ones, ``silence`` leaves them open and passes nothing on; ``restore`` ends both."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._selector = selectors.DefaultSelector()
        self._lock = threading.RLock()
        self._silent = False
        self._ended = False
        self._listener: socket.socket | None = None
        self.port = 0
        self.connections = 0
        self.restore()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        with self._lock:
            for key in list(self._selector.get_map().values()):
                self._close(key.fileobj)
            self._listener = None

    def silence(self) -> None:
        with self._lock:
            self._silent = True

    def restore(self) -> None:
        with self._lock:
            self._silent = False
            if self._listener is None:
                self._listener = socket.create_server(("127.0.0.1", self.port))
                self.port = self._listener.getsockname()[1]
                self._selector.register(self._listener, selectors.EVENT_READ)

    def end(self) -> None:
        self._ended = True
        self._thread.join()
        self.cut()

    def _pass_on(self) -> None:
        while not self._ended:
            events = self._selector.select(0.05)
            with self._lock:
                for key, _ in events if not self._silent else ():
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fd in self._selector.get_map():
                        self._move(key.fileobj, key.data)
            if self._silent:
                threading.Event().wait(0.05)

    def _accept(self) -> None:
        assert self._listener is not None
        inner, _ = self._listener.accept()
        outer = socket.create_connection(self._server, 5)
        self.connections += 1
        self._selector.register(inner, selectors.EVENT_READ, outer)
        self._selector.register(outer, selectors.EVENT_READ, inner)

    def _move(self, source: socket.socket, target: socket.socket) -> None:
        try:
            data = source.recv(65_536)
            if data:
                target.sendall(data)
                return
        except OSError:
            pass
        self._close(source)
        self._close(target)

    def _close(self, connection: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection)
        connection.close()


ProxyTo = Callable[[str, int], Proxy]
