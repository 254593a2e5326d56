"""Metrics of a worker, and one Prometheus endpoint for all workers of a host.

Each process writes its metrics to its own files in a shared folder. The process that binds the port
serves the sum; when it ends, another process takes over.
"""

from __future__ import annotations

import importlib
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from db.completion import Cost
from settings import Settings

#: prometheus_client reads this variable at import to enable multiprocess mode.
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
#: Upper bounds in seconds: a paper may wait for hours in a large batch, and its review is
#: generated in seconds to minutes.
_WAIT_BUCKETS = (1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600)
_GENERATION_BUCKETS = (1, 2, 5, 10, 20, 40, 60, 90, 120, 180, 300, 600)
_PID = re.compile(r"_(\d+)\.db$")


class Metrics:
    """Metrics of a worker process; every series is labelled with the GPU of the process."""

    def __init__(self, settings: Settings, gpu: str) -> None:
        self._settings = settings
        self._folder = _folder(settings) if settings.metrics_port else None
        if self._folder is not None:
            os.environ[_SHARED] = str(self._folder)
        import prometheus_client as client

        self._client = client
        self._gpu = gpu or "cpu"
        self._serving = False
        #: Metrics of this process only.
        self.registry = client.CollectorRegistry()
        self._queue_wait = self._histogram(
            "queue_wait_seconds", "From queued to claimed.", _WAIT_BUCKETS
        )
        self._generation = self._histogram(
            "generation_seconds", "Generation of one result.", _GENERATION_BUCKETS
        )
        self._tokens = self._counter("tokens", "Tokens of committed results.", "kind")
        self._attempts = self._counter("attempts", "Claims by how they ended.", "kind", "outcome")
        self._gate_failures = self._counter("gate_failures", "Answers that the gate rejected.")
        self._lease_losses = self._counter("lease_losses", "Papers lost to another worker.")
        self._slots = self._gauge("slots", "Papers that fit in flight.")
        self._in_use = self._gauge("slots_in_use", "Papers in flight.")
        self._draining = self._gauge("draining", "Workers that take nothing new.")
        self._memory = self._gauge("memory_bytes", "Memory in use.", "kind")

    def claimed(self, waited_seconds: float) -> None:
        """Record that a job was claimed after this wait."""
        self._queue_wait.labels(self._gpu).observe(max(waited_seconds, 0.0))

    def ended(self, kind: str, outcome: str) -> None:
        """Record that a claim ended: committed, failed, given back, cancelled, lost or refused."""
        self._attempts.labels(self._gpu, kind, outcome).inc()
        if outcome == "lost":
            self._lease_losses.labels(self._gpu).inc()

    def committed(self, cost: Cost) -> None:
        """Record that a job's result was committed."""
        self._generation.labels(self._gpu).observe(cost.seconds)
        self._tokens.labels(self._gpu, "prompt").inc(cost.n_prompt_tokens)
        self._tokens.labels(self._gpu, "output").inc(cost.n_output_tokens)

    def rejected(self) -> None:
        """Record that the gate rejected an answer."""
        self._gate_failures.labels(self._gpu).inc()

    def state(self, *, slots: int, in_use: int, draining: bool) -> None:
        """Set the gauges of this process, and serve the host's metrics if no other process does."""
        self._slots.labels(self._gpu).set(slots)
        self._in_use.labels(self._gpu).set(in_use)
        self._draining.labels(self._gpu).set(draining)
        self._memory.labels(self._gpu, "host").set(psutil.Process().memory_info().rss)
        self._memory.labels(self._gpu, "device").set(_device_bytes())
        self._serve_unless_served()

    def _serve_unless_served(self) -> None:
        if self._folder is None or self._serving:
            return
        registry = self._client.CollectorRegistry()
        registry.register(_LiveProcessCollector(self._folder))
        address, port = self._settings.metrics_address, self._settings.metrics_port
        try:
            self._client.start_http_server(port, address, registry)
        except OSError:
            return  # another worker of this host serves; try again at the next heartbeat
        self._serving = True

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...]) -> Any:
        return self._client.Histogram(
            f"referee_{name}", about, ["gpu"], buckets=buckets, registry=self.registry
        )

    def _counter(self, name: str, about: str, *labels: str) -> Any:
        return self._client.Counter(
            f"referee_{name}", about, ["gpu", *labels], registry=self.registry
        )

    def _gauge(self, name: str, about: str, *labels: str) -> Any:
        return self._client.Gauge(
            f"referee_{name}",
            about,
            ["gpu", *labels],
            registry=self.registry,
            multiprocess_mode="livesum",
        )


class _LiveProcessCollector:
    """Collects the files of all processes, without the gauges of processes that have ended."""

    def __init__(self, folder: Path) -> None:
        # The module has no type annotations.
        multiprocess: Any = importlib.import_module("prometheus_client.multiprocess")
        self._mark_dead = multiprocess.mark_process_dead
        self._folder = folder
        self._collector = multiprocess.MultiProcessCollector(None, path=str(folder))

    def collect(self) -> Iterator[Any]:
        """Yield the current metrics of the host."""
        for pid in _pids(self._folder):
            if not psutil.pid_exists(pid):
                self._mark_dead(pid, path=str(self._folder))
        yield from self._collector.collect()


def _folder(settings: Settings) -> Path:
    """The folder of the host's metrics files, emptied when none of its processes is alive.

    It is named by host: containers that share a home have separate process ids.
    """
    folder = settings.home / "run" / "metrics" / socket.gethostname()
    folder.mkdir(parents=True, exist_ok=True)
    living = {pid for pid in _pids(folder) if psutil.pid_exists(pid) and pid != os.getpid()}
    if not living:
        for file in folder.glob("*.db"):
            file.unlink(missing_ok=True)
    return folder


def _pids(folder: Path) -> set[int]:
    matches = (_PID.search(file.name) for file in folder.glob("*.db"))
    return {int(match[1]) for match in matches if match}


def _device_bytes() -> int:
    """GPU memory reserved by torch; 0 without a GPU. Does not import torch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return int(torch.cuda.memory_reserved())
