"""Helpers of all measurements: papers of the shared data set, and writing a dated result."""

from __future__ import annotations

import gzip
import json
import os
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from papers.jsonl import parse_line, read_json

_DATA = Path(
    os.environ.get("REFEREE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
)
_SETS = ("treereview", "disapere_fulltext", "iclr2017")


def paper_texts(count: int) -> list[tuple[str, str]]:
    """Id and formatted text of the first `count` papers; exits if the data set is missing."""
    data_folder()
    return list(islice(_papers(), count))


def data_folder() -> Path:
    """Folder of the shared data set; exits if it is missing."""
    if not _DATA.is_dir():
        sys.exit("The shared data set is not there: expected it at ../shared/data.")
    return _DATA


def _papers() -> Iterator[tuple[str, str]]:
    for name in _SETS:
        with gzip.open(_DATA / name / "papers.jsonl.gz") as lines:
            for line in lines:
                value = parse_line(line)
                yield str(value["id"]), read_json(value).text


def report(results: dict[str, Any], path: Path | None) -> None:
    """Print the results, and write them with date and machine when a path is given."""
    print(save(results, path))


def save(results: dict[str, Any], path: Path | None) -> str:
    """Write the results so far, with date and machine, when a path is given; return the text."""
    document = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **_machine(), **results}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return text


def earlier(path: Path | None) -> dict[str, Any]:
    """Results by system that a file contains from earlier runs of the same measurement."""
    if path is None or not path.exists():
        return {}
    document = json.loads(path.read_text())
    return {name: each for name, each in document.items() if isinstance(each, dict)}


def _machine() -> dict[str, Any]:
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "bitsandbytes")},
    }
