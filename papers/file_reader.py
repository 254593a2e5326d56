"""Read a file with one paper by the reader of its format."""

from __future__ import annotations

from pathlib import Path

from errors import PaperUnreadable
from papers.encoding import MAX_TEXT_BYTES, decode
from papers.entry import Format
from papers.links import other_kind
from papers.markdown import read_markdown
from papers.paper import Paper
from papers.plain_text import read_text
from papers.tex import read_tex

#: Bytes; papers with photographs rarely exceed 50 MB.
MAX_PDF_BYTES = 300 * 2**20


def read_file(path: Path, form: Format, max_pages: int) -> Paper:
    """Read a paper from its file. Raises PaperUnreadable."""
    _check_size(path, MAX_PDF_BYTES if form is Format.PDF else MAX_TEXT_BYTES)
    if form is Format.PDF:
        from papers.pdf import read_pdf  # only in processes that need the PDF library

        return read_pdf(path, max_pages)
    data = path.read_bytes()
    if form is Format.TEX:
        return read_tex(data, path.parent)
    text, flags = decode(data)
    return read_markdown(text, flags) if form is Format.MARKDOWN else read_text(text, flags)


def import_library(form: Format) -> None:
    """Import what only this format needs, for a process that reads many files."""
    if form is Format.PDF:
        import papers.pdf  # noqa: F401


def opened_by(path: Path, form: Format) -> Path:
    """What `read_file` opens: the file, or for TeX its folder, since a paper is many files."""
    return path.parent if form is Format.TEX else path


def _check_size(path: Path, limit: int) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise PaperUnreadable(
            f"The file cannot be opened: {error.strerror}.", kind="missing"
        ) from error
    kind = other_kind(status.st_mode)
    if kind is not None:
        raise PaperUnreadable(f"The file is {kind}.", kind="not_a_file")
    size = status.st_size
    if size == 0:
        raise PaperUnreadable("The file is empty.", kind="empty")
    if size > limit:
        sentence = f"The file has {size / 2**20:.0f} MiB; the limit is {limit // 2**20} MiB."
        raise PaperUnreadable(sentence, kind="too_large")
