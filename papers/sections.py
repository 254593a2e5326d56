"""Patterns of headings and captions, and sections that are not reviewed."""

from __future__ import annotations

import re
from enum import Enum

#: Opens an abstract, alone on its line or before the text; old styles letter-space it.
ABSTRACT = re.compile(r"a ?b ?s ?t ?r ?a ?c ?t\b\s*[.:—–-]?", re.I)
#: A label inside a structured abstract.
STRUCTURED = re.compile(
    r"(background|context|introduction|(?:study )?objectives?|aims?|purpose|motivation|hypothesis"
    r"|materials and methods|methods?|methods and (?:materials|findings|results)|methodology"
    r"|(?:study )?design|setting|participants|patients|interventions?|measurements"
    r"|main outcome measures?|results|(?:principal )?findings|limitations|discussion"
    r"|conclusions?|conclusions?/significance|interpretation|significance|implications"
    r"|originality|trial registration|funding)\W*",
    re.I,
)
#: The heading of a column with dates and keywords beside an abstract.
ARTICLE_INFO = re.compile(
    r"a ?r ?t ?i ?c ?l ?e ?(i ?n ?f ?o(rmation)?|h ?i ?s ?t ?o ?r ?y)\b", re.I
)
#: Opens the caption of a float: "Figure 3:", "Fig. 2.", "TABLE IV".
CAPTION = re.compile(
    r"(fig(?:ure|\.)?|table|tab\.|algorithm|scheme|listing)\s*"
    r"(?:[A-Z]?\d+(?:\.\d+)?|[IVX]+)(?:\s*[.:|—–]|\s*$)",
    re.I,
)
#: A numbered heading.
NUMBERED = re.compile(r"(?:\d{1,2}(?:\.\d{1,2}){0,3}\.?|[IVX]{1,4}\.|[A-Z](?:\.\d{1,2})*\.)\s+\S")
#: The numbered heading of a subsection.
SUBSECTION = re.compile(r"(?:\d{1,2}(?:\.\d{1,2}){1,3}\.?|[A-Z]\.)\s+[A-Z]")
_NAMED = re.compile(
    r"(introduction|background|related works?|preliminaries|methods?|methodology"
    r"|materials and methods"
    r"|experiments?|experimental (results|setup)|results|discussion"
    r"|results and discussion|evaluation"
    r"|conclusions?|concluding remarks|conclusions? and future work|future work|limitations"
    r"|acknowledge?ments?|references|bibliography|appendix|appendices|supporting information"
    r"|ethics statement|broader impact|reproducibility statement|summary|abstract)\W*",
    re.I,
)
#: A heading "References" before this share of a paper is part of a table of contents; small,
#: because an appendix may be ten times as long as the paper.
REFERENCES_AFTER = 0.08


class SectionKind(Enum):
    """The kind of a section. Only BODY is part of the prompt."""

    BODY = "body"
    REFERENCES = "references"
    ACKNOWLEDGMENTS = "acknowledgments"
    APPENDIX = "appendix"
    KEYWORDS = "keywords"


_NUMBER = r"(?:(?:\d+(?:\.\d+)*|[ivx]+|[a-z])[.):]?\s+)?"
_KINDS = {
    SectionKind.REFERENCES: r"references?( and notes)?|bibliography|literature cited|works cited",
    SectionKind.ACKNOWLEDGMENTS: r"acknowledge?ments?( and .{0,40})?|author contributions?|funding",
    SectionKind.APPENDIX: r"(technical )?appendix\b.{0,80}|appendices"
    r"|supplementary (material|information)s?|supporting information|supplemental materials?",
    SectionKind.KEYWORDS: r"key ?-?words( and phrases)?|index terms|ccs concepts",
}
_PATTERNS = {
    kind: re.compile(rf"{_NUMBER}(?:{pattern})\W*", re.I) for kind, pattern in _KINDS.items()
}


def heading_kind(heading: str) -> SectionKind:
    """The kind of section that this heading opens."""
    text = " ".join(re.sub(r"^\W+|[*#«»]", " ", heading).split())
    for kind, pattern in _PATTERNS.items():
        if pattern.fullmatch(text):
            return kind
    return SectionKind.BODY


def is_named(heading: str) -> bool:
    """Is this, without its number, a heading that many papers share?"""
    return _NAMED.fullmatch(re.sub(r"^(\d+(\.\d+)*|[IVX]+|[A-Z])[.)]?\s+", "", heading)) is not None


def ends_paper(heading: str) -> bool:
    """Does the reviewed text end before this heading?"""
    return heading_kind(heading) in (SectionKind.REFERENCES, SectionKind.APPENDIX)
