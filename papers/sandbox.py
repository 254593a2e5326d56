"""Read files in child processes, so that a hang or crash affects a single file.

A child process has a time limit and a memory limit.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import queue
import resource
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from errors import PaperUnreadable
from papers.entry import Format
from papers.file_reader import read_file
from papers.paper import Paper

log = logging.getLogger(__name__)

#: Seconds for a child process to start; its imports take about 0.3.
START_SECONDS = 60.0
#: Seconds after the time limit at which a child process without a parent ends itself.
ORPHAN_SECONDS = 5.0
_READY = b"ready"

Read = Callable[[Path, Format, int], Paper]


@dataclass(frozen=True)
class PdfLimits:
    """Limits for one file: wall-clock seconds, pages, and MiB of address space."""

    seconds: float = 60.0
    pages: int = 500
    memory_mib: int = 2048


class Sandbox:
    """A few child processes that read files one after another, started on first use."""

    def __init__(self, limits: PdfLimits, processes: int, read: Read = read_file) -> None:
        self._children: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        self._all = [_Child(limits, read) for _ in range(processes)]
        for child in self._all:
            self._children.put(child)
        # Each thread only waits for its child process.
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="sandbox")

    def submit(self, path: Path, form: Format) -> Future[Paper]:
        """Read a file; the future fails with PaperUnreadable only."""
        return self._threads.submit(self._read, path, form)

    def close(self) -> None:
        """Kill all child processes; files being read are lost."""
        for child in self._all:
            child.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for child in self._all:
            child.kill()

    def _read(self, path: Path, form: Format) -> Paper:
        child = self._children.get()
        try:
            return child.read(path, form)
        finally:
            self._children.put(child)


class _Child:
    """One child process; restarted after it was killed."""

    def __init__(self, limits: PdfLimits, read: Read) -> None:
        self._limits = limits
        self._read = read
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._closed = False

    def read(self, path: Path, form: Format) -> Paper:
        try:
            pipe = self._started()
            pipe.send_bytes(json.dumps([str(path), form.value]).encode())
            if not pipe.poll(self._limits.seconds):
                self.kill()
                sentence = f"Reading took longer than {self._limits.seconds:g} s and was stopped."
                raise PaperUnreadable(sentence, kind="timeout")
            answer = pipe.recv_bytes()
        except (EOFError, OSError) as error:
            self.kill()
            raise PaperUnreadable(
                "The process that read the file crashed.", kind="crashed"
            ) from error
        if answer[:1] == b"E":
            kind, sentence = json.loads(answer[1:])
            raise PaperUnreadable(sentence, kind=kind)
        return Paper.from_json(answer[1:])

    def close(self) -> None:
        """Start no more readings, and kill the running one."""
        self._closed = True
        if self._process is not None:
            self._process.kill()

    def kill(self) -> None:
        if self._process is not None and self._pipe is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        self._process = self._pipe = None

    def _started(self) -> Connection:
        if self._closed:
            raise EOFError
        if self._pipe is not None:
            return self._pipe
        # Not fork: the parent has threads.
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(end, self._limits, self._read), daemon=True
        )
        self._process.start()
        end.close()
        if not self._pipe.poll(START_SECONDS) or self._pipe.recv_bytes() != _READY:
            raise EOFError
        if self._closed:
            raise EOFError
        return self._pipe


def _serve(pipe: Connection, limits: PdfLimits, read: Read) -> None:
    """Main loop of a child process: read files until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    limit = limits.memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send_bytes(_READY)
    while True:
        try:
            path, form = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, limits.seconds + ORPHAN_SECONDS)
        answer = _answer(Path(path), Format(form), limits, read)
        signal.setitimer(signal.ITIMER_REAL, 0)
        pipe.send_bytes(answer)


def _answer(path: Path, form: Format, limits: PdfLimits, read: Read) -> bytes:
    try:
        return b"P" + read(path, form, limits.pages).to_json()
    except PaperUnreadable as error:
        failure = (error.kind, str(error))
    except MemoryError:
        failure = ("memory", f"Reading needed more than {limits.memory_mib} MiB of memory.")
    except Exception as error:  # an error in one file must not end the run
        log.exception("reading %s", path)
        failure = ("crashed", f"The file broke its reader ({type(error).__name__}).")
    return b"E" + json.dumps(failure).encode()
