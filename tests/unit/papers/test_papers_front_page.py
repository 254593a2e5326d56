"""Titles, abstracts and running heads in the arrangements of journals' first pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from papers.paper import Paper
from papers.pdf import read_pdf
from tests.unit.papers.handmade_pdf import line, pdf

TITLE = "Counting Papers on Every Front Page"
SENTENCES = [f"The abstract says in line {i} what the whole paper shows." for i in range(5)]


def text(x: float, y: float, texts: list[str], size: float = 10) -> str:
    return "".join(line(x, y - 12 * i, one, size) for i, one in enumerate(texts))


def body(y: float, *, first: str = "1 Introduction") -> str:
    prose = [
        f"This line {i} of the paper is long enough to be read as running text." for i in range(8)
    ]
    sections = [(y, first), (y - 130, "2 Method")]
    return "".join(line(72, at, name, 13) + text(72, at - 18, prose) for at, name in sections)


def read(tmp_path: Path, *pages: str) -> Paper:
    path = tmp_path / "paper.pdf"
    path.write_bytes(pdf(list(pages)))
    return read_pdf(path, max_pages=10)


def headings(paper: Paper) -> list[str]:
    return [section.heading for section in paper.sections]


@pytest.mark.parametrize(
    "masthead",
    [
        [(750, "International Journal of Counting", 24)],
        [(750, "Countings", 26), (730, "Article", 9)],
        [(755, "IEEE TRANSACTIONS ON COUNTING", 22)],
        [(755, "Paper Science", 24), (735, "Paper Science 12 (2024) 1-19", 8)],
        [(760, "Contents lists available at ScienceDirect", 20), (738, "Annals of Counting", 22)],
    ],
)
def test_title_is_smaller_than_the_name_of_the_journal(
    tmp_path: Path, masthead: list[tuple[float, str, float]]
) -> None:
    heads = "".join(line(72, y, name, size) for y, name, size in masthead)
    page = heads + line(72, 690, TITLE, 17) + line(72, 670, "A. Person and B. Other", 11)
    page += line(72, 640, "Abstract", 12) + text(72, 622, SENTENCES) + body(530)
    paper = read(tmp_path, page)
    assert paper.title == TITLE
    assert paper.abstract == " ".join(SENTENCES)
    assert headings(paper) == ["1 Introduction", "2 Method"]


@pytest.mark.parametrize("title", ["Deep Counting", "Attention Is Not All You Count"])
def test_authors_in_large_print_are_not_the_title(tmp_path: Path, title: str) -> None:
    page = line(72, 740, title, 20) + line(72, 700, "Anna Person, Bert Other and Cora Third", 14)
    page += line(72, 640, "Abstract", 12) + text(72, 622, SENTENCES) + body(530)
    assert read(tmp_path, page).title == title


@pytest.mark.parametrize("info_on_the_right", [False, True])
@pytest.mark.parametrize("spaced", [False, True])
def test_article_information_beside_the_abstract_is_apart(
    tmp_path: Path, info_on_the_right: bool, spaced: bool
) -> None:
    names = ("A R T I C L E I N F O", "A B S T R A C T") if spaced else ("Article info", "Abstract")
    left, right = (400, 72) if info_on_the_right else (72, 230)
    infos = ["Article history:", "Received 1 May 2023", "Keywords:", "Counting", "Papers", "Pages"]
    page = line(72, 740, TITLE, 17) + line(72, 715, "A. Person and B. Other", 11)
    page += line(left, 690, names[0], 9) + text(left, 675, infos, 8)
    page += line(right, 690, names[1], 9) + text(right, 675, SENTENCES, 9)
    paper = read(tmp_path, page + body(580))
    assert paper.abstract == " ".join(SENTENCES)
    assert headings(paper) == ["1 Introduction", "2 Method"]
    assert "Received" not in paper.text


@pytest.mark.parametrize(
    "labels",
    [("Objective", "Design", "Findings"), ("Background", "Methods and Findings", "Conclusions")],
)
@pytest.mark.parametrize("introduction", ["1 Introduction", "Introduction"])
def test_structured_abstract_is_one_abstract(
    tmp_path: Path, labels: tuple[str, ...], introduction: str
) -> None:
    page = line(72, 750, TITLE, 17) + line(72, 725, "Abstract", 12)
    for index, label in enumerate(labels):
        page += line(72, 700 - 40 * index, label, 11)
        page += line(72, 685 - 40 * index, SENTENCES[index])
    paper = read(tmp_path, page + body(560, first=introduction))
    assert all(sentence in paper.abstract for sentence in SENTENCES[: len(labels)])
    assert headings(paper) == [introduction, "2 Method"]


@pytest.mark.parametrize(
    "after", ["Categories and Subject Descriptors: H.3", "PACS numbers: 05.10"]
)
def test_abstract_without_a_heading(tmp_path: Path, after: str) -> None:
    page = line(72, 750, TITLE, 17) + line(72, 725, "A. Person, Some University", 11)
    page += text(72, 695, SENTENCES) + line(72, 615, after, 9)
    paper = read(tmp_path, page + body(580))
    assert paper.abstract == " ".join(SENTENCES)
    assert headings(paper)[-2:] == ["1 Introduction", "2 Method"]
    assert after not in paper.text


def test_running_heads_with_page_numbers_of_a_short_paper(tmp_path: Path) -> None:
    first = line(72, 700, TITLE, 17) + line(72, 670, "Abstract", 12) + text(72, 655, SENTENCES)
    even = line(72, 750, "2", 9) + line(300, 750, "A. Person and B. Other", 9)
    odd = line(72, 750, "Counting on Pages", 9) + line(500, 750, "3", 9)
    lines = [f"Line {i} of a later page goes on with the sentence of the" for i in range(30)]
    pages = (first + body(560), even + text(72, 710, lines), odd + text(72, 710, lines))
    paper = read(tmp_path, *pages)
    assert "B. Other" not in paper.text
    assert "Counting on Pages" not in paper.text
