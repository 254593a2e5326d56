"""Read a `Paper` from a PDF: visible title, abstract, sections and captions.

It runs in `papers.sandbox`, since a broken file can hang or crash the PDF library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from errors import PaperUnreadable
from papers.line_roles import NOTE_MARK, Role, roles, same_block, same_heading
from papers.not_a_paper import count_fields, doubts, legibility, require_pages
from papers.page_furniture import without_furniture
from papers.paper import HIDDEN_TEXT, Flag, Paper, Section
from papers.paragraphs import WordCounts, paragraph
from papers.pdf_page import Page, read_page
from papers.reading_order import Line, reading_order
from papers.sections import (
    ABSTRACT,
    CAPTION,
    REFERENCES_AFTER,
    STRUCTURED,
    SectionKind,
    ends_paper,
    heading_kind,
    is_named,
)
from papers.text_safety import safe_paper

#: Letters; a file with fewer has no usable text layer.
MIN_LETTERS = 30
#: Bytes that contain a PDF's header (ISO 32000-1, implementation note 13).
HEADER_BYTES = 1024
#: Letters; less hidden text, such as axis ticks under a plot, is not flagged.
FLAGGED_LETTERS = 8
#: Characters of an abstract without a heading, and of each of its lines but the last.
ABSTRACT_CHARS, ABSTRACT_LINE_CHARS = 150, 40

_AFTER_ABSTRACT = re.compile(
    r"(categories and subject|general terms|key ?-?words|index terms|ccs concepts|acm reference"
    r"|mathematics subject|jel |additional key|pacs |subject (area|class)|keywords)",
    re.I,
)


@dataclass
class _Draft:
    """Lines by their part of the paper, in reading order."""

    title: list[Line] = field(default_factory=list)
    abstract: list[Line] = field(default_factory=list)
    captions: list[list[Line]] = field(default_factory=list)
    sections: list[_DraftSection] = field(default_factory=list)


@dataclass
class _DraftSection:
    heading: str
    body: list[Line] = field(default_factory=list)
    #: Notes come after the body, so that they do not interrupt a sentence.
    tables: list[Line] = field(default_factory=list)
    notes: list[Line] = field(default_factory=list)


def read_pdf(path: Path, max_pages: int) -> Paper:
    """Read a PDF file. Raises PaperUnreadable."""
    with _open(path) as document:
        if len(document) == 0:
            raise PaperUnreadable("The PDF has no pages.", kind="no_pages")
        if len(document) > max_pages:
            sentence = f"The PDF has {len(document):,} pages; the limit is {max_pages:,}."
            raise PaperUnreadable(sentence, kind="too_long")
        pages = list(_pages(document))
        require_pages(document, pages)
        n_fields = count_fields(document)
    _require_text(pages)
    flags = legibility(pages)
    paper = paper_from_pages(pages)
    return replace(paper, flags=(*paper.flags, *flags, *doubts(paper, n_fields)))


def _open(path: Path) -> pdfium.PdfDocument:
    try:
        return pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        if error.err_code in (pdfium_c.FPDF_ERR_PASSWORD, pdfium_c.FPDF_ERR_SECURITY):
            sentence = "The PDF is encrypted and needs a password."
            raise PaperUnreadable(sentence, kind="encrypted") from error
        if error.err_code == pdfium_c.FPDF_ERR_SUCCESS:  # it was parsed and is empty
            raise PaperUnreadable("The PDF has no pages.", kind="no_pages") from error
        with path.open("rb") as file:
            if b"%PDF-" not in file.read(HEADER_BYTES):
                raise PaperUnreadable("The file is not a PDF.", kind="not_pdf") from error
        raise PaperUnreadable("The PDF is damaged or truncated.", kind="damaged") from error


def _pages(document: pdfium.PdfDocument) -> Iterator[Page]:
    for index in range(len(document)):
        try:
            yield read_page(document, index)
        except pdfium.PdfiumError as error:
            sentence = f"Page {index + 1} of the PDF is damaged."
            raise PaperUnreadable(sentence, kind="damaged") from error


def _require_text(pages: Sequence[Page]) -> None:
    letters = sum(char.isalpha() for page in pages for run in page.runs for char in run.text)
    if letters >= MIN_LETTERS:
        return
    if any(page.hidden for page in pages):
        raise PaperUnreadable("The PDF shows no text: all of it is hidden.", kind="no_text")
    sentence = "The PDF contains no text; its pages may be scanned images."
    raise PaperUnreadable(sentence, kind="no_text")


def paper_from_pages(pages: Sequence[Page]) -> Paper:
    """Assemble a paper from its pages; hidden text is left out and flagged."""
    stripped = without_furniture(pages)
    lines = reading_order(stripped)
    vocabulary = WordCounts(line.text for page_lines in lines for line in page_lines)
    draft = _assign_lines(_before_references(roles(stripped, lines)))
    sections = [
        Section(section.heading, _section_text(section, vocabulary))
        for section in draft.sections
        if heading_kind(section.heading) is SectionKind.BODY
    ]
    return safe_paper(
        title=paragraph([line.text for line in draft.title], vocabulary),
        abstract=_text(draft.abstract, vocabulary),
        sections=sections,
        captions=[paragraph([line.text for line in lines], vocabulary) for lines in draft.captions],
        flags=_flags(pages),
    )


def _flags(pages: Sequence[Page]) -> list[Flag]:
    flags = [
        Flag.quoting(HIDDEN_TEXT, hidden.reason, hidden.text, page.number)
        for page in pages
        for hidden in page.hidden
        if sum(map(str.isalpha, hidden.text)) >= FLAGGED_LETTERS
    ]
    scans = [page.number for page in pages if page.scanned]
    if scans:
        flags.append(Flag("scanned", "text recognised in a scanned image", scans[0]))
    return flags


def _before_references(named: list[tuple[Line, Role]]) -> list[tuple[Line, Role]]:
    for index, (line, role) in enumerate(named):
        late = index > REFERENCES_AFTER * len(named)
        alone = role in (Role.HEADING, Role.BODY) and len(line.text) < 40
        if late and alone and ends_paper(line.text):
            return named[:index]
    return named


def _assign_lines(named: Sequence[tuple[Line, Role]]) -> _Draft:
    draft = _Draft(title=[line for line, role in named if role is Role.TITLE])
    start = _abstract_start(named)
    stop: int | None = None
    if start is None and (unheaded := _unheaded_abstract(named)):
        start, stop = unheaded
    place: list[Line] | None = None if start is not None else _open_section(draft, "").body
    last: Role | None = None
    for index, (line, role) in enumerate(named):
        if index == start:
            place = draft.abstract
            inline = line.text if stop is not None else ABSTRACT.sub("", line.text, count=1)
            if inline.strip():
                place.append(_with_text(line, inline))
        elif place is None or role in (Role.TITLE, Role.FIGURE):
            _keep_caption(draft, line, role, last)
        elif index == stop:
            keywords = _open_section(draft, "Keywords").body
            place = _open_section(draft, line.text).body if role is Role.HEADING else keywords
        elif place is draft.abstract and _ends_abstract(line, role):
            place = _open_section(draft, "Keywords").body
        elif role is Role.HEADING and place is draft.abstract and _is_label(named, index):
            place.append(line)
        elif role is Role.HEADING:
            place = _heading(draft, line, named[index - 1][0] if last is role else None)
        elif role is Role.BODY:
            place.append(line)
        elif role is Role.CAPTION:
            _keep_caption(draft, line, role, last)
        elif draft.sections and role is Role.TABLE:
            draft.sections[-1].tables.append(line)
        elif draft.sections and line.page > 1:  # the first page's notes are about the authors
            draft.sections[-1].notes.append(line)
        last = role
    return draft


def _abstract_start(named: Sequence[tuple[Line, Role]]) -> int | None:
    for index, (line, role) in enumerate(named):
        if line.page > 2:
            return None
        if role in (Role.HEADING, Role.BODY) and _opens_abstract(line.text):
            return index
    return None


def _unheaded_abstract(named: Sequence[tuple[Line, Role]]) -> tuple[int, int] | None:
    """Start and end of the longest paragraph between the title and the first section."""
    end = next((i for i, (line, role) in enumerate(named) if _opens_body(line, role)), None)
    if end is None:
        return None
    notes = (i for i, (line, _) in enumerate(named[:end]) if _AFTER_ABSTRACT.match(line.text))
    end = next(notes, end)
    titles = [index for index, (_, role) in enumerate(named[:end]) if role is Role.TITLE]
    blocks: list[tuple[int, int]] = []
    for index in range(titles[-1] + 1 if titles else 0, end):
        line, role = named[index]
        if role is not Role.BODY:
            continue
        if blocks and blocks[-1][1] == index and same_block(named[index - 1][0], line):
            blocks[-1] = (blocks[-1][0], index + 1)
        else:
            blocks.append((index, index + 1))
    longest = max(blocks, key=lambda block: _length(named, block), default=None)
    return longest if longest and _is_abstract(named, longest) else None


def _opens_body(line: Line, role: Role) -> bool:
    first = _is_introduction(line.text) or is_named(line.text)
    return role is Role.HEADING and line.page <= 2 and first


def _length(named: Sequence[tuple[Line, Role]], block: tuple[int, int]) -> int:
    return sum(len(line.text) for line, _ in named[slice(*block)])


def _is_abstract(named: Sequence[tuple[Line, Role]], block: tuple[int, int]) -> bool:
    lines = [line for line, _ in named[slice(*block)]]
    prose = sum(len(line.text) >= ABSTRACT_LINE_CHARS for line in lines[:-1])
    sentence = lines[-1].text.rstrip().endswith((".", "!", "?"))
    return _length(named, block) >= ABSTRACT_CHARS and prose == len(lines) - 1 and sentence


def _is_label(named: Sequence[tuple[Line, Role]], index: int) -> bool:
    """Is this heading a label of a structured abstract, since the body begins after it?"""
    line = named[index][0]
    if not STRUCTURED.fullmatch(line.text) or line.page > 2:
        return False
    later = [line.text for line, role in named[index + 1 :] if role is Role.HEADING]
    label = line.text.lower().strip(" .:")
    if label == "introduction" and not any(map(_is_introduction, later)):
        return False
    return any(_is_introduction(text) or text.lower().strip(" .:") == label for text in later)


def _is_introduction(text: str) -> bool:
    return re.fullmatch(r"(?:(?:1|I)[.)]?\s+.*|introduction)\W*", text, re.I) is not None


def _ends_abstract(line: Line, role: Role) -> bool:
    return role in (Role.BODY, Role.HEADING) and _AFTER_ABSTRACT.match(line.text) is not None


def _opens_abstract(text: str) -> bool:
    mark = ABSTRACT.match(text)
    return mark is not None and (mark.end() == len(text) or mark[0].rstrip()[-1] in ".:—–-")


def _heading(draft: _Draft, line: Line, before: Line | None) -> list[Line]:
    if draft.sections and same_heading(before, line):
        draft.sections[-1].heading += " " + line.text
        return draft.sections[-1].body
    return _open_section(draft, line.text).body


def _open_section(draft: _Draft, heading: str) -> _DraftSection:
    draft.sections.append(_DraftSection(heading))
    return draft.sections[-1]


def _keep_caption(draft: _Draft, line: Line, role: Role, last: Role | None) -> None:
    if role is not Role.CAPTION:
        return
    if last is Role.CAPTION and not CAPTION.match(line.text):
        draft.captions[-1].append(line)
    else:
        draft.captions.append([line])


def _with_text(line: Line, text: str) -> Line:
    return replace(line, text=text.strip())


def _section_text(section: _DraftSection, vocabulary: WordCounts) -> str:
    notes: list[list[str]] = []
    for line in section.notes:
        if not notes or NOTE_MARK.match(line.text):
            notes.append([])
        notes[-1].append(line.text)
    parts = [
        _text(section.body, vocabulary),
        *(line.text for line in section.tables),
        *(paragraph(note, vocabulary) for note in notes),
    ]
    return "\n".join(part for part in parts if part)


def _text(lines: Sequence[Line], vocabulary: WordCounts) -> str:
    paragraphs: list[list[str]] = []
    before: Line | None = None
    for line in lines:
        if before is None or _starts_paragraph(before, line):
            paragraphs.append([])
        paragraphs[-1].append(line.text)
        before = line
    return "\n".join(paragraph(texts, vocabulary) for texts in paragraphs)


def _starts_paragraph(before: Line, line: Line) -> bool:
    ended = before.text.endswith((".", "!", "?", ":", "”", '"', ")"))
    if before.column != line.column or before.page != line.page:
        return ended and line.text[:1].isupper() and line.x0 > line.column_x0 + 0.7 * line.size
    apart = line.top - before.bottom > 0.8 * line.size
    return ended and (apart or line.x0 > before.x0 + 0.7 * line.size or not before.wide)
