"""Decide which names in a folder of submissions may be read.

Archives of submissions keep links, pipes and devices. A link that leads out of its folder would
make any file of the submitting account a paper; a pipe would block whoever opens it.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from errors import PaperUnreadable

#: What is not a file, by its test.
_OTHER_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


def other_kind(mode: int) -> str | None:
    """What something of this mode is, unless it is a regular file."""
    if stat.S_ISREG(mode):
        return None
    return next((kind for is_kind, kind in _OTHER_KINDS if is_kind(mode)), "not a regular file")


def require_file_within(path: Path, folder: Path) -> None:
    """Require a regular file that is in the folder, also where `path` is or passes a link.

    Nothing is opened. Raises PaperUnreadable with kind missing, outside or not_a_file.
    """
    try:
        target = path.resolve(strict=True)
        mode = target.stat().st_mode
        inside = target.is_relative_to(folder.resolve(strict=True))
    except (OSError, RuntimeError) as error:
        what = "link leads nowhere" if path.is_symlink() else "file cannot be opened"
        raise PaperUnreadable(f"The {what}.", kind="missing") from error
    if not inside:
        sentence = "The link leads out of its folder; put a copy of the file there."
        raise PaperUnreadable(sentence, kind="outside")
    kind = other_kind(mode)
    if kind is not None:
        raise PaperUnreadable(f"This is {kind}, not a file.", kind="not_a_file")
