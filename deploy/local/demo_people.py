"""The last act of the demo, of people: a learner is told of a certificate by mail, an account is deleted, and the
owner of the batch is replaced. Three light jobs do it.
"""

from __future__ import annotations

import email
import email.policy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import redis
import requests
from cassandra.cluster import Session

from deploy.local.demo_certificates import Certification
from deploy.local.kafka_client import Sender
from deploy.local.scenario import Enrolment
from deploy.local.smtp import mails

NOTIFICATION, DELETION, TRANSFER = "notification-job", "user-deletion-cleanup", "user-ownership-transfer"
PEOPLE_JOBS = (NOTIFICATION, DELETION, TRANSFER)
TOPICS = {NOTIFICATION: "lms.notification", DELETION: "delete.user", TRANSFER: "user.ownership.transfer"}

PROFILES_DATABASE = 12
ORGANISATION = "0140111111111111110"
INDEX = "course-batch"
CALL_SECONDS = 10
DONE_SECONDS = 90


class Happened(NamedTuple):
    """What was asked of a job, and what came of it; ``right``: as it should be."""

    job: str
    asked: str
    found: str
    right: bool


@dataclass(frozen=True)
class People:
    """Who they are, on the stack of that ``directory``: the learner who is told, the account that goes, the owners."""

    environment: Mapping[str, Any]
    session: Session
    directory: Path
    certification: Certification
    told: Enrolment
    leaver: str

    @classmethod
    def of(
        cls, environment: Mapping[str, Any], session: Session, directory: Path, certification: Certification
    ) -> People:
        """The first learner is told. The account that goes is one that was merged into another, or the last one's."""
        enrolments = list(certification.learners)
        merged = [source for source in certification.merged]
        leaver = (merged or enrolments[-1:])[0].user_id
        return cls(environment, session, directory, certification, enrolments[0], leaver)

    @property
    def run(self) -> str:
        """What all ids of this run end with."""
        return self.leaver.rpartition("-")[2]

    @property
    def owner(self) -> str:
        return f"owner-{self.run}"

    @property
    def heir(self) -> str:
        return f"heir-{self.run}"

    @property
    def address(self) -> str:
        return f"{self.told.user_id}@school.example"

    # --- what is there, and what happens

    def move_in(self) -> None:
        """The account with all that it has, and the batch with its owner, as the services keep them."""
        user, batch = self.leaver, self.certification.batch_id
        row = {"id": user, "userid": user, "rootorgid": ORGANISATION, "status": 1, "email": f"enc-{user}"}
        self._insert("sunbird.user", **row, phone="enc-phone", username=f"enc-name-{user}", firstname="Learner")
        self._insert("sunbird.user_lookup", type="email", value=f"enc-{user}", userid=user)
        self._insert("sunbird.usr_external_identity", userid=user, idtype="school", provider="school", externalid=user)
        self._insert("sunbird.user_organisation", userid=user, organisationid=ORGANISATION, isdeleted=False)
        with self._profiles() as profiles:
            profiles.hset(f"user:{user}", mapping={"userid": user, "firstname": "Learner"})
        self._tell(f"keycloak-users/{quote(self._keycloak_id, safe='')}", {"username": user, "enabled": True})
        course = self.certification.course.id
        known = {"batchId": batch, "identifier": batch, "id": batch, "courseId": course, "createdBy": self.owner}
        known |= {"mentors": [self.owner, self.told.user_id], "status": 1, "enrollmentType": "open"}
        columns = {"createdby": self.owner, "mentors": known["mentors"]}
        self._insert("sunbird_courses.course_batch", courseid=course, batchid=batch, **columns)
        answer = requests.put(self._document(batch), json=known, params={"refresh": "true"}, timeout=CALL_SECONDS)
        answer.raise_for_status()
        self._tell(f"batches/{batch}", known)
        for who in (self.owner, self.heir):
            self._tell(f"users/{who}", {"rootOrgId": ORGANISATION})

    def act(self) -> None:
        """What the notification service and the user service say."""
        self._tell(f"users/{self.leaver}", {"rootOrgId": ORGANISATION})
        sender = Sender(str(self.environment["kafka.broker-servers"]))
        for job, edata in {NOTIFICATION: self._mail(), DELETION: self._deletion(), TRANSFER: self._transfer()}.items():
            event = {"eid": "BE_JOB_REQUEST", "ets": int(time.time() * 1000), "mid": f"LP.demo.{job}.{self.run}"}
            topic = f"{self.environment['job.env']}.{TOPICS[job]}"
            sender.send(topic, None, json.dumps({**event, "edata": edata}).encode())
        sender.finish()

    def _mail(self) -> dict[str, Any]:
        name = self.certification.learners[self.told].first_name
        text = f"<p>Dear {name}, your certificate of {self.certification.course.tree.name} is ready.</p>"
        notification = {"mode": "email", "ids": [self.address], "template": {"data": text}}
        notification["config"] = {"subject": "Your certificate is ready"}
        request = {"notification": notification}
        return {"action": "broadcast-topic-notification-all", "iteration": 1, "request": request}

    def _deletion(self) -> dict[str, Any]:
        return {"action": "delete-user", "iteration": 1, "userId": self.leaver, "organisationId": ORGANISATION}

    def _transfer(self) -> dict[str, Any]:
        profiles = {"fromUserProfile": {"userId": self.owner}, "toUserProfile": {"userId": self.heir}}
        return {"action": "ownership-transfer", "iteration": 1, "organisationId": ORGANISATION, **profiles}

    # --- what came of it

    def until_done(self) -> list[Happened]:
        """Wait until all is as it should be, or too long."""
        deadline = time.monotonic() + DONE_SECONDS
        while True:
            happened = self.happened()
            if all(each.right for each in happened) or time.monotonic() > deadline:
                return happened
            time.sleep(0.2)

    def happened(self) -> list[Happened]:
        """How things stand."""
        course = self.certification.course.id
        return [
            Happened(NOTIFICATION, f"tell {self.told.user_id} of a certificate", *self._letter()),
            Happened(DELETION, f"delete the account {self.leaver}", *self._left_of_the_account()),
            Happened(TRANSFER, f"give the batch of {course} to {self.heir}", *self._owned()),
        ]

    def _letter(self) -> tuple[str, bool]:
        sent = [mail for mail in mails(self.directory) if mail["recipients"] == [self.address]]
        texts = [_as_read(mail["message"]) for mail in sent]
        return (" / ".join(texts) or "no mail"), len(texts) == 1

    def _left_of_the_account(self) -> tuple[str, bool]:
        user = self.leaver
        row = self.session.execute("SELECT * FROM sunbird.user WHERE id = %s", [user]).one()
        lookup = "SELECT userid FROM sunbird.user_lookup WHERE type = 'email' AND value = %s"
        external = "SELECT externalid FROM sunbird.usr_external_identity WHERE userid = %s"
        member = "SELECT isdeleted FROM sunbird.user_organisation WHERE userid = %s"
        with self._profiles() as profiles:
            cached = bool(profiles.exists(f"user:{user}"))
        left = {
            "name, mail or phone": any((row.firstname, row.email, row.phone, row.username)) or row.status != 2,
            "a look-up": self.session.execute(lookup, [f"enc-{user}"]).one() is not None,
            "an external id": self.session.execute(external, [user]).one() is not None,
            "the cached profile": cached,
            "the membership": not self.session.execute(member, [user]).one().isdeleted,
            "the credentials": self._keycloak_id in self._known("keycloak-users"),
        }
        remains = [what for what, is_there in left.items() if is_there]
        return (f"left: {', '.join(remains)}" if remains else "nothing personal is left"), not remains

    def _owned(self) -> tuple[str, bool]:
        statement = "SELECT createdby, mentors FROM sunbird_courses.course_batch WHERE courseid = %s AND batchid = %s"
        ids = [self.certification.course.id, self.certification.batch_id]
        row = self.session.execute(statement, ids).one()
        found = requests.get(self._document(ids[1]), timeout=CALL_SECONDS).json()["_source"]
        mentors = [self.told.user_id, self.heir]
        right = (row.createdby, row.mentors) == (self.heir, mentors) and found["createdBy"] == self.heir
        right = right and sorted(found["mentors"]) == sorted(mentors)
        return f"owner {row.createdby}, mentors {', '.join(row.mentors)}; in the index {found['createdBy']}", right

    # --- the stores

    @property
    def _keycloak_id(self) -> str:
        return f"f:{self.environment['sunbird_keycloak_user_federation_provider_id']}:{self.leaver}"

    def _profiles(self) -> redis.Redis:
        host, port = self.environment["redis-meta.host"], self.environment["redis-meta.port"]
        return redis.Redis(host, port, PROFILES_DATABASE, socket_timeout=CALL_SECONDS)

    def _document(self, batch: str) -> str:
        return f"http://{self.environment['es.basePath']}/{INDEX}/_doc/{batch}"

    def _insert(self, table: str, **columns: Any) -> None:
        places = ", ".join(["%s"] * len(columns))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - names of our own
        self.session.execute(statement, list(columns.values()))

    def _tell(self, what: str, value: Any) -> None:
        address = f"{self.environment['service.userorg.basePath']}/stub/{what}"
        requests.put(address, json=value, timeout=CALL_SECONDS).raise_for_status()

    def _known(self, kind: str) -> dict[str, Any]:
        answer = requests.get(f"{self.environment['service.userorg.basePath']}/stub/{kind}", timeout=CALL_SECONDS)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


def _as_read(message: str) -> str:
    """Subject and text of a mail."""
    parsed = email.message_from_string(message, _class=EmailMessage, policy=email.policy.default)
    body = parsed.get_body(preferencelist=("html", "plain"))
    text = "" if body is None else str(body.get_content()).strip()
    return f"{parsed['subject']}: {text.removeprefix('<p>').removesuffix('</p>')}"


def problems(happened: Sequence[Happened]) -> list[str]:
    """A line for each that is not as it should be."""
    return [f"{each.job} was asked to {each.asked}: {each.found}" for each in happened if not each.right]
