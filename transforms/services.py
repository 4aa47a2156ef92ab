"""What a transform may ask of Sunbird's services and of other stores that speak HTTP: small interfaces.

The clients live in ``io_connectors``. Three things can go wrong with a call, and a step must treat each differently:

* ``ServiceRefused``: the service answered, and asking again would give the same answer. The fault is in the data.
* ``StoreUnavailable``: no answer, or one that says "later", after bounded retries. The bundle fails and is repeated.
* ``OutcomeUnknown``: a create was sent, and nobody can say whether it was done. It must not be repeated blindly.

No message of theirs holds personal data, a key or an answer's body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from transforms.stores import StoreUnavailable

__all__ = [
    "Accounts",
    "Batches",
    "CertificateRegistry",
    "ContentReads",
    "ContentSearch",
    "Contents",
    "Contributors",
    "Credentials",
    "Directories",
    "Documents",
    "Downloads",
    "Drive",
    "DriveBusy",
    "DriveFile",
    "FileObjects",
    "FileTooLarge",
    "Frameworks",
    "Graph",
    "Hierarchies",
    "Identities",
    "ImportedContents",
    "JsonReads",
    "Mails",
    "Objects",
    "OutcomeUnknown",
    "Pushes",
    "Reply",
    "ServiceAnswer",
    "ServiceRefused",
    "Signing",
    "Templates",
    "TextMessages",
    "UserBlocked",
    "UserProfiles",
    "Users",
    "WritesContents",
]


class ServiceRefused(Exception):
    """A service's final word; the message names the service and the status, never what was sent or answered."""


class UserBlocked(ServiceRefused):
    """The account is deleted or blocked (400 with ``UOS_USRRED0006`` or ``USER_ACCOUNT_BLOCKED`` in the body)."""


class OutcomeUnknown(StoreUnavailable):
    """A create was sent (read time-out, 502, 504), and whether it was done is not known."""


class FileTooLarge(ServiceRefused):
    """A file has more bytes than the limit."""


class DriveBusy(StoreUnavailable):
    """Google Drive asks to come back later: a rate limit, or an error of its own."""


class Reply(NamedTuple):
    """What a service answered, whatever its status: ``result``, empty when there is none, and the body as text."""

    status: int
    result: dict[str, Any]
    text: str = ""


class Contents(Protocol):
    """The content service (spec: collection-cert-pre-processor §3.5, §3.7)."""

    def metadata(self, content_id: str) -> dict[str, Any] | None:
        """``result.content`` of a content; None when there is none or the service fails in any way, after retries."""
        ...

    def course_name(self, course_id: str) -> str:
        """The name of a course, ``""`` when it has none. Raises ServiceRefused, StoreUnavailable."""
        ...


class ContentReads(Protocol):
    """One address under which contents are read (spec: assessment-aggregator §3.4)."""

    def read(self, content_id: str) -> dict[str, Any]:
        """``result.content`` of a content, empty when there is none. The status of the answer does not count.

        Raises ServiceRefused when the answer's ``responseCode`` is not OK, and when there is none after retries.
        """
        ...


class ContentSearch(Protocol):
    """The search service, asked for contents (spec: content-auto-creator §3.2)."""

    def search(self, request: Mapping[str, Any]) -> Reply:
        """The answer to ``{"request": request}``. Raises StoreUnavailable, ServiceRefused."""
        ...


class Hierarchies(Protocol):
    """The trees of collections, in the content service (spec: content-auto-creator §3.5)."""

    def hierarchy(self, collection_id: str) -> Reply:
        """The tree as the editor sees it. Raises StoreUnavailable, ServiceRefused."""
        ...

    def add_to_hierarchy(self, collection_id: str, unit_id: str, child_id: str) -> Reply:
        """Put a child into a unit; once more changes nothing. Raises StoreUnavailable, ServiceRefused."""
        ...


class WritesContents(Hierarchies, Protocol):
    """The content service as those use it who make contents (spec: content-auto-creator §3.4).

    Every method gives any answer, whatever its status, and raises StoreUnavailable when there is none, ServiceRefused
    for what can not be sent or read. Only ``read`` is tried again.
    """

    def create(self, channel: str, content: Mapping[str, Any]) -> Reply: ...

    def read(self, channel: str, content_id: str) -> Reply:
        """As the editor sees it."""
        ...

    def update(self, channel: str, content_id: str, content: Mapping[str, Any]) -> Reply: ...

    def upload(self, channel: str, content_id: str, file_url: str, file_format: str | None) -> Reply:
        """Name the file of a content, by an address of the own store."""
        ...

    def review(self, channel: str, content_id: str) -> Reply: ...

    def publish(self, channel: str, content_id: str, published_by: Any) -> Reply: ...

    def system_update(self, channel: str, content_id: str, content: Mapping[str, Any]) -> Reply: ...


class JsonReads(Protocol):
    """JSON documents at any address (spec: auto-creator-v2 §3.1, §3.2)."""

    def read(self, url: str) -> dict[str, Any]:
        """The object that a 200 brings. Raises ServiceRefused for everything else, StoreUnavailable."""
        ...


