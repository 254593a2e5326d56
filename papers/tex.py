"""Read a `Paper` from TeX source: macros are unwrapped as text, never executed.

Reads `\\input` files from the paper's own folder only. Mathematics is not changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from errors import PaperUnreadable
from papers.encoding import MAX_TEXT_BYTES, decode
from papers.outline import paper_from_blocks
from papers.paper import Flag, Paper, Section
from papers.plain_text import remove_between
from papers.tex_inputs import NotPartOfPaper, part_path, read_part
from papers.tex_macros import argument, expand, plain

#: Maximum depth of nested files: deeper is a loop.
MAX_DEPTH = 6

_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%[^\n]*\n?[ \t]*")
_COMMENT_BLOCK = (
    re.compile(r"\\begin\{comment\}|\\iffalse\b"),
    re.compile(r"\\end\{comment\}|\\fi\b"),
)
_INPUT = re.compile(
    r"\\(?:input|include|subfile)\s*\{([^{}\n]{1,200})\}|\\input\s+([^\s{}\\]{1,200})"
)
_SECTION = re.compile(r"\\(?:chapter|(?:sub){0,2}section|paragraph)\*?\s*(?=[\[{])")
_CAPTION = re.compile(r"\\caption\*?\s*(?=[\[{])")
_FIGURE = (
    re.compile(r"\\begin\{(?:wrap|sideways|teaser)?figure\*?\}"),
    re.compile(r"\\end\{(?:wrap|sideways|teaser)?figure\*?\}"),
)
_END = re.compile(
    r"\\(?:bibliography|printbibliography|appendix|end\s*\{document\}|begin\s*\{thebibliography\})"
    r"(?![a-zA-Z]*style)"
)


def read_tex(data: bytes, folder: Path | None = None) -> Paper:
    """Read TeX source; without a folder no other file is opened. Raises PaperUnreadable."""
    text, flags = decode(data)
    inputs = _Inputs(folder)
    source = inputs.into(_uncommented(text))
    preamble, _, body = source.partition("\\begin{document}")
    if not body:
        preamble, body = "", source
    ending = _END.search(body)
    body = expand(body[: ending.start()] if ending else body, preamble)
    title = _command("title", expand(preamble, preamble)) or _command("title", body)
    abstract, body = _take_abstract(body)
    captions, body = _split_captions(body)
    found = _blocks(remove_between(body, *_FIGURE))
    return paper_from_blocks(
        plain(title),
        found,
        abstract=plain(abstract),
        captions=captions,
        flags=[*flags, *inputs.flags],
    )


def _uncommented(text: str) -> str:
    return _COMMENT.sub(r"\1", remove_between(text.replace("\r\n", "\n"), *_COMMENT_BLOCK))


class _Inputs:
    """Inserts the files that a paper names, each once."""

    def __init__(self, folder: Path | None) -> None:
        self.flags: list[Flag] = []
        self._folder = folder
        self._seen: set[Path] = set()

    def into(self, text: str, depth: int = MAX_DEPTH) -> str:
        if depth == 0:
            return text
        return _INPUT.sub(lambda match: self._content(match, depth), text)[:MAX_TEXT_BYTES]

    def _content(self, match: re.Match[str], depth: int) -> str:
        name = (match[1] or match[2]).strip()
        try:
            if self._folder is None:
                raise NotPartOfPaper("is not in the paper's folder")
            path = part_path(self._folder, name)
            if path in self._seen:
                return " "
            self._seen.add(path)
            text, flags = decode(read_part(path))
        except NotPartOfPaper as refusal:
            self.flags.append(Flag("missing_input", f"{name} {refusal}"))
            return " "
        except (PaperUnreadable, OSError):
            return " "  # empty, or a picture
        self.flags.extend(flags)
        return self.into(_uncommented(text), depth - 1)


def _command(name: str, text: str) -> str:
    found = re.search(rf"\\{name}\s*(?=[\[{{])", text)
    return argument(text, found.end())[0] if found else ""


def _take_abstract(body: str) -> tuple[str, str]:
    _, opening, rest = body.partition("\\begin{abstract}")
    abstract, closing, rest = rest.partition("\\end{abstract}")
    if opening and closing:
        return abstract, rest
    command = re.search(r"\\abstract\s*(?=\{)", body)
    if command:
        text, end = argument(body, command.end())
        return text, body[end:]
    return "", body


def _split_captions(body: str) -> tuple[list[str], str]:
    captions: list[str] = []
    parts: list[str] = []
    start = 0
    for found in _CAPTION.finditer(body):
        if found.start() >= start:
            parts.append(body[start : found.start()])
            caption, start = argument(body, found.end())
            captions.append(plain(caption))
    return captions, "".join([*parts, body[start:]])


def _blocks(body: str) -> Sequence[Section]:
    found: list[Section] = []
    heading, start = "", 0
    for mark in _SECTION.finditer(body):
        if mark.start() < start:
            continue
        found.append(Section(plain(heading), plain(body[start : mark.start()])))
        heading, start = argument(body, mark.end())
    return [*found, Section(plain(heading), plain(body[start:]))]
