"""What a submit does with files that hide text: strip it, reject the file, or keep it.

The readers strip hidden text and keep it in the file's flags, so all three start from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from db.batch_records import OnHiddenText
from db.flags import REJECTED, is_canary
from papers.paper import HIDDEN_TEXT, Flag, Paper, Section
from papers.reading import Reading
from papers.text_safety import safe_paper

#: Heading of the section in which a model gets to see what was hidden.
KEPT_HEADING = "Hidden text"

ReadPapers = Callable[[], Iterable[Reading]]


class HiddenWords:
    """Counts the papers that hide the same words, to find the venue's canaries."""

    def __init__(self) -> None:
        self._papers: set[str] = set()
        self._papers_by_words: dict[str, set[str]] = {}

    def add(self, paper: Paper) -> None:
        """Count a paper once, however often it was submitted."""
        self._papers.add(paper.sha256)
        for words in _hidden(paper.flags):
            self._papers_by_words.setdefault(words, set()).add(paper.sha256)

    def canaries(self) -> dict[str | None, tuple[int, int]]:
        """{hash of the words: papers that hide them, and all papers} of the venue's canaries."""
        size = len(self._papers)
        return {
            words: (len(papers), size)
            for words, papers in self._papers_by_words.items()
            if is_canary(len(papers), size)
        }


def apply(
    on_hidden_text: OnHiddenText, read: ReadPapers, known_canaries: frozenset[str] = frozenset()
) -> Iterator[Reading]:
    """Papers as the batch gets them.

    To reject, they are read twice: whether hidden words are the venue's is known at the end only.
    `known_canaries` are those of papers that the batch has already.
    """
    if on_hidden_text == "keep":
        yield from map(_kept, read())
    elif on_hidden_text == "reject":
        canaries = known_canaries | _canaries(read()).keys()
        for reading in read():
            yield _rejected(reading, canaries)
    else:
        yield from read()


def _canaries(readings: Iterable[Reading]) -> dict[str | None, tuple[int, int]]:
    words = HiddenWords()
    for reading in readings:
        if reading.paper is not None:
            words.add(reading.paper)
    return words.canaries()


def _kept(reading: Reading) -> Reading:
    """The hidden text stands first, because a prompt that is too long loses its tail."""
    if reading.paper is None:
        return reading
    paper = reading.paper
    texts = [flag.text for flag in paper.flags if flag.kind == HIDDEN_TEXT and flag.text]
    if not texts:
        return reading
    kept = safe_paper(title="", sections=[Section(KEPT_HEADING, "\n".join(texts))])
    # Its instructions and marks are in the flags already, as those of hidden text.
    paper = replace(paper, sections=(*kept.sections, *paper.sections))
    return replace(reading, paper=paper)


def _rejected(reading: Reading, canaries: Iterable[str | None]) -> Reading:
    if reading.paper is None:
        return reading
    flags = reading.paper.flags
    tricks = [
        flag for flag in flags if flag.kind == HIDDEN_TEXT and flag.words_sha256 not in canaries
    ]
    if not tricks:
        return reading
    return replace(
        reading, paper=None, error_kind=REJECTED, error=_sentence(tricks), rejected_flags=flags
    )


def _sentence(tricks: Iterable[Flag]) -> str:
    """Without the words: the sentence outlives a purge."""
    pages = sorted({flag.page for flag in tricks if flag.page is not None})
    where = f" (page {', '.join(map(str, pages))})" if pages else ""
    return (
        f"The file contains hidden text{where} and was rejected; correct it, or submit it with "
        "--on-hidden-text strip."
    )


def _hidden(flags: Iterable[Flag]) -> set[str]:
    words = {flag.words_sha256 for flag in flags if flag.kind == HIDDEN_TEXT}
    return {sha256 for sha256 in words if sha256 is not None}
