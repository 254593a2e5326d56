"""A `Paper` as JSON and back."""

from __future__ import annotations

import json

from papers.paper import Flag, Paper, Section


def dump(paper: Paper) -> bytes:
    """The paper as one JSON document."""
    return json.dumps(
        {
            "title": paper.title,
            "abstract": paper.abstract,
            "sections": [[section.heading, section.text] for section in paper.sections],
            "captions": list(paper.captions),
            "flags": [[flag.kind, flag.detail, flag.page] for flag in paper.flags],
        },
        ensure_ascii=False,
    ).encode()


def load(data: bytes) -> Paper:
    """Undo `dump`. Raises ValueError, KeyError or TypeError when the data is not its output."""
    value = json.loads(data)
    return Paper(
        title=str(value["title"]),
        abstract=str(value["abstract"]),
        sections=tuple(Section(str(heading), str(text)) for heading, text in value["sections"]),
        captions=tuple(map(str, value["captions"])),
        flags=tuple(Flag(str(kind), str(detail), page) for kind, detail, page in value["flags"]),
    )
