"""Start Python subprocesses and exchange messages with them.

The working directory is not on their module search path: `python -m` and `python -c` put it first,
so that a folder named `models` there would be imported instead of Referee's package. A message is
a length and that many bytes on a stream socket. The receiver names a deadline and the most bytes it
takes, because the sender may have been taken over by what it works on.
"""

from __future__ import annotations

import os
import resource
import socket
import struct
import sys
import time

_LENGTH = struct.Struct("!Q")


def python_command(module: str, *arguments: str) -> list[str]:
    """Command line that runs a module in a Python of this environment."""
    return [sys.executable, "-P", "-m", module, *arguments]


def isolate_subprocesses() -> None:
    """Do the same for Python processes that libraries start, such as multiprocessing and torch."""
    os.environ["PYTHONSAFEPATH"] = "1"


def lower_limit(limit: int, value: int) -> None:
    """Set a limit of this process, unless a lower one holds."""
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


def send_message(to: socket.socket, data: bytes) -> None:
    """Send one message. Raises OSError when nobody receives it."""
    to.sendall(_LENGTH.pack(len(data)) + data)


def receive_message(
    source: socket.socket, *, seconds: float | None = None, max_bytes: int
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
        try:
            part = source.recv(min(n_bytes - len(received), 2**20))
        except ConnectionResetError:
            raise EOFError from None
        if not part:
            raise EOFError
        received += part
    return bytes(received)
