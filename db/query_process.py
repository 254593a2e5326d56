"""Run a read-only query in a process of its own, which ends when its caller wants it to.

One call of an SQL function may take minutes that neither a time limit nor Ctrl-C interrupts, and a
row may not fit into memory. The process has limits of CPU time, memory and temporary files.
"""

from __future__ import annotations

import json
import math
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, suppress
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any

from db.readonly import QUERY_SECONDS, QueryResult, pages
from db.session import DatabaseUnavailable
from errors import RefereeError, UserError
from subprocesses import lower_limit, python_command, receive_message, send_message

#: Seconds for the process to start.
START_SECONDS = 60.0
#: Seconds after the query's time limit in which the process may say so itself.
GRACE_SECONDS = 1.0
#: Address space of the process, in MiB.
MEMORY_MIB = 2048
#: Bytes of a temporary file, such as SQLite's for sorting.
MAX_TEMPORARY_BYTES = 4 * 2**30
#: Bytes of one page.
MAX_PAGE_BYTES = 512 * 2**20
_MAX_REQUEST_BYTES = 16 * 2**20


def run_query(
    url: str, sql: str, *, seconds: float = QUERY_SECONDS
) -> Generator[QueryResult, None, None]:
    """Run one SELECT; give its rows a page at a time, with values that JSON has.

    Closing the generator ends the query. Raises UserError for anything but a SELECT that only
    reads, and for one that fails or takes too long or too much memory; DatabaseUnavailable when the
    database does not answer.
    """
    ours, theirs = socket.socketpair()
    with closing(ours):
        with closing(theirs):
            process = subprocess.Popen(
                python_command("db.query_process", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for this process to handle
            )
        try:
            with suppress(BrokenPipeError):  # receiving says that the process has ended
                send_message(ours, json.dumps([url, sql]).encode())
            yield from _received(ours, seconds)
        finally:
            process.kill()
            process.wait()


def _received(source: socket.socket, seconds: float) -> Generator[QueryResult, None, None]:
    left = START_SECONDS
    columns: tuple[str, ...] = ()
    while True:
        started = time.monotonic()
        try:
            message = receive_message(source, seconds=left, max_bytes=MAX_PAGE_BYTES)
        except TimeoutError:
            raise UserError(f"The query took longer than {seconds:g} s.") from None
        except EOFError:
            raise UserError(
                "The query's process ended: it needs more time or memory than a query may take."
            ) from None
        left -= time.monotonic() - started
        kind, value = json.loads(message)
        if kind == "end":
            return
        if kind == "started":
            left = seconds + GRACE_SECONDS
        elif kind == "columns":
            columns = tuple(value)
        elif kind == "rows":
            yield QueryResult(columns, tuple(map(tuple, value)))
        else:
            raise (DatabaseUnavailable if kind == "missing" else UserError)(value)


def main() -> None:
    """Answer the one request on the socket whose number is the argument."""
    with closing(socket.socket(fileno=int(sys.argv[1]))) as caller:
        url, sql = json.loads(receive_message(caller, max_bytes=_MAX_REQUEST_BYTES))
        _limit_resources()
        try:
            _send(caller, "started", None)
            _send_pages(caller, url, sql)
            _send(caller, "end", None)
        except DatabaseUnavailable as error:
            _send(caller, "missing", str(error))
        except RefereeError as error:
            _send(caller, "refused", str(error))
        except MemoryError:
            sentence = f"The query needed more than {MEMORY_MIB} MiB of memory."
            _send(caller, "refused", sentence)
        except OSError:
            return  # the caller wants no more rows
        except Exception as error:
            _send(caller, "refused", f"The query failed: {type(error).__name__}.")


def _limit_resources() -> None:
    cpu_seconds = int(QUERY_SECONDS + GRACE_SECONDS) + 2
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_MIB * 2**20),
        (resource.RLIMIT_FSIZE, MAX_TEMPORARY_BYTES),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        lower_limit(limit, value)


def _send_pages(caller: socket.socket, url: str, sql: str) -> None:
    for number, page in enumerate(pages(url, sql)):
        if number == 0:
            _send(caller, "columns", page.columns)
        _send(caller, "rows", [[_plain(value) for value in row] for row in page.rows])


def _send(caller: socket.socket, kind: str, value: object) -> None:
    send_message(caller, json.dumps((kind, value)).encode())


def _plain(value: Any) -> Any:
    """The value as JSON has it: times in ISO format, bytes in hexadecimal, no infinities."""
    if isinstance(value, Decimal):
        value = int(value) if value.is_finite() and value == value.to_integral() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date | time_of_day):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value if value is None or isinstance(value, str | int | bool) else str(value)


if __name__ == "__main__":
    main()
