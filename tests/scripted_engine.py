"""An engine that answers from a script, for tests of everything around the model.

`REFEREE_ENGINE=tests.scripted_engine:make` puts it into real worker processes. What it does with a
paper is written in the paper: "SCRIPT: slow", "SCRIPT: hang", "SCRIPT: memory", "SCRIPT: drift",
"SCRIPT: poison". Everything else gets a strict review at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

from errors import EngineLost
from models.engine import Generation, ReviewRequest
from models.parse import render
from models.review import Item

#: Seconds that a "SCRIPT: slow" paper takes; long enough to be caught in the middle.
SLOW_SECONDS = float(os.environ.get("SCRIPTED_SLOW_SECONDS", "2"))


class ScriptedEngine:
    """Implements models.engine.Engine without a model."""

    def __init__(self, slots: int = 4) -> None:
        self._slots = slots
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="scripted")
        self._stops: dict[str, threading.Event] = {}
        self._closed = threading.Event()

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def versions(self) -> Mapping[str, str]:
        return {"engine": "scripted"}

    def submit(self, request: ReviewRequest) -> Future[Generation]:
        self._stops[request.id] = threading.Event()
        return self._pool.submit(self._answer, request)

    def cancel(self, request_id: str) -> None:
        if (stop := self._stops.get(request_id)) is not None:
            stop.set()

    def close(self) -> None:
        self._closed.set()
        for stop in list(self._stops.values()):
            stop.set()
        self._pool.shutdown()

    def _answer(self, request: ReviewRequest) -> Generation:
        stop = self._stops[request.id]
        if stop.wait(_seconds(request.paper_text)):
            raise EngineLost() if self._closed.is_set() else CancelledError()
        if "SCRIPT: memory" in request.paper_text:
            raise MemoryError("scripted")
        if "SCRIPT: poison" in request.paper_text:
            raise EngineLost("the paper kills the engine")
        text = "Nothing of the sort." if "SCRIPT: drift" in request.paper_text else _review(request)
        return Generation(text, (), "stop", 100, 50, 0, 0.0, 0.01)


def _seconds(paper_text: str) -> float:
    if "SCRIPT: hang" in paper_text:
        return 3600.0
    return SLOW_SECONDS if "SCRIPT: slow" in paper_text else 0.0


def _review(request: ReviewRequest) -> str:
    items = [
        Item(key, 0, f"Point on {key}", f"The baseline is weak; seed {request.seed}.")
        for key in request.aspects.keys
    ]
    return render(items, request.aspects)


def make() -> ScriptedEngine:
    """What REFEREE_ENGINE names."""
    return ScriptedEngine(int(os.environ.get("SCRIPTED_SLOTS", "4")))
