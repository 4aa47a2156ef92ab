"""A mail server that delivers nothing and keeps everything: aiosmtpd. See deploy.local.smtp_server."""

import importlib.util
import sys
from pathlib import Path
from typing import Any, ClassVar

import orjson

from deploy.local.errors import StackError
from deploy.local.processes import LOOPBACK, accepts_connections
from deploy.local.service import Service, Surroundings

USERNAME, PASSWORD = "local", "local"
MAILS = "mails.jsonl"


class Smtp(Service):
    """The mail server of the jobs that send mails."""

    name = "smtp"
    ports: ClassVar = {"smtp": 2525}
    processes = ("smtp",)

    def prepare(self, around: Surroundings) -> None:
        if importlib.util.find_spec("aiosmtpd") is None:
            raise StackError(
                "there is no mail server: install the extra 'stack' of this project "
                "(pip install 'sunbird-pipelines[stack]')"
            )

    def start(self, process: str, around: Surroundings) -> None:
        directory = around.data("smtp")
        command = [sys.executable, "-m", "deploy.local.smtp_server", str(around.ports["smtp"]), str(directory / MAILS)]
        around.processes.start(process, command, {}, directory)

    def healthy(self, process: str, around: Surroundings) -> bool:
        return accepts_connections(around.ports["smtp"])

    def settings(self, around: Surroundings) -> dict[str, Any]:
        return {
            "mail_server_host": LOOPBACK,
            "mail_server_port": str(around.ports["smtp"]),
            "mail_server_username": USERNAME,
            "mail_server_password": PASSWORD,
            "mail_server_from_email": "support@open-sunbird.org",
        }


def mails(directory: Path) -> list[dict[str, Any]]:
    """What the server of the stack in that directory got, oldest first.

    Of each mail ``sender`` and ``recipients`` of the envelope, ``username`` of who logged in, ``message`` as text.
    """
    file = directory / "smtp" / MAILS
    return [orjson.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []
