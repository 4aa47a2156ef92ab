"""SMS through MSG91 (spec: notification-job §3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote_plus

import orjson

from io_connectors.http import BodyRefused, Calls, Http
from io_connectors.one_per_process import one_per_process
from io_connectors.pace import Pace
from io_connectors.service_calls import ANSWER_LIMIT
from transforms.services import OutcomeUnknown, ServiceRefused
from transforms.stores import Opens

__all__ = ["Msg91", "Msg91Messages", "form_encoded"]


@dataclass(frozen=True)
class Msg91:
    """The recipe of the provider: its address, the account's key, and what every SMS says of its sender."""

    url: str
    key: str = field(default="", repr=False)
    sender: str = ""
    route: str = "4"
    country: str = "91"
    http: Opens[Calls] = field(default_factory=Http)
    pace: Pace = field(default_factory=lambda: Pace("text messages"))

    def open(self) -> Msg91Messages:
        """The process' client for this recipe; nothing is called before there is something to send."""
        return one_per_process(self, lambda: Msg91Messages(self))


class Msg91Messages:
    """The client (``transforms.services.TextMessages``)."""

    def __init__(self, recipe: Msg91) -> None:
        self._recipe = recipe
        self._calls = recipe.http.open()
        self._turns = recipe.pace.open()

    def send(self, numbers: Sequence[str], text: str) -> None:
        """As the protocol says: one request for all numbers. spec: notification-job §3.2"""
        body = {
            "sender": self._recipe.sender,
            "route": self._recipe.route,
            "country": self._recipe.country,
            "sms": [{"message": form_encoded(text), "to": list(numbers)}],
        }
        headers = {"content-type": "application/json", "authkey": self._recipe.key}
        self._turns.wait()
        try:
            answer = self._calls.create(self._recipe.url, data=orjson.dumps(body), headers=headers, limit=ANSWER_LIMIT)
        except BodyRefused:
            raise OutcomeUnknown("MSG91 answers what can not be read") from None
        if answer.status != 200:
            raise ServiceRefused(f"MSG91 answers {answer.status}")


def form_encoded(text: str) -> str:
    """A text as forms are encoded, which the provider wants inside the JSON. spec: notification-job §3.2"""
    return quote_plus(text, safe="*").replace("~", "%7E")
