"""How a worker's log lines look, for people or as JSON.

What happened to a paper is in a record's `about`: action, job, attempt, and what else is known.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Literal

Format = Literal["text", "json"]


class KeyValueFormatter(logging.Formatter):
    """Appends the record's `about` mapping as key=value pairs: readable and easily parsed."""

    def __init__(self, layout: str) -> None:
        super().__init__(layout)
        self._second = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return " ".join([line, *(f"{key}={value!r}" for key, value in about(record).items())])

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """As the standard library, which lays every second out anew for each of its lines."""
        second, text = self._second
        if second != int(record.created):
            second = int(record.created)
            text = time.strftime(self.default_time_format, time.localtime(second))
            self._second = second, text
        return f"{text},{record.msecs:03.0f}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, worker, gpu, and all of `about`."""

    def __init__(self) -> None:
        super().__init__()
        self.identity: dict[str, str] = {}

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self.identity,
            **about(record),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False, default=str)


def about(record: logging.LogRecord) -> dict[str, object]:
    """What a record is about, besides its message."""
    found: dict[str, object] = getattr(record, "about", {})
    return found


def configure(log_format: Format = "text", level: int = logging.INFO) -> None:
    """Log to stderr, one line an action."""
    # No line says where in the code it was written: looking that up is half the cost of logging.
    logging._srcfile = None  # as the logging HOWTO says
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    text = KeyValueFormatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(text if log_format == "text" else JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("referee").setLevel(level)


def identify(worker: str, gpu: str) -> None:
    """Let every JSON line from now on say which worker wrote it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonFormatter):
            handler.formatter.identity = {"worker": worker, "gpu": gpu}
