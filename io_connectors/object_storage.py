"""Object stores of every kind behind one interface (spec: collection-certificate-generator §3.5.6)."""

from __future__ import annotations

import re
import tempfile
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import obstore
import requests
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from io_connectors.object_keys import checked_key
from io_connectors.one_per_process import one_per_process
from io_connectors.retries import retrying
from transforms.stores import StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import AzureAccessKey, GCSCredential, S3Credential

__all__ = ["KINDS", "ObjectStore", "StoredObjects"]

S3 = ("aws", "s3", "oci", "cephs3", "minio")
KINDS = ("azure", *S3, "gcloud", "local")
"""The values of ``cert_cloud_storage_type`` and ``cloud_storage_type``."""

# A file is sent in parts, some at a time: what it takes of memory.
PART_BYTES = 8 * 1024 * 1024
PARTS_AT_ONCE = 2

FOUR_PAUSES = (0.2, 1.0, 2.0, 5.0)
"""Seconds before the second to fifth try."""

AWS = "https://s3.amazonaws.com"
GOOGLE_TOKENS = "https://oauth2.googleapis.com/token"
GOOGLE_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
# what a bucket that names no region is in, and what the stores that know none are content with
_REGION = "us-east-1"
_REGION_IN_HOST = re.compile(r"\b(?:s3|objectstorage)[.-]([a-z]{2,}(?:-[a-z]+)+-\d+)\.")
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_LATER = frozenset({"408", "425", "429"})
_PLAIN_IN_PATHS = "/-_.~!$&'()*+,;=:@"

T = TypeVar("T")
Store = AzureStore | GCSStore | LocalStore | S3Store


@dataclass(frozen=True)
class ObjectStore:
    """The recipe of one container (or bucket) of a store; times in seconds.

    ``key`` and ``secret`` are by kind: Azure's account and its key; the S3 kinds' access key id and secret key;
    Google's client e-mail and private key (PEM); none for a local directory. ``endpoint`` may name another address than
    the kind's own: Azure's with all that stands before the container, S3's with path-style addressing from then on, or
    the local directory, by default the system's temporary one. ``read_base``: what the addresses of a local
    directory's objects begin with. ValueError, which names the setting (``settings`` is what its name begins with), for
    what can be no store. spec: collection-certificate-generator §3.5.6
    """

    kind: str
    container: str
    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    endpoint: str | None = None
    connect_timeout: float = 10.0
    timeout: float = 60.0
    retry_pauses: tuple[float, ...] = FOUR_PAUSES
    read_base: str | None = None
    settings: str = "cert_cloud_storage"
    container_setting: str = "cert_container_name"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.settings}_type: {self.kind!r} is none of {', '.join(KINDS)}")
        if not self.container:
            raise ValueError(f"{self.container_setting} is not set")
        for name in ("key", "secret"):
            if self.kind != "local" and not getattr(self, name):
                raise ValueError(f"{self.settings}_{name} is not set, which {self.kind} needs")
        if self.kind == "azure":
            _account_key(self)
        elif self.kind == "gcloud":
            _service_account(self)

    @property
    def address(self) -> str:
        """What messages call the store."""
        return f"object store {self.kind}{f' at {self.endpoint}' if self.endpoint else ''}, container {self.container}"

    def open(self) -> StoredObjects:
        """The process' client for this recipe; it connects when it is first asked for something."""
        return one_per_process(self, lambda: StoredObjects(self))


class _Away(Exception):
    """The store, or the way to it, failed; the call may be made again."""


