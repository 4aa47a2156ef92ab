"""The progress job's rules once more, as naively as the spec tells them: one event after the other, no batches.

Written from activity-aggregate-updater §2 and §3 alone, to compare the real transforms with.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reference:
    """Tables, keys and emitted events, as plain dictionaries and lists. Times and random ids are left out."""

    leaf: dict[tuple[str, str], set[str]]
    optional: dict[tuple[str, str], set[str]]
    ancestors: dict[tuple[str, str], set[str]]
    collection_status: dict[str, str]
    consumption: dict[tuple[str, str, str, str], dict[str, Any]] = field(default_factory=dict)
    enrolments: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    aggregates: dict[tuple[str, str, str], int] = field(default_factory=dict)
    checksums: set[str] = field(default_factory=set)
    emitted: list[tuple[Any, ...]] = field(default_factory=list)
    dedup: bool = True
    units: bool = True
    skip_completed: bool = True

    def handle(self, parsed: dict[str, Any]) -> None:  # noqa: C901 - one rule after the other, as the spec has them
        edata = parsed["edata"]
        user, course, batch = edata["userId"], edata["courseId"], edata["batchId"]
        reported = [entry["contentId"] for entry in edata["contents"] if entry["status"] == 2]

        times: dict[str, int] = {}
        for content in reported:
            if not self.dedup:
                times[content] = times.get(content, 0) + 1
            elif self._checksum(user, course, batch, content) not in self.checksums:
                times[content] = 1
        if not times:
            return

        merged = {}
        for (u, c, b, content), row in self.consumption.items():
            if (u, c, b) == (user, course, batch):
                merged[content] = {
                    "status": 1 if row.get("status") is None else row["status"],
                    "view": row.get("viewcount") or 0,
                    "completed": row.get("completedcount") or 0,
                    "input": False,
                    "actions": [],
                }
        for content, k in times.items():
            old = merged.get(content, {"status": 0, "view": 0, "completed": 0})
            actions = []
            if old["view"] == 0:
                actions.append("start")
            if old["completed"] == 0:
                actions.append("complete")
            merged[content] = {
                "status": max(2, old["status"]),
                "view": old["view"] + k,
                "completed": old["completed"] + k,
                "input": True,
                "actions": actions,
            }
        finished = {content for content, m in merged.items() if m["status"] == 2}

        leaf = self.leaf.get((course, course), set())
        store_checksums = True
        if not leaf:
            self.emitted.append(("failed", user, course, batch, copy.deepcopy(merged)))
            if self.collection_status.get(course) != "Retired":
                return
            store_checksums = False

        writes: dict[tuple[str, str, str], int] = {}
        if leaf:
            required = leaf - self.optional.get((course, course), set())
            done = len(required & finished)
            complete = done >= len(required)
            writes[user, course, batch] = done
        if self.units:
            above = set()
            for content in merged:
                above |= self.ancestors.get((course, content), set())
            for unit in above - {course}:
                leaf_u = self.leaf.get((course, unit), set())
                if leaf_u:
                    writes[user, unit, batch] = len((leaf_u - self.optional.get((course, unit), set())) & finished)

        for content in times:
            row = self.consumption.setdefault((user, course, batch, content), {})
            row["viewcount"] = merged[content]["view"]
            row["completedcount"] = merged[content]["completed"]
        self.aggregates.update(writes)

        newly_complete = False
        if leaf:
            enrolment = self.enrolments.get((user, course, batch))
            if enrolment is not None:
                was_completed = (enrolment.get("status") or 0) == 2
                if not (was_completed and (self.skip_completed or not complete)):
                    enrolment["progress"] = done
                    enrolment["contentstatus"] = {content: m["status"] for content, m in merged.items()}
                    if complete:
                        enrolment["status"] = 2
                        enrolment["completedon"] = True
                        newly_complete = True
                    else:
                        enrolment["status"] = 1

        for content in times:
            for action in merged[content]["actions"]:
                self.emitted.append(("audit", user, course, batch, content, action))
        if newly_complete:
            self.emitted.append(("certificate", user, course, batch))
            self.emitted.append(("enrol-complete", user, course, batch))
        if store_checksums and self.dedup:
            self.checksums |= {self._checksum(user, course, batch, content) for content in times}

    @staticmethod
    def _checksum(user: str, course: str, batch: str, content: str) -> str:
        return hashlib.md5(f"{course}|{batch}|{user}|{content}|2".encode()).hexdigest().upper()  # noqa: S324
