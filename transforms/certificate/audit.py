"""Telemetry about certificates (spec: collection-certificate-generator §3.8, legacy-certificate-migrator §3.6)."""

from __future__ import annotations

from collections.abc import Callable

import orjson

__all__ = ["ISSUED", "MIGRATED", "certificate_audit"]

ISSUED = "certificate-issued-svg"
MIGRATED = "certificate-migrated-svg"


def certificate_audit(
    *,
    user_id: str,
    course_id: str,
    batch_id: str,
    certificate_id: str,
    kind: str = ISSUED,
    now: int,
    new_id: Callable[[], str],
) -> bytes:
    """The AUDIT event of one certificate, as JSON; ``now`` in epoch milliseconds, ``new_id`` gives random UUIDs."""
    return orjson.dumps(
        {
            "eid": "AUDIT",
            "ets": now,
            "mid": f"LP.AUDIT.{now}.{new_id()}",
            "ver": "3.0",
            "actor": {"id": user_id, "type": "User"},
            "context": {
                "channel": "in.ekstep",
                "env": "Course",
                "sid": new_id(),
                "did": new_id(),
                "pdata": {"ver": "1.0", "id": "org.sunbird.learning.platform", "pid": "course-certificate-generator"},
                "cdata": [{"type": "CourseBatch", "id": batch_id}],
            },
            "object": {"id": certificate_id, "type": "Certificate", "rollup": {"l1": course_id}},
            "edata": {"props": ["certificates"], "type": kind},
        }
    )