class StoredObjects:
    """The client (``transforms.services.Objects``); any number of threads may use it.

    No answer, and any status that may be another one later, is tried again; the last failure raises StoreUnavailable,
    and so does at once a refusal: a wrong key, a missing container. ValueError for an object's key that no store can
    hold.
    """

    def __init__(self, recipe: ObjectStore) -> None:
        self._recipe = recipe
        self._opened: Store | None = None

    def put(self, key: str, content: bytes, content_type: str) -> None:
        """Write an object, in place of one that is there. spec: collection-certificate-generator §3.5.6"""
        # a directory has no place for the type
        attributes = {} if self._recipe.kind == "local" else {"Content-Type": content_type}
        try:
            self._tried(
                lambda store: obstore.put(
                    store, checked_key(key), content, attributes=attributes or None, use_multipart=False
                )
            )
        except FileNotFoundError:
            raise StoreUnavailable(f"{self._recipe.address}: there is no such container") from None

    def put_file(self, key: str, file: Path, content_type: str) -> str:
        """Write a file as object, in place of one that is there, a part at a time; the object's absolute address.

        spec: content-auto-creator §3.7
        """
        attributes = {} if self._recipe.kind == "local" else {"Content-Type": content_type}
        is_large = file.stat().st_size > PART_BYTES
        # what is not there is not found below either, but then it is the container
        file.open("rb").close()
        try:
            self._tried(
                lambda store: obstore.put(
                    store,
                    checked_key(key),
                    file,
                    attributes=attributes or None,
                    use_multipart=is_large,
                    chunk_size=PART_BYTES,
                    max_concurrency=PARTS_AT_ONCE,
                )
            )
        except FileNotFoundError:
            raise StoreUnavailable(f"{self._recipe.address}: there is no such container") from None
        return self.url(key)

    def url(self, key: str) -> str:
        """The absolute address of an object, as everybody would read it."""
        return f"{_read_base(self._recipe, self._store)}/{quote(checked_key(key), safe=_PLAIN_IN_PATHS)}"

    def size(self, key: str) -> int | None:
        """The bytes of an object, as the store says (a HEAD request); None when there is none."""
        try:
            return self._tried(lambda store: int(obstore.head(store, checked_key(key))["size"]))
        except FileNotFoundError:
            return None

    def get(self, key: str) -> bytes | None:
        """An object; None when there is none."""
        try:
            return self._tried(lambda store: bytes(obstore.get(store, checked_key(key)).bytes()))
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        """Remove an object; nothing to do when there is none."""
        try:
            self._tried(lambda store: obstore.delete(store, checked_key(key)))
        except FileNotFoundError:
            return

    def _store(self) -> Store:
        opened = self._opened
        if opened is None:
            # AWS may be asked for the region. Threads that find none at once ask at once: none waits for another's
            # time-outs
            opened = self._opened = _store(self._recipe)
        return opened

    def _tried(self, call: Callable[[Store], T]) -> T:
        def once() -> T:
            try:
                return call(self._store())
            except FileNotFoundError:
                # its text holds the whole answer
                raise FileNotFoundError(self._recipe.address) from None
            except (BaseError, OSError) as error:
                raise _failure(self._recipe.address, error) from None

        try:
            return retrying(self._recipe.retry_pauses, _Away)(once)
        except _Away as error:
            raise StoreUnavailable(f"{self._recipe.address} stays away: {error}") from None


def _failure(address: str, error: Exception) -> Exception:
    """Whether to try again; without the error's text, which quotes what was sent and answered."""
    status = _STATUS.search(str(error))
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return StoreUnavailable(f"{address}: the key or secret is refused")
    if status is None:
        return _Away(f"no answer ({type(error).__name__})")
    if status[1].startswith("4") and status[1] not in _LATER:
        return StoreUnavailable(f"{address}: status {status[1]}")
    return _Away(f"status {status[1]}")


# --- the kinds


def _read_base(recipe: ObjectStore, opened: Callable[[], Store]) -> str:
    """What stands before the key in an object's address."""
    endpoint = recipe.endpoint and _with_scheme(recipe.endpoint).rstrip("/")
    if recipe.kind == "local":
        return f"{(recipe.read_base or '').rstrip('/')}/{recipe.container}"
    if recipe.kind == "azure":
        return f"{endpoint or f'https://{recipe.key}.blob.core.windows.net'}/{recipe.container}"
    if recipe.kind == "gcloud":
        return f"{endpoint or 'https://storage.googleapis.com'}/{recipe.container}"
    if endpoint:
        return f"{endpoint}/{recipe.container}"
    store: Any = opened()
    own = str(store.config["endpoint"])
    return own if recipe.container in own else f"{own}/{recipe.container}"


