"""What a paper is once it has been read; knows nothing of files, models or databases."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Section:
    """One section of a paper's body; an empty heading means text before the first heading."""

    heading: str
    text: str


@dataclass(frozen=True)
class Flag:
    """Something that a reader of the reviews should know about the paper, e.g. hidden text."""

    kind: str
    detail: str
    page: int | None = None

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
        """The recipe's layout, [TITLE] [ABSTRACT] [CAPTIONS] [CONTENT]: what a model sees."""
        from papers.layout import prompt_text

        return prompt_text(self)

    @cached_property
    def sha256(self) -> str:
        """Hash of the laid-out text: two sources with equal text are one paper."""
        return hashlib.sha256(self.text.encode()).hexdigest()
