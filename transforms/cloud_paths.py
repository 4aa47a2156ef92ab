"""Addresses of files in the cloud store, which are kept without the store's address in front."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CloudPaths"]


@dataclass(frozen=True)
class CloudPaths:
    """What stands for the placeholder: the address that ``cname_url`` or, when that is empty, ``base_url`` gives.

    spec: collection-cert-pre-processor §3.7, collection-certificate-generator §3.1
    """

    placeholder: str
    base_url: str
    cname_url: str
    container: str

    def resolve(self, url: str) -> str:
        """``url`` with every placeholder replaced by the store's address and the container of contents."""
        if not self.placeholder:
            return url
        return url.replace(self.placeholder, f"{self.cname_url or self.base_url}/{self.container}")
