"""How a worker's log lines look: `time level logger action key=value ...`; knows nothing else."""

from __future__ import annotations

import logging
import sys


class KeyValueFormatter(logging.Formatter):
    """Appends the record's `about` mapping as key=value pairs: readable and easily parsed."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        about: dict[str, object] = getattr(record, "about", {})
        return " ".join([line, *(f"{key}={value!r}" for key, value in about.items())])


def configure(level: int = logging.INFO) -> None:
    """Log to stderr, one line an action."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("referee").setLevel(level)