class Downloads(Protocol):
    """Files at any address of http and https (spec: content-auto-creator §3.6)."""

    def fetch(self, url: str, to: Path, limit: int) -> int:
        """Write a file, which is never in memory as a whole, to a path; its size in bytes.

        Raises FileTooLarge (more bytes than the limit), ServiceRefused (any other final answer, no address of http, too
        slow), StoreUnavailable.
        """
        ...


class DriveFile(NamedTuple):
    """A file of Google Drive; the size in bytes is None where Drive knows none."""

    id: str
    name: str
    mime_type: str
    size: int | None


class Drive(Protocol):
    """Google Drive (spec: content-auto-creator §3.6). Every method may raise DriveBusy, ServiceRefused and
    StoreUnavailable."""

    def about(self, file_id: str) -> DriveFile: ...

    def fetch(self, file_id: str, to: Path, limit: int) -> int:
        """As ``Downloads.fetch``."""
        ...


class Directories(Protocol):
    """Where files are while they are worked on."""

    def directory(self, name: str) -> AbstractContextManager[Path]:
        """An empty directory of its own for the time of a ``with``; all in it goes with it, whatever happens."""
        ...


class Graph(Protocol):
    """Neo4j: nodes of one label by their id (spec: content-auto-creator §3.2, auto-creator-v2 §3.7).

    Every method raises Refused for what the graph can not hold, StoreUnavailable.
    """

    def get_node(self, node_id: str) -> dict[str, Any] | None:
        """The properties of a node; None when there is none."""
        ...

    def merge_node(self, node_id: str, properties: Mapping[str, Any]) -> None:
        """Make the node, or set these properties of it; None removes one, those that are not named stay."""
        ...


class Users(Protocol):
    """The user and organisation service (spec: collection-cert-pre-processor §3.6, generator §3.9, §3.10)."""

    def user(self, user_id: str) -> dict[str, Any] | None:
        """The user with organisations, roles and locations (pre-processor §3.6); None when missing or empty.

        Raises UserBlocked, ServiceRefused, StoreUnavailable.
        """
        ...

    def profile(self, user_id: str) -> dict[str, Any] | None:
        """The plain user (generator §3.9); as ``user`` otherwise."""
        ...

    def notify(self, request: Mapping[str, Any]) -> None:
        """Send an e-mail or SMS: ``{"request": request}``. Tried once. Raises ServiceRefused, StoreUnavailable."""
        ...

    def feed(self, request: Mapping[str, Any]) -> None:
        """Put an entry into a user's feed: ``{"request": request}``. Tried once. Raises as ``notify``."""
        ...


class UserProfiles(Protocol):
    """The user read of the user service (spec: user-cache-updater §3.3, §6). Answers count by what they say."""

    def read(self, user_id: str) -> dict[str, Any]:
        """``result.response`` of a user, never empty. Raises UserBlocked, ServiceRefused, StoreUnavailable."""
        ...


class Frameworks(Protocol):
    """The framework read of the taxonomy service (spec: user-cache-updater §3.3, §6)."""

    def categories(self, framework_id: str) -> tuple[str, ...]:
        """The codes of a framework's categories, remembered for a while; none when the service knows no such framework.

        Raises StoreUnavailable.
        """
        ...


class Accounts(Protocol):
    """The user read of the userorg service, where each status means something (spec: user-deletion-cleanup §3.1)."""

    def read(self, user_id: str) -> dict[str, Any] | None:
        """The user of a 200, empty when the answer has none; None for a 404.

        Raises UserBlocked for any 400, ServiceRefused for what is no id, StoreUnavailable for everything else.
        """
        ...


class Batches(Protocol):
    """The batch search of the LMS (spec: user-ownership-transfer §3.2)."""

    def search(self, filters: Mapping[str, Any], fields: Sequence[str]) -> list[dict[str, Any]]:
        """All batches that fit, page by page. Raises ServiceRefused for a 400, else StoreUnavailable."""
        ...


class Identities(Protocol):
    """Keycloak's users (spec: user-deletion-cleanup §3.5). Every method raises ServiceRefused, StoreUnavailable."""

    def has(self, user_id: str) -> bool:
        """Whether Keycloak knows the user."""
        ...

    def remove(self, user_id: str) -> bool:
        """Remove the user, or disable and blank it where Keycloak does not let it go; False: it knows no such user."""
        ...


