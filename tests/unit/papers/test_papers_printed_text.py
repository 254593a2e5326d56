"""Text of printed pages: running heads and numbers are left out; what is no paper is flagged."""

from __future__ import annotations

import pytest

from papers.jsonl import read_json
from papers.paper import Paper
from papers.plain_text import read_text

HEAD = "Workshop on Things, volume 7"


def _pages(head: str, *, form_feeds: bool) -> str:
    pages = [
        f"{head}\n\nOn Things\nA. Author\n\nAbstract\nWe count.\n\n1\n\nIntroduction\n\nWe begin.\n\n1\n",  # noqa: E501
        f"{head}\n\nWe go on to page two.\n\n2.1\n\nA Method of Counting\n\nWe do.\n\n2\n",
        f"{head}\n\n3\nResults\n\nWe see 12 of 14.\n\n3\n",
    ]
    return ("\n\f" if form_feeds else "\n").join(pages)


@pytest.mark.parametrize(
    "head",
    [
        HEAD,
        "Under review as a conference paper at ICLR 2031",
        "Preprint. Under review.",
        "Published as a conference paper at COLM 2025",
    ],
)
@pytest.mark.parametrize("form_feeds", [True, False])
def test_heads_and_numbers_of_pages_are_left_out(head: str, form_feeds: bool) -> None:
    paper = read_text(_pages(head, form_feeds=form_feeds))
    assert (paper.title, paper.abstract) == ("On Things", "We count.")
    assert [one.heading for one in paper.sections] == [
        "1 Introduction",
        "2.1 A Method of Counting",
        "3 Results",
    ]
    assert head not in paper.text
    assert not [line for line in paper.text.split("\n") if line.strip().isdigit()]
    assert "We see 12 of 14." in paper.text


def test_numbers_of_lines_are_left_out_and_a_table_is_kept() -> None:
    numbers = "\n".join(f"{number:03}" for number in range(20))
    paper = read_text(
        f"On Things\n\nAbstract\nWe count.\n\n1 Introduction\n\n{numbers}\nText.\n\n7\n5\n9\nend"
    )
    assert paper.sections[0].text == "Text.\n7\n5\n9\nend"


def _flags(paper: Paper) -> list[str]:
    return [flag.kind for flag in paper.flags]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Abstract\nWe count things.", ["abstract_only"]),
        ("On Things\n\nDear Editor,\n\nplease find our paper enclosed.", ["not_a_paper"]),
        ("Response to Reviewers\n\nWe thank the reviewers for their comments.", ["not_a_paper"]),
        ("Consent\n\nName: ______\nDate: ______\nPlace: ______\nSigned", ["not_a_paper"]),
        ("Encoder\nDecoder\n0.5\nloss\nsteps\n", ["not_a_paper"]),
        ("On Things\n\nWe count things and find that there are many of them.", []),
        ("On Dear Things\n\nAbstract\nWe count.\n\nIntroduction\nDear things are dear.", []),
    ],
)
def test_what_is_no_paper_is_flagged(text: str, kinds: list[str]) -> None:
    assert _flags(read_text(text)) == kinds


PARAGRAPHS = [
    {"text": "We begin.", "section": "Introduction"},
    {"text": "We do.", "section": "Method"},
]


@pytest.mark.parametrize(
    "fields",
    [
        {"pdf_parse": {"body_text": PARAGRAPHS}},
        {"latex_parse": {"body_text": PARAGRAPHS, "abstract": [{"text": "Other."}]}},
        {
            "body_text": [
                {"text": "We begin.", "section": "Introduction", "sec_num": None},
                {"text": "We do.", "section": "Method"},
            ]
        },
        {
            "metadata": {
                "title": "T",
                "sections": [
                    {"heading": "Introduction", "text": "We begin."},
                    {"heading": "Method", "text": "We do."},
                ],
            }
        },
        {"full_text": "Introduction\nWe begin.\n\nMethod\nWe do."},
        {"paper_text": ["Introduction\nWe begin.", "Method\nWe do."]},
        {"content": {"text": {"value": "Introduction\nWe begin.\n\nMethod\nWe do."}}},
        {"markdown": "## Introduction\n\nWe begin.\n\n## Method\n\nWe do."},
    ],
)
def test_lines_of_parsers_are_read_as_sections(fields: dict[str, object]) -> None:
    paper = read_json({"title": "On Things", "abstract": "We count.", **fields})
    assert (paper.title, paper.abstract) == ("On Things", "We count.")
    assert [(one.heading, one.text) for one in paper.sections] == [
        ("Introduction", "We begin."),
        ("Method", "We do."),
    ]
    assert paper.flags == ()


def test_a_line_with_its_text_under_another_name_is_refused_with_that_name() -> None:
    from errors import PaperUnreadable

    value = {"title": "T", "abstract": "We count.", "texte": {"p": ["many words " * 20]}}
    with pytest.raises(PaperUnreadable, match='it is under "texte"'):
        read_json(value)


def test_an_abstract_alone_is_flagged() -> None:
    assert _flags(read_json({"title": "T", "abstract": "We count."})) == ["abstract_only"]
