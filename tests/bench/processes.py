"""CPU time and memory of the processes that take part, sampled while a measurement runs."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psutil

__all__ = ["MEGABYTE", "Sampler", "Series"]

SAMPLE_SECONDS = 0.2
MEGABYTE = 1_000_000

Processes = Callable[[], Mapping[str, Sequence[psutil.Process]]]
"""Which processes there are now, by the name that they are reported under."""


@dataclass
class Series:
    """Samples of what goes by one name: seconds since the epoch, CPU seconds so far, resident bytes of the largest."""

    times: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def cpu_between(self, begin: float, end: float) -> float:
        """CPU seconds used between two moments, interpolated between samples."""
        return self._cpu_at(end) - self._cpu_at(begin)

    def _cpu_at(self, moment: float) -> float:
        if not self.times:
            return 0.0
        right = bisect.bisect_left(self.times, moment)
        if right == 0:
            return self.cpu[0]
        if right == len(self.times):
            return self.cpu[-1]
        before, after = self.times[right - 1], self.times[right]
        share = (moment - before) / (after - before)
        return self.cpu[right - 1] + share * (self.cpu[right] - self.cpu[right - 1])

    @property
    def peak_megabytes(self) -> float:
        return max(self.memory, default=0) / MEGABYTE


class Sampler:
    """Samples in a thread of its own, from its making until ``close``."""

    def __init__(self, processes: Processes, every: float = SAMPLE_SECONDS) -> None:
        self._processes = processes
        self._every = every
        self._last_cpu: dict[str, dict[tuple[int, float], float]] = {}
        self._ends = threading.Event()
        self.series: dict[str, Series] = {}
        self._sample()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(self._every):
            self._sample()

    def _sample(self) -> None:
        for name, processes in self._processes().items():
            series = self.series.setdefault(name, Series())
            # a process that ends keeps what it had used
            cpu = self._last_cpu.setdefault(name, {})
            memory = 0
            for process in processes:
                try:
                    with process.oneshot():
                        times = process.cpu_times()
                        cpu[process.pid, process.create_time()] = times.user + times.system
                        memory = max(memory, process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            series.times.append(time.time())
            series.cpu.append(sum(cpu.values()))
            series.memory.append(memory)
