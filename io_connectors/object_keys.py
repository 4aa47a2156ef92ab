"""The keys of objects (spec: collection-certificate-generator §3.5.6)."""

from __future__ import annotations

__all__ = ["checked_key"]


def checked_key(key: str) -> str:
    """The key. ValueError when no store can hold it: no Unicode, or a part between slashes that is empty or dots."""
    key.encode()
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"no store can hold an object with the key {key!r}")
    return key
