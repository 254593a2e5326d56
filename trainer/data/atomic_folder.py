"""Write a folder of files atomically."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from errors import UserError


def write_folder(
    folder: Path, files: Mapping[str, str], *, marker: str, replace: bool = False
) -> None:
    """Write `files` (name -> text) as `folder`, by renaming a temporary folder beside it.

    With `replace` a folder that holds a file `marker`, so one that we wrote, is replaced. UserError
    if the folder exists or cannot be written; then nothing has changed.
    """
    _check_free(folder, marker, replace)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(folder) as scratch:
            for name, text in files.items():
                _write_durably(scratch / name, text)
            _sync_folder(scratch)
            _swap(scratch, folder)
    except OSError as error:
        raise UserError(
            f"Cannot write {folder}: {error.strerror or error}; nothing was left there."
        ) from error


def _check_free(folder: Path, marker: str, replace: bool) -> None:
    if not folder.exists():
        return
    ours = (folder / marker).is_file()
    if not (ours and replace):
        hint = "use --replace to build it again" if ours else "choose another folder"
        raise UserError(f"{folder} exists already: {hint}.")


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(scratch: Path, folder: Path) -> None:
    # mkdtemp creates folders that only their owner can enter.
    scratch.chmod(0o755)
    with _scratch(folder) as aside:
        old = aside / "old"
        if folder.exists():
            folder.rename(old)
        try:
            scratch.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    _sync_folder(folder.parent)
