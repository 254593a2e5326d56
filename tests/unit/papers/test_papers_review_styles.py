"""Papers in the review styles of conferences and journals, with line numbers in their margins.

The PDFs in `review_styles` were made with LaTeX from one text: elsarticle, acmart, IEEEtran, llncs,
revtex4-2 and article with lineno; ICLR, NeurIPS, ICML and ACL ARR are imitated by their geometry.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pytest

from papers.paper import Paper
from papers.pdf import read_pdf

FOLDER = Path(__file__).parent / "review_styles"
STYLES = sorted(path.stem for path in FOLDER.glob("*.pdf") if path.stem != "bitmap_fonts")
TITLE = "Counting Every Paper Exactly Once"
HEADINGS = [
    heading + again
    for again in ("", " Again")
    for heading in ("Introduction", "Method", "Leases", "Experiments", "Discussion")
]
HEADINGS[7] = "Leases"
#: The numbers of the text itself: prose, one displayed equation a method.
NUMBERS = {"1024", "17", "2019", "5", "(1)", "(2)"}
PARAGRAPHS = (
    "We study how reviewers read papers",
    "of the text.",
    "Earlier systems kept papers",
    "and lost them with the process. We store each of them before anything else happens",
    "between the machines.",
)


@lru_cache(maxsize=len(STYLES))
def read(style: str) -> Paper:
    return read_pdf(FOLDER / f"{style}.pdf", max_pages=20)


@pytest.mark.parametrize("style", STYLES)
def test_paper_under_review_reads_as_printed(style: str) -> None:
    paper = read(style)
    assert paper.title.lower() == TITLE.lower()
    assert paper.abstract.startswith("We describe a queue that keeps every paper exactly once.")
    assert paper.abstract.endswith("nothing is written twice, whatever dies in between.")
    headings = [re.sub(r"^(?:[IVX]+\.|[A-Z]\.|[\d.]+) ", "", one.heading) for one in paper.sections]
    assert [one.lower() for one in headings] == [one.lower() for one in HEADINGS]
    assert paper.flags == ()


@pytest.mark.parametrize("style", STYLES)
def test_no_number_of_the_margins_is_in_the_text(style: str) -> None:
    paper = read(style)
    for section in paper.sections:
        words = section.text.replace(",", " ").replace(".", " ").split()
        numbers = {word for word in words if re.fullmatch(r"\(?\d+\)?", word)}
        assert numbers <= NUMBERS, section.heading


@pytest.mark.parametrize("style", STYLES)
def test_columns_are_read_one_after_the_other(style: str) -> None:
    paper = read(style)
    for section in (paper.sections[0], paper.sections[-1]):
        text = " ".join(section.text.split())
        places = [text.find(phrase) for phrase in PARAGRAPHS]
        assert -1 not in places
        assert places == sorted(places)


def test_ligatures_of_bitmap_fonts_are_read() -> None:
    paper = read_pdf(FOLDER / "bitmap_fonts.pdf", max_pages=2)
    assert paper.title == "Efficient Offline Affine Flows of Waffles"
    assert paper.abstract.startswith("We find that efficient offline flows affect the first")
    assert "The difficult shuffle is finite." in paper.sections[0].text
