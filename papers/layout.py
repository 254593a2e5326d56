"""A paper as the recipe's prompts show it, and back; knows nothing of tokens or templates.

The layout of the recipe's training data: `[TITLE]`, `[ABSTRACT]`, `[CAPTIONS]`, `[CONTENT]`, each
mark on its own line, blocks apart by a blank line, sections opened by `Section Title: ...`.
"""

from __future__ import annotations

from papers.paper import Paper, Section

MARKS = ("TITLE", "ABSTRACT", "CAPTIONS", "CONTENT")
_HEADING = "Section Title: "


def prompt_text(paper: Paper) -> str:
    """The text that a model sees of a paper."""
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
