"""The counters of a job on Flink, as Flink's REST interface has them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import requests

from schemas.counters import COUNTERS

TIMEOUT_SECONDS = 60

# While a job runs, each task has its counters as metrics. When it ended, what Beam counted is in an accumulator.
_ACCUMULATOR = "__metricscontainers"
_USER_COUNTER = "beam:metric:user:sum_int64:v1"
# metrics are asked for by name in the address, and their names are long
_NAMES_AT_ONCE = 20


def counters(flink: str, job_id: str, job_name: str) -> dict[str, int]:
    """The counters of ``job_name`` (the names of its spec's §7, 0 for what was not counted yet).

    ``flink`` is the address of the REST interface, host:port. What a running job counted is known there after a moment
    (metrics.fetcher.update-interval), and begins anew when the job is restarted. Raises requests.RequestException.
    spec: core §11
    """
    return counters_of_group(flink, job_id, (job_name,))[job_name]


def counters_of_group(flink: str, job_id: str, job_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """The counters of each of these jobs, which run as one; otherwise as `counters`."""
    counted = {job_name: dict.fromkeys(COUNTERS.get(job_name, ()), 0) for job_name in job_names}
    job = _get(f"http://{flink}/jobs/{job_id}")
    if job["state"] in ("CANCELED", "FAILED", "FINISHED"):
        found = _accumulated(_get(f"http://{flink}/jobs/{job_id}/accumulators"))
    else:
        found = _measured(f"http://{flink}/jobs/{job_id}/vertices", [v["id"] for v in job["vertices"]], job_names)
    for job_name, name, number in found:
        if job_name in counted:
            counted[job_name][name] = counted[job_name].get(name, 0) + number
    return counted


def _measured(vertices: str, ids: list[str], job_names: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Of each task: its number, the operator, the namespace and the name of the counter make the metric's name."""
    # Flink parts the name of a metric by dots, and has none within a part: user-cache-updater-2_0
    jobs = {job_name.replace(".", "_"): job_name for job_name in job_names}
    ours = re.compile(rf".*\.({'|'.join(map(re.escape, jobs))})_(.*)")
    for vertex in ids:
        address = f"{vertices}/{vertex}/metrics"
        there = {metric["id"]: found for metric in _get(address) if (found := ours.fullmatch(metric["id"]))}
        names = list(there)
        for start in range(0, len(names), _NAMES_AT_ONCE):
            for metric in _get(address, get=",".join(names[start : start + _NAMES_AT_ONCE])):
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


def _get(address: str, **parameters: str) -> Any:
    answer = requests.get(address, parameters, timeout=TIMEOUT_SECONDS)
    answer.raise_for_status()
    return answer.json()