def _store(recipe: ObjectStore) -> Store:
    if recipe.kind == "local":
        directory = Path(recipe.endpoint or tempfile.gettempdir()) / recipe.container
        return LocalStore(directory, mkdir=True)
    common: Any = {
        "client_options": {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=recipe.connect_timeout),
            "timeout": timedelta(seconds=recipe.timeout),
        },
        # what fails is tried again here, like everywhere else
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(0)},
        # whatever the process environment says
        "skip_signature": False,
    }
    endpoint = recipe.endpoint and _with_scheme(recipe.endpoint)
    if recipe.kind in S3:
        return S3Store(**common, **_s3(recipe, endpoint))
    if recipe.kind == "azure":
        return AzureStore(**common, **_azure(recipe, endpoint))
    return GCSStore(**common, **_google(recipe, endpoint))


def _s3(recipe: ObjectStore, endpoint: str | None) -> dict[str, Any]:
    key, secret = recipe.key or "", recipe.secret or ""
    region = _region(recipe, endpoint)
    # no certificate is for two names before the host's own
    in_host = not endpoint and "." not in recipe.container
    own = f"https://{recipe.container}.s3.{region}.amazonaws.com" if in_host else f"https://s3.{region}.amazonaws.com"

    def credentials() -> S3Credential:
        return {"access_key_id": key, "secret_access_key": secret, "token": None, "expires_at": None}

    return {
        "bucket": recipe.container,
        "endpoint": endpoint or own,
        "region": region,
        "virtual_hosted_style_request": in_host,
        # not every store has bulk deletion
        "disable_bulk_delete": True,
        "credential_provider": credentials,
    }


def _region(recipe: ObjectStore, endpoint: str | None) -> str:
    """The region that a request has to be signed for: the endpoint's, or the one that AWS says the bucket is in."""
    if endpoint:
        found = _REGION_IN_HOST.search(endpoint)
        return found[1] if found else _REGION
    answer = _session().head(
        f"{AWS}/{recipe.container}", allow_redirects=False, timeout=(recipe.connect_timeout, recipe.timeout)
    )
    return answer.headers.get("x-amz-bucket-region", _REGION)


def _azure(recipe: ObjectStore, endpoint: str | None) -> dict[str, Any]:
    secret = _account_key(recipe)

    def credentials() -> AzureAccessKey:
        return {"access_key": secret, "expires_at": None}

    return {
        "container_name": recipe.container,
        "account_name": recipe.key,
        "endpoint": endpoint or f"https://{recipe.key}.blob.core.windows.net",
        "credential_provider": credentials,
    }


def _account_key(recipe: ObjectStore) -> str:
    secret = recipe.secret or ""
    try:
        b64decode(secret, validate=True)
    except ValueError:
        raise ValueError(f"{recipe.settings}_secret is no account key in base64") from None
    return secret


def _google(recipe: ObjectStore, endpoint: str | None) -> dict[str, Any]:
    account = _service_account(recipe)
    exchange = partial(Request(_session()), timeout=recipe.timeout)

    def credentials() -> GCSCredential:
        account.refresh(exchange)
        return {"token": account.token, "expires_at": account.expiry.replace(tzinfo=UTC)}

    return {
        "bucket": recipe.container,
        "credential_provider": credentials,
        **({"base_url": endpoint} if endpoint else {}),
    }


def _service_account(recipe: ObjectStore) -> Any:
    account = {
        "client_email": recipe.key,
        # many settings files can hold no line end
        "private_key": (recipe.secret or "").replace("\\n", "\n"),
        "token_uri": GOOGLE_TOKENS,
    }
    try:
        return Credentials.from_service_account_info(account, scopes=[GOOGLE_SCOPE])  # type: ignore[no-untyped-call]
    except ValueError:
        raise ValueError(f"{recipe.settings}_secret is no private key (PEM)") from None


def _session() -> requests.Session:
    session = requests.Session()
    # The process environment counts only where a configuration file says so.
    session.trust_env = False
    return session


def _with_scheme(address: str) -> str:
    return address if "://" in address else f"https://{address}"
