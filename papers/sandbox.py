"""Read submitted files in confined processes, so that a bad file affects nothing but itself.

A file gets a process of its own without secrets, network, other files or long life
(`papers.confinement`); lines of a JSONL file share one. `Sandbox` starts these processes
through `papers.reader_process`, watches the clock and turns every failure into a sentence.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

from errors import PaperUnreadable
from papers.entry import Format
from papers.paper import Paper
from papers.reader_protocol import MAX_ANSWER_BYTES, READY, IndexedLine, Task
from subprocesses import python_command, receive_message, send_message

log = logging.getLogger(__name__)

#: Seconds for a process to start; its imports take about 0.3.
START_SECONDS = 60.0
#: Seconds for a process to end after its answer.
END_SECONDS = 5.0
#: Variables that a reading process gets of this one's; none holds an address, a key or a name.
KEPT_VARIABLES = (
    *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH"),
    *("PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONUTF8", "PYTHONCOERCECLOCALE"),
)

Read = Callable[[Path, Format, int], Paper]


@dataclass(frozen=True)
class PdfLimits:
    """Limits for one file: wall-clock seconds, pages, and MiB of address space."""

    seconds: float = 60.0
    pages: int = 500
    memory_mib: int = 2048


class Sandbox:
    """Processes that read files, started on first use.

    `read` replaces `papers.file_reader.read_file`; it is found by its name.
    """

    def __init__(self, limits: PdfLimits, processes: int, read: Read | None = None) -> None:
        self._files = _Pool([_FileProcess(limits, read) for _ in range(processes)])
        self._lines = _Pool([_LineProcess(limits) for _ in range(processes)])

    def submit(self, path: Path, form: Format) -> Future[Paper]:
        """Read a file; the future fails with PaperUnreadable only."""
        return self._files.submit(lambda process: process.read(path, form))

    def submit_line(self, path: Path, offset: int, length: int) -> Future[Paper]:
        """Read a line of a JSONL file; the future fails with PaperUnreadable only.

        Fast for ascending positions within one file after another.
        """
        return self._lines.submit(lambda process: process.read(path, offset, length))

    def close(self) -> None:
        """Kill all processes; files being read are lost."""
        self._files.close()
        self._lines.close()


P = TypeVar("P", bound="_ReaderProcess")


class _Pool(Generic[P]):
    """Processes that are lent to one caller at a time."""

    def __init__(self, processes: Sequence[P]) -> None:
        self._all = processes
        self._free: queue.SimpleQueue[P] = queue.SimpleQueue()
        for process in processes:
            self._free.put(process)
        # Each thread only waits for its process.
        self._threads = ThreadPoolExecutor(len(processes), thread_name_prefix="sandbox")

    def submit(self, read: Callable[[P], Paper]) -> Future[Paper]:
        return self._threads.submit(self._lend, read)

    def close(self) -> None:
        for process in self._all:
            process.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._all:
            process.kill()

    def _lend(self, read: Callable[[P], Paper]) -> Paper:
        process = self._free.get()
        try:
            return read(process)
        finally:
            self._free.put(process)


class LineIndex:
    """Lists the lines of JSONL files in confined processes; a context manager."""

    def __init__(self, limits: PdfLimits) -> None:
        self._reader = _FileProcess(limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._reader.kill()

    def lines(self, path: Path) -> Generator[IndexedLine, None, None]:
        """List the lines of a file. Raises PaperUnreadable after the last that was found."""
        return self._reader.index(path)


class _ReaderProcess:
    """One `papers.reader_process`; restarted after it was killed."""

    def __init__(self, limits: PdfLimits, read: Read | None = None) -> None:
        self._limits = limits
        self._read = read
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Start no more readings, and kill the running one."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def kill(self) -> None:
        """End the process, and with it the one that reads."""
        with self._lock:
            if self._process is not None and self._control is not None:
                self._process.kill()
                self._process.wait()
                self._control.close()
            self._process = self._control = None

    def _begin(self, task: Task, path: Path, form: Format | None = None) -> socket.socket:
        """Have a task begun; return the socket of its answers."""
        control = self._started()
        ours, theirs = socket.socketpair()
        with closing(theirs):
            request = {
                "task": task.value,
                "path": os.path.abspath(path),
                "form": None if form is None else form.value,
            }
            socket.send_fds(control, [json.dumps(request).encode()], [theirs.fileno()])
        return ours

    def _receive(self, reply: socket.socket) -> bytes:
        return receive_message(reply, seconds=self._limits.seconds, max_bytes=MAX_ANSWER_BYTES)

    def _end(self) -> None:
        """Wait until the process that answered is gone."""
        if self._control is None:
            raise EOFError
        receive_message(self._control, seconds=END_SECONDS, max_bytes=64)

    def _failure(self, error: Exception) -> PaperUnreadable:
        self.kill()
        if isinstance(error, TimeoutError):
            sentence = f"Reading took longer than {self._limits.seconds:g} s and was stopped."
            return PaperUnreadable(sentence, kind="timeout")
        return PaperUnreadable("The process that read the file crashed.", kind="crashed")

    def _started(self) -> socket.socket:
        with self._lock:
            if self._closed:
                raise EOFError
            if self._control is not None:
                return self._control
            self._control, theirs = socket.socketpair()
            with closing(theirs):
                self._process = self._start(theirs.fileno())
            control = self._control
        try:
            started = receive_message(control, seconds=START_SECONDS, max_bytes=64) == READY
        except TimeoutError:
            started = False
        if not started or self._closed:
            raise EOFError
        return control

    def _start(self, control: int) -> subprocess.Popen[bytes]:
        config = {**vars(self._limits), "reader": self._reader_name()}
        return subprocess.Popen(
            python_command("papers.reader_process", str(control), json.dumps(config)),
            pass_fds=[control],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _reader_name(self) -> tuple[str, str, str] | None:
        if self._read is None:
            return None
        script = getattr(sys.modules["__main__"], "__file__", None) or ""
        return self._read.__module__, self._read.__qualname__, os.path.abspath(script)


class _FileProcess(_ReaderProcess):
    """Reads a file in a confined process of its own."""

    def read(self, path: Path, form: Format) -> Paper:
        """Read the paper in a file. Raises PaperUnreadable."""
        try:
            with closing(self._begin(Task.FILE, path, form)) as reply:
                answer = self._receive(reply)
            self._end()
        except (EOFError, OSError) as error:
            raise self._failure(error) from error
        return _paper(answer, path)

    def index(self, path: Path) -> Generator[IndexedLine, None, None]:
        """List the lines of a file. Raises PaperUnreadable."""
        try:
            with closing(self._begin(Task.INDEX, path)) as reply:
                ended = False
                while not ended:
                    lines, ended, problem = json.loads(self._receive(reply))
                    yield from (IndexedLine(*line) for line in lines)
            self._end()
        except (EOFError, OSError) as error:
            raise self._failure(error) from error
        except GeneratorExit:
            self.kill()
            raise
        if problem:
            raise PaperUnreadable(problem, kind="damaged")


class _LineProcess(_ReaderProcess):
    """Reads lines of one JSONL file at a time, in one confined process for each."""

    def __init__(self, limits: PdfLimits) -> None:
        super().__init__(limits)
        self._path: Path | None = None
        self._reply: socket.socket | None = None

    def read(self, path: Path, offset: int, length: int) -> Paper:
        """Read the paper in a line. Raises PaperUnreadable."""
        try:
            reply = self._lines_of(path)
            send_message(reply, json.dumps([offset, length]).encode())
            answer = self._receive(reply)
        except (EOFError, OSError) as error:
            raise self._failure(error) from error
        return _paper(answer, path)

    def kill(self) -> None:
        """End the process, and with it the one that reads."""
        self._forget()
        super().kill()

    def _lines_of(self, path: Path) -> socket.socket:
        if self._reply is not None and path == self._path:
            return self._reply
        if self._reply is not None:
            self._forget()
            self._end()
        self._reply, self._path = self._begin(Task.LINES, path), path
        return self._reply

    def _forget(self) -> None:
        if self._reply is not None:
            self._reply.close()
        self._reply = self._path = None


def _environment() -> dict[str, str]:
    """The environment of a reading process: where Python finds its modules, and nothing secret."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    folders = [folder for folder in sys.path if os.path.isabs(folder)]
    return {**kept, "PYTHONPATH": os.pathsep.join(folders), "PYTHONSAFEPATH": "1"}


def _paper(answer: bytes, path: Path) -> Paper:
    """The paper in an answer. Raises PaperUnreadable for any other answer."""
    try:
        if answer[:1] == b"P":
            return Paper.from_json(answer[1:])
        kind, sentence, trace = json.loads(answer[1:])
    except (ValueError, KeyError, TypeError) as error:
        sentence = "The process that read the file gave no valid answer."
        raise PaperUnreadable(sentence, kind="crashed") from error
    if trace:
        log.info("reading %s: %s", path, trace)
    raise PaperUnreadable(str(sentence), kind=str(kind))
