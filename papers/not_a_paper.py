"""Tell files that are no papers: stubs of forms, portfolios, illegible fonts, other documents.

docs/pdf.md states these rules for users.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from errors import PaperUnreadable
from papers.paper import Flag, Paper
from papers.pdf_page import Page

#: Letters; the pages of a form's stub or of a portfolio's cover have fewer.
STUB_LETTERS = 1_500
#: Glyphs in fonts without character maps; fewer, such as those of formulas, are not judged.
MIN_UNMAPPED = 100
#: Share of a paper's glyphs whose fonts do not say what they show: refused above it, or flagged.
REFUSED_UNMAPPED, FLAGGED_UNMAPPED = 0.5, 0.1
#: Least share of common words in a text that is in one of the languages below.
COMMON_WORDS = 0.04
#: Characters; a paper has more text outside its title and abstract.
MIN_BODY = 400
#: Sentences; the labels of a figure and the cells of a table have fewer.
MIN_SENTENCES = 3
#: Fields of a form to fill in.
MIN_FIELDS = 3

#: The most common words of the larger languages in Latin script.
_WORDS = (
    "the of and to in is for that we with on are as by this be from which an or can not have it at"
    " der die das und von den mit ist ein eine zu im für auf des dem nicht sich"
    " le la les des et en une dans que pour est du par sur au qui"
    " el los las del que por con para una se es de do da em um uma os no na com não"
    " il di che per un della sono nel i è gli het een van dat op voor niet zijn te"
    " och att det som av för är på til og i ja on ei se että"
    " w z się na nie jest do że a v je že se bir ve bu ile için"
)
_COMMON = frozenset(_WORDS.split())
_LETTER = re.compile(
    r"(dear (?:editor|editors|sir|madam|dr|prof|professor|reviewers?|colleagues?|mr|mrs|ms)\b"
    r"|to whom it may concern|to the editor|sehr geehrte|cher |estimad[oa])",
    re.I,
)
_SENTENCE_END = re.compile(r"\w[.!?](?:\s|$)")
_CLOSING = re.compile(
    r"\b(sincerely|(?:kind|best|warm) regards|yours (?:faithfully|truly)|respectfully)\b", re.I
)


def require_pages(document: pdfium.PdfDocument, pages: Sequence[Page]) -> None:
    """Refuse XFA forms and portfolios, whose pages are only a notice. Raises PaperUnreadable."""
    letters = sum(map(str.isalpha, _text(pages)))
    if letters >= STUB_LETTERS:
        return
    form = pdfium_c.FPDF_GetFormType(document)
    if form in (pdfium_c.FORMTYPE_XFA_FULL, pdfium_c.FORMTYPE_XFA_FOREGROUND):
        raise PaperUnreadable(
            "The PDF is an XFA form, whose pages contain no paper; print it to a PDF first.",
            kind="form",
        )
    if pdfium_c.FPDFDoc_GetAttachmentCount(document) > 0:
        raise PaperUnreadable(
            "The PDF is a portfolio, whose pages contain no paper; submit the files inside it.",
            kind="portfolio",
        )


def legibility(pages: Sequence[Page]) -> list[Flag]:
    """A flag when fonts do not say which letters they show. Raises PaperUnreadable if most do."""
    unmapped = "".join(page.unmapped for page in pages)
    count = _inked(unmapped)
    if count < MIN_UNMAPPED or _is_language(unmapped):
        return []
    share = count / max(count, _inked(_text(pages)))
    sentence = "The fonts of the PDF do not say which letters they show"
    if share >= REFUSED_UNMAPPED:
        raise PaperUnreadable(
            f"{sentence}; export it again with embedded Unicode maps.", kind="no_unicode"
        )
    if share < FLAGGED_UNMAPPED:
        return []
    return [Flag("no_unicode", f"the fonts of {share:.0%} of the glyphs do not say what they show")]


def _is_language(text: str) -> bool:
    words = re.findall(r"[^\W\d_]+", text.lower())
    return sum(word in _COMMON for word in words) >= COMMON_WORDS * max(1, len(words))


def _inked(text: str) -> int:
    return sum(not char.isspace() for char in text)


def _text(pages: Sequence[Page]) -> str:
    return " ".join(run.text for page in pages for run in page.runs)


def doubts(paper: Paper, n_fields: int) -> list[Flag]:
    """A flag when the file reads like something else than a paper: the first rule that fits."""
    reason = _reason(paper, n_fields)
    return [Flag("not_a_paper", reason)] if reason else []


def _reason(paper: Paper, n_fields: int) -> str | None:
    body = "\n".join(section.text for section in paper.sections)
    headed = any(section.heading for section in paper.sections)
    if n_fields >= MIN_FIELDS:
        return f"a form with {n_fields} fields to fill in"
    opening = "\n".join([paper.title, *(f"{one.heading}\n{one.text}" for one in paper.sections)])
    if any(map(_LETTER.match, opening.split("\n"))) and _CLOSING.search(opening):
        return "a letter, with salutation and closing"
    if paper.abstract and len(body) < MIN_BODY and not headed:
        return "an abstract alone"
    if not paper.abstract and not headed:
        sentences = len(_SENTENCE_END.findall(body))
        if len(body) < MIN_BODY or sentences < MIN_SENTENCES:
            return "a figure or a few lines, without abstract and sections"
    return None


def count_fields(document: pdfium.PdfDocument) -> int:
    """The visible form fields of the first pages."""
    if pdfium_c.FPDF_GetFormType(document) == pdfium_c.FORMTYPE_NONE:
        return 0
    count = 0
    for index in range(min(2, len(document))):
        page = document[index]
        for position in range(pdfium_c.FPDFPage_GetAnnotCount(page)):
            annotation = pdfium_c.FPDFPage_GetAnnot(page, position)
            count += pdfium_c.FPDFAnnot_GetSubtype(annotation) == pdfium_c.FPDF_ANNOT_WIDGET
            pdfium_c.FPDFPage_CloseAnnot(annotation)
    return count