class Credentials(Protocol):
    """Sunbird RC, for one entity (spec: collection-certificate-generator §3.4, §3.7, §3.11, §6)."""

    def key_id(self) -> str:
        """``osid`` of the first public key, remembered for 5 minutes. Raises ServiceRefused, StoreUnavailable."""
        ...

    def create(self, request: Mapping[str, Any]) -> str:
        """Make a record: its osid. Raises ServiceRefused, StoreUnavailable (surely not made), OutcomeUnknown."""
        ...

    def search(self, filters: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
        """The records that fit; none for a 404. Raises ServiceRefused, StoreUnavailable."""
        ...

    def delete(self, osid: str) -> bool:
        """Whether RC had the record and removed it (200); False for any other final answer. Raises StoreUnavailable."""
        ...


class CertificateRegistry(Protocol):
    """The certificate registry of legacy certificates (spec: collection-certificate-generator §3.5.7)."""

    def add(self, request: Mapping[str, Any]) -> None:
        """Register: ``{"request": request}``. Raises ServiceRefused, StoreUnavailable, OutcomeUnknown."""
        ...


class Signing(Protocol):
    """The encryption service (spec: collection-certificate-generator §3.5.3)."""

    def sign(self, key_id: str, entity: Mapping[str, Any]) -> str:
        """The signature of a document in base64. Raises ServiceRefused, StoreUnavailable."""
        ...


class Templates(Protocol):
    """SVG templates at http and https addresses (spec: collection-certificate-generator §3.5.5)."""

    def fetch(self, url: str) -> str:
        """The text of a template, UTF-8. Raises ServiceRefused (404 and other final answers, no http address, not
        UTF-8, larger than the limit), StoreUnavailable."""
        ...


class Objects(Protocol):
    """One container of an object store (spec: collection-certificate-generator §3.5.6)."""

    def put(self, key: str, content: bytes, content_type: str) -> None:
        """Write an object, in place of one that is there. Up to 5 tries, then raises StoreUnavailable."""
        ...

    def get(self, key: str) -> bytes | None:
        """An object; None when there is none. Raises StoreUnavailable."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing to do when there is none. Raises StoreUnavailable."""
        ...


class ServiceAnswer(NamedTuple):
    """What a service answered: the status, and the JSON object of the body, empty when it is none."""

    status: int
    body: Mapping[str, Any]


class Contributors(Protocol):
    """The contribution service of coKreat (spec: cokreat-user-delete §3)."""

    def delete_user(self, user_id: str) -> ServiceAnswer:
        """What it answers to the deletion of a user; a 5xx is asked again, and the last one is given.

        Raises ServiceRefused for an id that can not be sent, StoreUnavailable when no answer came.
        """
        ...


class ImportedContents(Protocol):
    """A repository of contents (spec: metrics-data-transformer §3). 5xx and 429 are asked again, within bounds."""

    def read(self, content_id: str) -> dict[str, Any]:
        """``result.content``, empty when there is none (404 too). Raises ServiceRefused, StoreUnavailable."""
        ...

    def update(self, content_id: str, channel: str, values: Mapping[str, Any]) -> bool:
        """Set members of a content; False when the answer is one that is not minded. Raises as ``read``."""
        ...


class FileObjects(Protocol):
    """One container of an object store whose objects are files that others read (spec: content-auto-creator §3.7).

    Every method raises StoreUnavailable, after up to 5 tries, and ValueError for a key that no store can hold.
    """

    def put_file(self, key: str, file: Path, content_type: str) -> str:
        """Write a file, a part at a time, in place of an object that is there; its absolute address."""
        ...

    def size(self, key: str) -> int | None:
        """The bytes of an object, as the store says; None when there is none."""
        ...


class Documents(Protocol):
    """Elasticsearch (spec: core §9). Top-level strings above 32,000 characters are cut before a write.

    Every method raises StoreUnavailable after bounded retries, and ``Refused`` for a final error of one document.
    """

    def index(self, index: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Write documents by id, each in full, in bulk."""
        ...

    def update(self, index: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Merge documents by id into those that are there, or create them, in bulk."""
        ...

    def change(self, index: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Merge documents by id into those that are there, in bulk; one that is not there stays so.

        Searches find what was changed once this returns.
        """
        ...

    def get(self, index: str, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """The documents, None where there is none."""
        ...

    def delete(self, index: str, ids: Sequence[str]) -> list[bool]:
        """Remove documents; whether each was there. A missing index is like a missing document."""
        ...

    def has_index(self, index: str) -> bool:
        """Whether there is such an index or alias."""
        ...


class Mails(Protocol):
    """A mail server. Raises ServiceRefused and StoreUnavailable (surely not sent), OutcomeUnknown."""

    def send(self, recipients: Sequence[str], subject: str | None, html: str, identifier: str | None = None) -> None:
        """Send one mail to all recipients, none of whom sees another, or to nobody.

        ``identifier``: the same for the same mail, so that who gets it twice can tell. spec: notification-job §3.1
        """
        ...


class TextMessages(Protocol):
    """A provider of SMS. Raises as ``Mails``."""

    def send(self, numbers: Sequence[str], text: str) -> None:
        """Send a text to all numbers. spec: notification-job §3.2"""
        ...


class Pushes(Protocol):
    """Firebase Cloud Messaging. Raises as ``Mails``. What is given are the provider's counts, where it says any."""

    def to_devices(self, tokens: Sequence[str], data: Mapping[str, Any]) -> dict[str, int]:
        """Send to devices. spec: notification-job §3.3"""
        ...

    def to_topic(self, topic: str, data: Mapping[str, Any]) -> dict[str, int]:
        """Send to all that have subscribed to a topic. spec: notification-job §3.3"""
        ...
