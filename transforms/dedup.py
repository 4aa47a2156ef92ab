"""De-duplication by checksum (spec: core §5)."""

from __future__ import annotations

import hashlib

from transforms.consumption import COMPLETED, Enrolment

__all__ = ["checksum"]


def checksum(enrolment: Enrolment, content_id: str, status: int = COMPLETED) -> str:
    """The upper-case MD5 of ``courseId|batchId|userId|contentId|status``: the Redis key of a consumption. spec: core §5

    >>> checksum(Enrolment("u-1", "do_2139001", "0139001"), "do_31")
    '73F4DC73F13024F0E870B69118343E37'
    """
    user_id, course_id, batch_id = enrolment
    text = f"{course_id}|{batch_id}|{user_id}|{content_id}|{status}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()
