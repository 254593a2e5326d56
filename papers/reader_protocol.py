"""Messages between the process that reads papers and the ones that are confined to do so.

A message is a length and that many bytes on a stream socket. The receiver names a deadline and the
most bytes it takes, because the sender may have been taken over by the file that it reads.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from enum import Enum

#: Bytes of one answer; the largest text of 20 MiB, escaped as JSON, stays below.
MAX_ANSWER_BYTES = 128 * 2**20
#: Bytes of a request: two paths of 4,096 bytes as JSON.
MAX_REQUEST_BYTES = 64 * 2**10
#: First message of a process that can take requests.
READY = b"ready"

_LENGTH = struct.Struct("!Q")


class Task(Enum):
    """What a confined process does with its file."""

    #: Read the one paper in it.
    FILE = "file"
    #: Read the papers in its lines, as they are asked for.
    LINES = "lines"
    #: List its lines.
    INDEX = "index"


@dataclass(frozen=True)
class IndexedLine:
    """A line of a JSONL file that is not blank: number from 1, position, name and content hash."""

    number: int
    offset: int
    length: int
    name: str | None
    sha256: str


def send_message(to: socket.socket, data: bytes) -> None:
    """Send one message. Raises OSError when nobody receives it."""
    to.sendall(_LENGTH.pack(len(data)) + data)


def receive_message(
    source: socket.socket, *, seconds: float | None = None, max_bytes: int = MAX_ANSWER_BYTES
) -> bytes:
    """Receive one message.

    Raises TimeoutError when it is not complete in time, EOFError when the stream ends before that
    and for a message that is too long.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    (length,) = _LENGTH.unpack(_exactly(source, _LENGTH.size, deadline))
    if length > max_bytes:
        raise EOFError
    return _exactly(source, length, deadline)


def _exactly(source: socket.socket, n_bytes: int, deadline: float | None) -> bytes:
    received = bytearray()
    while len(received) < n_bytes:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            source.settimeout(left)
        part = source.recv(min(n_bytes - len(received), 2**20))
        if not part:
            raise EOFError
        received += part
    return bytes(received)
