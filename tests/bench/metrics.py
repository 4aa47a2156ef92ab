"""What events that are not for metrics-data-transformer cost: its first step, in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass

import orjson

from deploy.local.progress import Progress
from pipelines import metrics_data_transformer as job
from transforms.counters import counted_in_this_process, forget_counts
from transforms.decode import Record
from transforms.transform_metrics import SelectMetrics

__all__ = ["FilterMeasured", "foreign_event", "measure_filter"]


@dataclass(frozen=True)
class FilterMeasured:
    """So many events of so many bytes each, and the CPU seconds of the thread that looked at them."""

    events: int
    event_bytes: int
    cpu: float
    skipped: int

    @property
    def cpu_per_10000(self) -> float:
        return 10_000 * self.cpu / self.events

    @property
    def is_right(self) -> bool:
        return self.skipped == self.events


def foreign_event(number: int) -> bytes:
    """An event of the learning graph that changes many properties, none of them one that the job carries over."""
    properties = {
        f"property{place}": {"ov": f"what it was, {place}", "nv": f"what it is now, {number + place}"}
        for place in range(12)
    }
    event = {
        "ets": 1_725_661_905_885 + number,
        "channel": "013085024460783616158023",
        "mid": f"9c58ad31-fd6f-486b-9415-{number:012}",
        "nodeUniqueId": f"do_{number}",
        "objectType": "Content",
        "operationType": "UPDATE",
        "nodeType": "DATA_NODE",
        "graphId": "domain",
        "nodeGraphId": 1_128_433 + number,
        "userId": "ANONYMOUS",
        "createdOn": "2024-09-06T22:31:45.885+0000",
        "transactionData": {"properties": properties},
    }
    return orjson.dumps(event)


def measure_filter(events: int, progress: Progress) -> FilterMeasured:
    """Let the job's first step look at so many events, after a hundredth of them to warm up."""
    progress("metrics", f"{events} foreign events")
    step = SelectMetrics(job.NAME, job.SHARDS, job.METRICS)
    records = [Record(foreign_event(number), "graph", 0, number, 0) for number in range(min(events, 10_000))]
    for record in records[: max(1, events // 100)]:
        list(step.process(record))
    forget_counts(job.NAME)
    begun = time.thread_time()
    for number in range(events):
        list(step.process(records[number % len(records)]))
    cpu = time.thread_time() - begun
    progress("metrics", "done", done=True)
    skipped = counted_in_this_process(job.NAME).get("skipped-events-count", 0)
    return FilterMeasured(events, len(records[0].value or b""), cpu, skipped)
