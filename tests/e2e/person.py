"""A learner whose name, mail and phone are everywhere that the jobs know, as tokens that nothing else holds."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson
import redis
import requests
from cassandra.cluster import Session

from transforms.user_deletion import BLANKED

SECONDS = 60
ORGANISATION = "0140222222222222220"
PROFILES_DATABASE = 12

# Where the tokens still are after a deletion, and why.
STAYS = {
    "sunbird.user.loginid": "spec §3.9: other columns of the row stay",
    "sunbird.user.profiledetails": "spec §3.9: other columns of the row stay",
    "sunbird.user_lookup.value": "spec §3.6: a look-up that belongs to another user is left alone",
    "sunbird.cert_registry.recipient": "spec §1: certificates are not this job's",
    "index certs": "spec §1: certificates are not this job's",
    "index user": "spec §4, §8.8: the profile in the index is the userorg service's",
}


@dataclass
class Person:
    """A user and a child account, put everywhere by ``move_in``."""

    settings: Mapping[str, Any]
    session: Session
    mark: str = field(default_factory=lambda: uuid.uuid4().hex[:10])

    def __post_init__(self) -> None:
        self.id, self.child, self.other = (f"{kind}-{self.mark}" for kind in ("learner", "child", "other"))
        self.tokens = {kind: f"zq{kind}{self.mark}" for kind in ("name", "mail", "phone")}
        self.keycloak_id = f"f:{self.settings['sunbird_keycloak_user_federation_provider_id']}:{self.id}"

    def event(self, **edata: Any) -> bytes:
        """The deletion, with the name that the userorg service puts into it."""
        given = {"action": "delete-user", "userId": self.id, "organisationId": ORGANISATION, "iteration": 1}
        about = {**given, "userName": self.tokens["name"], "managed_users": [self.child], **edata}
        return orjson.dumps({"eid": "BE_JOB_REQUEST", "mid": f"LP.1.{self.mark}", "edata": about})

    def move_in(self) -> Person:
        """Be in every store, with every token in all that may hold it."""
        name, mail, phone = self.tokens.values()
        for user in (self.id, self.child):
            texts = {column: f"{self._token(column)} of {user}" for column, value in BLANKED.items() if value == ""}
            kept = {} if user == self.child else {"loginid": name, "profiledetails": f'{{"mail":"{mail}"}}'}
            self.insert("user", id=user, userid=user, rootorgid=ORGANISATION, status=1, **texts, **kept)
            for kind in ("email", "phone", "username"):
                self.insert("user_lookup", type=kind, value=texts[kind], userid=user)
            with self.redis() as client:
                client.hset(f"user:{user}", mapping={"firstname": name, "email": mail, "phone": phone})
        # the same phone, noted for somebody else
        self.insert("user_lookup", type="phone", value=f"{phone} in the clear", userid=self.other)
        self.insert("user_lookup", type="externalid", value=f"{name}@school", userid=self.id)
        external = {"idtype": "school", "provider": "school", "externalid": name, "originalexternalid": name}
        self.insert("usr_external_identity", userid=self.id, **external)
        self.insert("user_organisation", userid=self.id, organisationid=ORGANISATION, isdeleted=False)
        self.insert("cert_registry", id=f"cert-{self.mark}", recipient=f'{{"name":"{name}"}}')
        self.put_document("certs", f"cert-{self.mark}", {"data": {"recipient": {"name": name}}})
        self.put_document("user", self.id, {"firstName": name, "email": mail, "phone": phone})
        self.put_stub(f"users/{self.id}", {"rootOrgId": ORGANISATION, "phone": f"{phone} in the clear"})
        keycloak = {"username": name, "email": mail, "emailVerified": True, "enabled": True, "firstName": name}
        self.put_stub(f"keycloak-users/{quote(self.keycloak_id, safe='')}", keycloak)
        return self

    def _token(self, column: str) -> str:
        kind = next((kind for kind in ("mail", "phone") if column.endswith(kind)), "name")
        return self.tokens[kind]

    def move_out(self) -> None:
        """Leave nothing behind for other tests."""
        address = f"http://{self.settings['es.basePath']}"
        requests.delete(f"{address}/user", timeout=SECONDS)
        requests.delete(f"{address}/certs/_doc/cert-{self.mark}?refresh=true", timeout=SECONDS)
        self.session.execute("DELETE FROM sunbird.cert_registry WHERE id = %s", [f"cert-{self.mark}"])
        for user in (self.id, self.child):
            self.session.execute("DELETE FROM sunbird.user WHERE id = %s", [user])
        self.put_stub(f"users/{self.id}", None)

    # --- what is there now

    def row(self, user: str) -> dict[str, Any]:
        return dict(self.session.execute("SELECT * FROM sunbird.user WHERE id = %s", [user]).one()._asdict())

    def membership(self) -> tuple[bool, str]:
        query = "SELECT isdeleted, orgleftdate FROM sunbird.user_organisation WHERE userid = %s"
        row = self.session.execute(query, [self.id]).one()
        return row.isdeleted, row.orgleftdate

    def is_blank(self, user: str) -> bool:
        row = self.row(user)
        return {name: row[name] for name in BLANKED} == BLANKED

    def redis(self) -> redis.Redis:
        return redis.Redis(
            self.settings["redis.host"], self.settings["redis.port"], PROFILES_DATABASE, socket_timeout=SECONDS
        )

    # --- the stores

    def insert(self, table: str, **columns: Any) -> None:
        places = ", ".join(["%s"] * len(columns))
        statement = f"INSERT INTO sunbird.{table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608
        self.session.execute(statement, list(columns.values()))

    def put_document(self, index: str, identifier: str, document: Mapping[str, Any]) -> None:
        address = f"http://{self.settings['es.basePath']}/{index}/_doc/{identifier}?refresh=true"
        requests.put(address, json=document, timeout=SECONDS).raise_for_status()

    def put_stub(self, what: str, value: Any) -> None:
        address = f"{self.settings['service.userorg.basePath']}/stub/{what}"
        requests.put(address, json=value, timeout=SECONDS).raise_for_status()
