"""An engine that answers from a script, for tests of everything around the model.

`REFEREE_ENGINE=testing.scripted_engine:make` makes real worker processes use it. A paper's text
may hold a directive:

- "SCRIPT: slow": take SCRIPTED_SLOW_SECONDS; "SCRIPT: takes 1.5": take that many seconds
- "SCRIPT: wait": wait until the file SCRIPTED_GATE exists; "SCRIPT: hang": never answer
- "SCRIPT: memory", "SCRIPT: drift": run out of memory; answer in another format
- "SCRIPT: poison": fail this request alone; "SCRIPT: crash": fail all requests in the engine
- "SCRIPT: lose": lose the engine for good; "SCRIPT: die": kill the process

Every other paper gets a strict review after SCRIPTED_SECONDS, or, with SCRIPTED_SICK, an answer
that the gate rejects.

With SCRIPTED_LEDGER the start and the end of every generation are written to that file,
independently of the database.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

from errors import EngineCrashed, EngineLost
from models.text.generation import Generation, GenerationRequest
from models.text.parsing import render
from models.text.review import Item

#: Seconds that a "SCRIPT: slow" paper takes; long enough to be caught in the middle.
SLOW_SECONDS = float(os.environ.get("SCRIPTED_SLOW_SECONDS", "2"))
#: Seconds that a paper without a script takes.
SECONDS = float(os.environ.get("SCRIPTED_SECONDS", "0"))
#: A "SCRIPT: wait" paper takes until this file is there.
GATE = os.environ.get("SCRIPTED_GATE", "")
_TAKES = re.compile(r"SCRIPT: takes (\d+(?:\.\d+)?)")


class Ledger:
    """An append-only file that all worker processes write; a line is one write, so never torn."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, what: str, request_id: str) -> None:
        """Write `what request_id pid time`; the clock is one for all processes of a machine."""
        line = f"{what} {request_id} {os.getpid()} {time.monotonic():.4f}\n"
        os.write(self._file, line.encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class ScriptedEngine:
    """Implements models.text.generation.Engine without a model."""

    def __init__(self, slots: int = 4, ledger: Ledger | None = None) -> None:
        self._slots = slots
        self._ledger = ledger
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="scripted")
        self._stops: dict[str, threading.Event] = {}
        self._crashed: set[str] = set()
        self._closed = threading.Event()
        self.alive = True

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def versions(self) -> Mapping[str, str]:
        return {"engine": "scripted"}

    def submit(self, request: GenerationRequest) -> Future[Generation]:
        self._stops[request.id] = threading.Event()
        return self._pool.submit(self._generate, request)

    def cancel(self, request_id: str) -> None:
        if (stop := self._stops.get(request_id)) is not None:
            stop.set()

    def close(self) -> None:
        self._closed.set()
        for stop in list(self._stops.values()):
            stop.set()
        self._pool.shutdown()
        if self._ledger is not None:
            self._ledger.close()

    def _generate(self, request: GenerationRequest) -> Generation:
        self._note("start", request)
        try:
            return self._answer(request)
        finally:
            self._note("end", request)
            del self._stops[request.id]

    def _note(self, what: str, request: GenerationRequest) -> None:
        if self._ledger is not None:
            self._ledger.note(what, request.id)

    def _answer(self, request: GenerationRequest) -> Generation:
        seconds = _seconds(request.text)
        if self._stopped(request, seconds):
            if request.id in self._crashed:
                raise EngineCrashed("a step failed")
            raise EngineLost() if self._closed.is_set() else CancelledError()
        if "SCRIPT: memory" in request.text:
            raise MemoryError("scripted")
        if "SCRIPT: poison" in request.text:
            raise EngineLost("the paper cannot be generated")
        if "SCRIPT: crash" in request.text:
            self._crashed |= self._stops.keys()
            for stop in list(self._stops.values()):
                stop.set()
            raise EngineCrashed("a step failed")
        if "SCRIPT: lose" in request.text:
            self.alive = False
            raise EngineLost()
        if "SCRIPT: die" in request.text:
            os.kill(os.getpid(), signal.SIGKILL)
        drifts = "SCRIPT: drift" in request.text or "SCRIPTED_SICK" in os.environ
        text = "Nothing of the sort." if drifts else _review(request)
        return Generation(text, (), "stop", 100, 50, 0, 0.0, max(seconds, 0.01))

    def _stopped(self, request: GenerationRequest, seconds: float) -> bool:
        """Let the paper's time pass; True as soon as it is taken out of the engine."""
        stop = self._stops[request.id]
        if "SCRIPT: wait" not in request.text:
            return stop.wait(seconds)
        while not os.path.exists(GATE):
            if stop.wait(0.1):
                return True
        return False


def _seconds(paper_text: str) -> float:
    if "SCRIPT: hang" in paper_text:
        return 3600.0
    if (takes := _TAKES.search(paper_text)) is not None:
        return float(takes[1])
    return SLOW_SECONDS if "SCRIPT: slow" in paper_text else SECONDS


def _review(request: GenerationRequest) -> str:
    assert request.form is not None
    items = [
        Item(key, 0, f"Point on {key}", f"The baseline is weak; seed {request.seed}.")
        for key in request.form.keys
    ]
    return render(items, request.form)


def make() -> ScriptedEngine:
    """What REFEREE_ENGINE names."""
    path = os.environ.get("SCRIPTED_LEDGER")
    slots = int(os.environ.get("SCRIPTED_SLOTS", "4"))
    return ScriptedEngine(slots, Ledger(path) if path else None)
