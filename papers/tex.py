"""Read a `Paper` from TeX source.

`papers.tex_interpreter` follows the source; the files that it inserts are read from the paper's
own folder only. Text that the printed page does not show is left out and flagged.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from errors import PaperUnreadable
from papers.encoding import MAX_TEXT_BYTES, decode_tex
from papers.outline import paper_from_blocks
from papers.paper import Flag, Paper, Section
from papers.tex_inputs import NotPartOfPaper, part_path, read_part
from papers.tex_interpreter import Document, Interpreter
from papers.tex_project import MAX_LOOKED_BYTES, why_no_paper

#: Files that one paper inserts.
MAX_INPUTS = 500

_BODY = re.compile(r"\\begin\s*\{document\}(.*?)(?:\\end\s*\{document\}|\Z)", re.S)


def read_tex(data: bytes, folder: Path | None = None) -> Paper:
    """Read TeX source; without a folder no other file is opened. Raises PaperUnreadable."""
    text, flags = decode_tex(data)
    other = why_no_paper(data[:MAX_LOOKED_BYTES])
    if other is not None:
        sentence = f"The TeX file is no paper: its document class is {other}."
        raise PaperUnreadable(sentence, kind="not_a_paper")
    inputs = _Inputs(folder)
    interpreter = Interpreter(text, inputs.content)
    document = interpreter.run()
    return paper_from_blocks(
        paragraphs(document.title) or paragraphs(document.other_title),
        _sections(document),
        abstract=paragraphs(document.abstract),
        captions=[paragraphs(caption) for caption in document.captions],
        flags=[*flags, *inputs.flags, *interpreter.unseen.flags()],
    )


def _sections(document: Document) -> list[Section]:
    found = [Section(paragraphs(heading), paragraphs(body)) for heading, body in document.sections]
    # Before the abstract stand authors and addresses.
    front = "" if document.abstract else paragraphs(document.front)
    after = paragraphs(document.after_abstract)
    return [Section("", "\n".join(filter(None, (front, after)))), *found]


def paragraphs(pieces: list[str]) -> str:
    """One line a paragraph, table row or displayed formula."""
    found = re.split(r"\n\s*\n", "".join(pieces))
    return "\n".join(filter(None, (" ".join(block.split()) for block in found)))


class _Inputs:
    """Reads the files that a paper names, each once."""

    def __init__(self, folder: Path | None) -> None:
        self.flags: list[Flag] = []
        self._folder = folder
        self._seen: set[Path] = set()
        self._bytes = 0

    def content(self, folder: str, name: str) -> tuple[str, str] | None:
        """The text of an inserted file, and the folder of an imported one."""
        try:
            path = self._path(folder, name)
            if path in self._seen or len(self._seen) >= MAX_INPUTS:
                return None
            self._seen.add(path)
            data = read_part(path)
            self._bytes += len(data)
            if self._bytes > MAX_TEXT_BYTES:
                raise NotPartOfPaper("makes the paper longer than 20 MiB")
            text, flags = decode_tex(data)
        except NotPartOfPaper as refusal:
            self.flags.append(Flag("missing_input", f"{folder}{name} {refusal}"))
            return None
        except (PaperUnreadable, OSError):
            return None  # empty, or a picture
        self.flags.extend(flags)
        body = _BODY.search(text)
        return (body[1] if body else text), folder

    def _path(self, folder: str, name: str) -> Path:
        if self._folder is None:
            raise NotPartOfPaper("is not in the paper's folder")
        if folder:
            try:
                return part_path(self._folder, str(PurePosixPath(folder, name)))
            except NotPartOfPaper:
                pass  # a name from the paper's own folder
        return part_path(self._folder, name)
