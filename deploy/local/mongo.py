"""MongoDB's wire protocol, served from one file (see deploy/java/stack/MongoDatabases.java).

A server of MongoDB's own can not be had from a package registry. This one knows no replica sets and no transactions,
and is laxer in one thing: it makes a field in what is null.
"""

from typing import Any, ClassVar

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from deploy.local.errors import StackError
from deploy.local.maven import JAVA_DIRECTORY, class_path, java
from deploy.local.processes import LOOPBACK, accepts_connections
from deploy.local.service import Service, Surroundings
from schemas.mongo import OWNERS

DATABASE = "ml-survey"
TIMEOUT_MILLISECONDS = 5_000


class Mongo(Service):
    """The documents of the ML services."""

    name = "mongo"
    ports: ClassVar = {"mongo": 27017}
    processes = ("mongo",)

    def prepare(self, around: Surroundings) -> None:
        class_path("mongo", around.progress)

    def start(self, process: str, around: Surroundings) -> None:
        directory = around.data("mongo")
        command = [
            java(),
            "-Xmx128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            class_path("mongo", around.progress),
            str(JAVA_DIRECTORY / "stack" / "MongoDatabases.java"),
            LOOPBACK,
            str(around.ports["mongo"]),
            str(directory / "databases.h2"),
        ]
        around.processes.start(process, command, {}, directory)

    def healthy(self, process: str, around: Surroundings) -> bool:
        if not accepts_connections(around.ports["mongo"]):
            return False
        try:
            with self._client(around) as client:
                return bool(client.admin.command("ping")["ok"])
        except PyMongoError:
            return False

    @staticmethod
    def _client(around: Surroundings) -> MongoClient[dict[str, Any]]:
        return MongoClient(LOOPBACK, around.ports["mongo"], directConnection=True, timeoutMS=TIMEOUT_MILLISECONDS)

    def populate(self, environment: str, around: Surroundings) -> None:
        around.progress(self.name, "creating collections")
        try:
            with self._client(around) as client:
                for collection, owner in OWNERS.items():
                    client[DATABASE][collection].create_index(owner)
        except PyMongoError as error:
            raise StackError(f"the collections of {DATABASE} cannot be created: {error}") from error

    def settings(self, around: Surroundings) -> dict[str, Any]:
        return {
            "ml-mongo.host": LOOPBACK,
            "ml-mongo.port": around.ports["mongo"],
            "ml-mongo.database": DATABASE,
        }
