"""What the process that reads papers asks of the confined ones."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

#: Bytes of one answer; the largest text of 20 MiB, escaped as JSON, stays below.
MAX_ANSWER_BYTES = 128 * 2**20
#: Bytes of a request: two paths of 4,096 bytes as JSON.
MAX_REQUEST_BYTES = 64 * 2**10
#: First message of a process that can take requests.
READY = b"ready"


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
