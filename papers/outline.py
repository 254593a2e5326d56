"""Build a `Paper` from a title and blocks of text with headings."""

from __future__ import annotations

from collections.abc import Sequence

from papers.likeness import likeness_flags
from papers.paper import Flag, Paper, Section
from papers.sections import (
    ABSTRACT,
    CAPTION,
    REFERENCES_AFTER,
    SectionKind,
    ends_paper,
    heading_kind,
)
from papers.text_safety import safe_paper

#: Characters; a longer line is a whole paragraph.
WRAPPED_CHARS = 140


def paper_from_blocks(
    title: str,
    blocks: Sequence[Section],
    *,
    abstract: str = "",
    captions: Sequence[str] = (),
    flags: Sequence[Flag] = (),
) -> Paper:
    """Find abstract and captions among the blocks; drop the references and what follows them.

    The block before the first heading holds authors and addresses when an abstract follows it.
    Raises PaperUnreadable with kind empty.
    """
    blocks = _before_references(blocks)
    found = list(captions)
    sections: list[Section] = []
    for block in blocks:
        if not abstract and ABSTRACT.fullmatch(block.heading.strip()):
            abstract, sections = block.text, [one for one in sections if one.heading]
        elif not abstract and not block.heading and _inline_abstract(block.text):
            abstract = _inline_abstract(block.text)
        elif heading_kind(block.heading) is SectionKind.BODY:
            sections.append(_without_captions(block, found))
    kept = [section for section in sections if section.heading or section.text.strip()]
    flags = (*flags, *likeness_flags(title, abstract, kept))
    return safe_paper(title=title, abstract=abstract, sections=kept, captions=found, flags=flags)


def _before_references(blocks: Sequence[Section]) -> Sequence[Section]:
    seen, least = 0, REFERENCES_AFTER * sum(len(block.text) for block in blocks)
    for index, block in enumerate(blocks):
        if ends_paper(block.heading) and seen >= least:
            return blocks[:index]
        seen += len(block.text)
    return blocks


def _inline_abstract(text: str) -> str:
    """The text after "Abstract:" at the start of a line, up to the end of the block."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        mark = ABSTRACT.match(line.strip())
        if mark and mark[0].rstrip()[-1] in ".:—–-":
            return "\n".join([line.strip()[mark.end() :], *lines[index + 1 :]])
    return ""


def _without_captions(block: Section, captions: list[str]) -> Section:
    kept: list[str] = []
    caption_open = False
    for line in block.text.split("\n"):
        text = line.strip()
        mark = CAPTION.match(text)
        if mark and len(text) > mark.end():
            captions.append(text)
        elif caption_open and text:
            captions[-1] += " " + text
        else:
            kept.append(line)
        # A caption continues over wrapped lines up to its full stop.
        taken = bool(mark and len(text) > mark.end()) or (caption_open and bool(text))
        caption_open = taken and len(text) < WRAPPED_CHARS and not text.endswith(".")
    return Section(block.heading, "\n".join(kept))
