"""Program that reads submitted files, each in a confined child process of its own.

It imports the readers once and forks for every file, so that a file which takes its process over
meets neither the next file nor anything secret: `papers.sandbox` starts this program with an
environment that it chose.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from errors import PaperUnreadable
from papers.confinement import (
    confine,
    end_with_parent,
    limit_resources,
    missing_mechanisms,
    python_folders,
)
from papers.encoding import MAX_TEXT_BYTES
from papers.entry import Format
from papers.file_reader import import_library, opened_by, read_file
from papers.jsonl import custom_id, parse_line, read_line
from papers.line_files import LineReader, scan
from papers.paper import Paper
from papers.reader_protocol import (
    MAX_REQUEST_BYTES,
    READY,
    Task,
)
from subprocesses import receive_message, send_message

#: Seconds after the time limit at which a process without a parent ends itself.
ORPHAN_SECONDS = 5.0
#: CPU seconds for all lines of one file; its parent watches the clock of each.
LINES_CPU_SECONDS = 24 * 3600.0
#: Seconds between two messages about the lines found so far: a sign of life.
INDEX_SECONDS = 0.5
#: Lines of one message.
INDEX_LINES = 1000

Read = Callable[[Path, Format, int], Paper]


@dataclass(frozen=True)
class Config:
    """Limits, and the reader in place of `read_file`, by module, name and main script."""

    seconds: float
    pages: int
    memory_mib: int
    reader: tuple[str, str, str] | None


def main() -> None:
    """Serve requests from the socket whose number is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    control = socket.socket(fileno=int(sys.argv[1]))
    options = json.loads(sys.argv[2])
    config = Config(**options)
    read = _reader(config)
    missing_mechanisms()  # prepared once, and not in every child
    python_folders()
    gc.freeze()
    send_message(control, READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, 1)
        if not message:
            return
        request = json.loads(message)
        if request["form"] is not None:
            import_library(Format(request["form"]))
        status = _in_child(request, socket.socket(fileno=descriptors[0]), control, config, read)
        send_message(control, str(status).encode())


def _reader(config: Config) -> Read:
    if config.reader is None:
        return read_file
    module, name, script = config.reader
    if module == "__main__":
        found: Read = runpy.run_path(script, run_name="__mp_main__")[name]
        return found
    named: Read = attrgetter(name)(importlib.import_module(module))
    return named


def _in_child(
    request: dict[str, Any],
    reply: socket.socket,
    control: socket.socket,
    config: Config,
    read: Read,
) -> int:
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            control.close()
            end_with_parent(parent)
            _serve(request, reply, config, read)
        finally:
            os._exit(0)
    reply.close()
    return os.waitpid(child, 0)[1]


def _serve(request: dict[str, Any], reply: socket.socket, config: Config, read: Read) -> None:
    """Confine this process and do the request's task."""
    path, task = Path(request["path"]), Task(request["task"])
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _set_alarm(config)
    one_file = config.seconds + ORPHAN_SECONDS
    limit_resources(
        cpu_seconds=one_file if task is Task.FILE else LINES_CPU_SECONDS,
        memory_mib=config.memory_mib,
    )
    if task is Task.FILE:
        form = Format(request["form"])
        confine([opened_by(path, form)])
        send_message(reply, _answer(partial(read, path, form, config.pages), config))
        return
    confine([path])
    serve_lines = _serve_lines if task is Task.LINES else _serve_index
    serve_lines(path, reply, config)


def _set_alarm(config: Config) -> None:
    signal.setitimer(signal.ITIMER_REAL, config.seconds + ORPHAN_SECONDS)


def _answer(read: Callable[[], Paper], config: Config) -> bytes:
    """A paper, or the kind, sentence and traceback of a failure."""
    try:
        return b"P" + read().to_json()
    except PaperUnreadable as error:
        return _error(error.kind, str(error))
    except MemoryError:
        return _error("memory", f"Reading needed more than {config.memory_mib} MiB of memory.")
    except Exception as error:  # an error in one file must not end the run
        if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.EACCES):
            return _error("missing", f"The file cannot be opened: {error.strerror}.")
        sentence = f"The file broke its reader ({type(error).__name__})."
        return _error("crashed", sentence, traceback.format_exc())


def _error(kind: str, sentence: str, trace: str = "") -> bytes:
    return b"E" + json.dumps((kind, sentence, trace)).encode()


def _serve_lines(path: Path, reply: socket.socket, config: Config) -> None:
    """Read the papers in lines that the parent names by their positions."""
    lines = LineReader()
    while True:
        try:
            offset, length = json.loads(receive_message(reply, max_bytes=MAX_REQUEST_BYTES))
        except EOFError:
            return
        _set_alarm(config)
        send_message(reply, _answer(partial(_read_line, lines, path, offset, length), config))


def _read_line(lines: LineReader, path: Path, offset: int, length: int) -> Paper:
    return read_line(lines.read(path, offset, length))


def _serve_index(path: Path, reply: socket.socket, config: Config) -> None:
    """Send (lines, whether they are the last, problem), often enough to be a sign of life."""
    found: list[tuple[int, int, int, str | None, str]] = []
    problem, sent_at = None, time.monotonic()
    try:
        for number, offset, line in scan(path):
            digest = hashlib.sha256(line.strip()).hexdigest()
            found.append((number, offset, len(line), _line_name(line), digest))
            if len(found) == INDEX_LINES or time.monotonic() - sent_at > INDEX_SECONDS:
                send_message(reply, json.dumps((found, False, None)).encode())
                found, sent_at = [], time.monotonic()
                _set_alarm(config)
    except PaperUnreadable as error:
        problem = str(error)
    except OSError as error:
        problem = f"The file cannot be opened: {error.strerror}."
    except MemoryError:
        problem = f"Reading needed more than {config.memory_mib} MiB of memory."
    send_message(reply, json.dumps((found, True, problem)).encode())


def _line_name(line: bytes) -> str | None:
    if len(line) > MAX_TEXT_BYTES:
        return None
    try:
        return custom_id(parse_line(line))
    except PaperUnreadable:
        return None


if __name__ == "__main__":
    main()
