"""A paper, and its layout in prompts.

The layout is that of the recipe's training data: `[TITLE]`, `[ABSTRACT]`, `[CAPTIONS]` and
`[CONTENT]`, each mark on its own line, blocks separated by a blank line, sections with
`Section Title: ...`.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import dataclass
from functools import cached_property

MARKS = ("TITLE", "ABSTRACT", "CAPTIONS", "CONTENT")
_HEADING = "Section Title: "

#: Kind of the flag of text that a reader of the file cannot see.
HIDDEN_TEXT = "hidden_text"
#: Characters of a text that a flag's sentence quotes.
QUOTED_CHARS = 80


@dataclass(frozen=True)
class Section:
    """One section of a paper's body; an empty heading means text before the first heading."""

    heading: str
    text: str


@dataclass(frozen=True)
class Flag:
    """A warning about the file for readers of its reviews, e.g. hidden text.

    `text` is the evidence in full: the words that were hidden, or that read like an instruction.
    """

    kind: str
    detail: str
    page: int | None = None
    text: str = ""

    @classmethod
    def quoting(cls, kind: str, reason: str, text: str, page: int | None = None) -> Flag:
        """A flag about words of the file: its sentence quotes their beginning."""
        return cls(kind, f"{reason}: {text[:QUOTED_CHARS]!r}", page, text)

    @property
    def words_sha256(self) -> str | None:
        """Hash of the evidence's letters and digits: equal for the same words. None without any."""
        words = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", self.text).casefold()))
        return hashlib.sha256(words.encode("utf-8", "replace")).hexdigest() if words else None

    def __str__(self) -> str:
        where = f" (page {self.page})" if self.page is not None else ""
        return f"{self.kind}: {self.detail}{where}"


@dataclass(frozen=True)
class Paper:
    """A paper as read from its source. All text is normalised and safe to put in a prompt."""

    title: str
    abstract: str
    sections: tuple[Section, ...]
    captions: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()

    @cached_property
    def text(self) -> str:
        """The recipe's layout, [TITLE] [ABSTRACT] [CAPTIONS] [CONTENT]: the text in a prompt."""
        return prompt_text(self)

    @cached_property
    def sha256(self) -> str:
        """Hash of the laid-out text: two sources with equal text are one paper."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def to_json(self) -> bytes:
        """The paper as one JSON document, for the cache and between processes."""
        return json.dumps(
            {
                "title": self.title,
                "abstract": self.abstract,
                "sections": [[section.heading, section.text] for section in self.sections],
                "captions": list(self.captions),
                "flags": [[flag.kind, flag.detail, flag.page, flag.text] for flag in self.flags],
            },
            ensure_ascii=False,
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Paper:
        """Undo `to_json`. Raises ValueError, KeyError or TypeError for any other data."""
        value = json.loads(data)
        return cls(
            title=str(value["title"]),
            abstract=str(value["abstract"]),
            sections=tuple(Section(str(heading), str(text)) for heading, text in value["sections"]),
            captions=tuple(map(str, value["captions"])),
            flags=tuple(
                Flag(str(kind), str(detail), page, str(words))
                for kind, detail, page, words in value["flags"]
            ),
        )


def prompt_text(paper: Paper) -> str:
    """The paper's text in the recipe's layout."""
    blocks = (
        paper.title,
        paper.abstract,
        "\n".join(paper.captions),
        "\n\n".join(_section(section) for section in paper.sections),
    )
    return "\n\n".join(
        f"[{mark}]\n{block}" for mark, block in zip(MARKS, blocks, strict=True)
    ).rstrip()


def _section(section: Section) -> str:
    title = f"{_HEADING}{section.heading}\n" if section.heading else ""
    text = "  " + section.text.replace("\n", "\n  ") if section.text else ""
    return (title + text).rstrip("\n")


def parse_prompt_text(text: str) -> Paper | None:
    """Undo `prompt_text`; None when the text is not in that layout. Unsafe text stays unsafe."""
    blocks = _blocks(text)
    if blocks is None:
        return None
    title, abstract, captions, content = blocks
    return Paper(
        title=title,
        abstract=abstract,
        sections=tuple(map(_parse_section, filter(str.strip, content.split("\n\n")))),
        captions=tuple(filter(None, captions.split("\n"))),
    )


def _blocks(text: str) -> list[str] | None:
    rest = "\n" + text.strip() + "\n"
    found: list[str] = []
    for mark in MARKS:
        before, line, rest = rest.partition(f"\n[{mark}]\n")
        if not line:
            return None
        found.append(before)
        rest = "\n" + rest
    return [block.strip("\n") for block in [*found[1:], rest]] if not found[0] else None


def _parse_section(text: str) -> Section:
    heading, _, body = text.partition("\n") if text.startswith(_HEADING) else ("", "", text)
    lines = [line.removeprefix("  ") for line in body.split("\n")]
    return Section(heading.removeprefix(_HEADING), "\n".join(lines))
