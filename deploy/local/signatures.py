"""What the encryption service does with a document: it orders it, signs it with RSA, and says whether a signature fits.

spec: collection-certificate-generator §3.5.3
"""

import base64
import threading
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KEY_BITS = 2048
PADDING = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=16)


class Keys:
    """RSA keys by their id, each made when it is first asked for."""

    def __init__(self) -> None:
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        self._lock = threading.Lock()

    def public_pem(self, key_id: str) -> str:
        """The public half of a key."""
        public = self._key(key_id).public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return public.public_bytes(serialization.Encoding.PEM, form).decode()

    def sign(self, key_id: str, document: Any) -> str:
        """The signature of a document in base64. Raises ValueError for one that holds a null."""
        return base64.b64encode(self._key(key_id).sign(canonical(document), PADDING, hashes.SHA256())).decode()

    def fits(self, key_id: str, document: Any, signature: str) -> bool:
        """Whether the signature (base64) is the key's for this document."""
        try:
            signed = base64.b64decode(signature, validate=True)
            self._key(key_id).public_key().verify(signed, canonical(document), PADDING, hashes.SHA256())
        except (InvalidSignature, ValueError):
            return False
        return True

    def _key(self, key_id: str) -> rsa.RSAPrivateKey:
        with self._lock:
            if key_id not in self._keys:
                self._keys[key_id] = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
            return self._keys[key_id]


def canonical(document: Any) -> bytes:
    """The text that is signed: members by name, arrays sorted, compact JSON in UTF-8. Raises ValueError for a null."""
    return orjson.dumps(_ordered(document))


def _ordered(value: Any) -> Any:
    match value:
        case None:
            raise ValueError("the service fails on null")
        case dict():
            return {name: _ordered(value[name]) for name in sorted(value, key=_units)}
        case list():
            return sorted(map(_ordered, value), key=_place)
        case float() if value.is_integer():
            return int(value)  # as JavaScript writes it
        case _:
            return value


def _place(item: Any) -> bytes:
    if isinstance(item, dict | list):
        return base64.b64encode(orjson.dumps(item))
    return _units(item if isinstance(item, str) else orjson.dumps(item).decode())


def _units(text: str) -> bytes:
    """A text as JavaScript compares it: by UTF-16 code units."""
    return text.encode("utf-16-be")
