"""The counters of a job on Flink, as Flink's REST interface has them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from io_connectors.flink import Flink, FlinkJob
from schemas.counters import COUNTERS

__all__ = ["counters_of"]

# While a job runs, each task has its counters as metrics. When it ended, what Beam counted is in an accumulator.
_ACCUMULATOR = "__metricscontainers"
_USER_COUNTER = "beam:metric:user:sum_int64:v1"
# metrics are asked for by name in the address, and their names are long
_NAMES_AT_ONCE = 20


def counters_of(flink: Flink, job_id: str, job_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """The counters of each of these jobs, which run as one: the names of its spec's §7, 0 for what was not counted yet.

    What a running job counted is known to Flink after a moment (metrics.fetcher.update-interval), and begins anew when
    the job is restarted. Raises requests.RequestException. spec: core §11
    """
    counted = {job_name: dict.fromkeys(COUNTERS.get(job_name, ()), 0) for job_name in job_names}
    path = f"jobs/{job_id}"
    job = flink.get(path)
    if FlinkJob(job_id, "", job["state"]).lives:
        found = _measured(flink, f"{path}/vertices", [vertex["id"] for vertex in job["vertices"]], job_names)
    else:
        found = _accumulated(flink.get(f"{path}/accumulators"))
    for job_name, name, number in found:
        if job_name in counted:
            counted[job_name][name] = counted[job_name].get(name, 0) + number
    return counted


def _measured(
    flink: Flink, vertices: str, ids: Sequence[str], job_names: Sequence[str]
) -> Iterator[tuple[str, str, int]]:
    """Of each task: its number, the operator, the namespace and the name of the counter make the metric's name."""
    # Flink parts the name of a metric by dots, and has none within a part: user-cache-updater-2_0
    jobs = {job_name.replace(".", "_"): job_name for job_name in job_names}
    ours = re.compile(rf".*\.({'|'.join(map(re.escape, jobs))})_(.*)")
    for vertex in ids:
        path = f"{vertices}/{vertex}/metrics"
        there = {metric["id"]: found for metric in flink.get(path) if (found := ours.fullmatch(metric["id"]))}
        names = list(there)
        for start in range(0, len(names), _NAMES_AT_ONCE):
            for metric in flink.get(path, get=",".join(names[start : start + _NAMES_AT_ONCE])):
                job_name, name = there[metric["id"]].groups()
                yield jobs[job_name], name, int(metric["value"])


def _accumulated(accumulators: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    for accumulator in accumulators["user-task-accumulators"]:
        if accumulator["name"] == _ACCUMULATOR:
            for info in json.loads(accumulator["value"])["metrics"].get("attempted", ()):
                labels = info.get("labels", {})
                if info["urn"] == _USER_COUNTER:
                    yield labels["NAMESPACE"], labels["NAME"], _number(info.get("payload", ""))


def _number(payload: str) -> int:
    """An integer of variable length: seven bits to a byte, the lowest first."""
    return sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(base64.b64decode(payload)))
