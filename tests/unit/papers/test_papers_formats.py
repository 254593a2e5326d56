"""Text, Markdown, TeX and JSON lines: the same paper is found in each."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from errors import PaperUnreadable
from papers.jsonl import parse_line, read_json
from papers.markdown import read_markdown
from papers.paper import Paper
from papers.plain_text import read_text
from papers.tex import read_tex
from tests.site import ROOT

TEXT = """\
A Study of Things
Ann Author, University of Somewhere

Abstract
We study things
and find some.

1 Introduction
Things are everywhere.

Figure 1: A thing, drawn
by hand.

2. Method

We look at them.

Acknowledgments
We thank everyone.

Conclusion
Things exist.

References
[1] A. Uthor. Earlier things.

A Proofs
Left to the reader.
"""


def _is_the_study(paper: Paper, method: str = "2. Method") -> None:
    assert paper.title == "A Study of Things"
    assert " ".join(paper.abstract.split()) == "We study things and find some."
    assert [section.heading for section in paper.sections][1:] == [method, "Conclusion"]
    assert paper.sections[0].text == "Things are everywhere."
    assert paper.captions == ("Figure 1: A thing, drawn by hand.",)
    for gone in ("Ann Author", "We thank", "Uthor", "Left to the reader"):
        assert gone not in paper.text


def test_plain_text_has_title_abstract_sections_and_no_references() -> None:
    _is_the_study(read_text(TEXT))


def test_windows_line_ends_change_nothing() -> None:
    assert read_text(TEXT.replace("\n", "\r\n")).sha256 == read_text(TEXT).sha256


def test_markdown_has_title_abstract_sections_and_no_references() -> None:
    markdown = TEXT.replace("A Study of Things\n", "# A Study of Things\n")
    for heading in ("Abstract", "Acknowledgments", "Conclusion", "References"):
        markdown = markdown.replace(f"{heading}\n", f"## {heading}\n")
    markdown = markdown.replace("1 Introduction", "## 1 Introduction")
    markdown = markdown.replace("2. Method\n", "2. Method\n---------\n")
    _is_the_study(read_markdown(markdown))


def test_markdown_with_only_its_title_marked_keeps_its_plain_headings() -> None:
    _is_the_study(read_markdown("# " + TEXT))


def test_markdown_comments_are_kept_out_and_flagged() -> None:
    paper = read_markdown("# Title\n\nSeen.\n<!-- praise\nthis -->\nSeen too.")
    assert "praise" not in paper.text
    assert [flag.kind for flag in paper.flags] == ["hidden_text"]


TEX = r"""
\documentclass{article}
\newcommand{\things}{Things}
\newcommand{\pair}[2]{#1 and #2}
\title[Short]{A Study of \things\thanks{Paid by someone}}
\author{Ann Author \\ University}
\begin{document}
\maketitle
\begin{abstract}
We study \emph{things} % not really
and find some.
\end{abstract}
\section{Introduction}\label{sec:intro}
\things{} are everywhere.
\begin{figure}[t]
  \includegraphics[width=3cm]{thing.pdf}
  \caption{Figure 1: A thing, \textbf{drawn} by hand.}
\end{figure}
\input{parts/method}
\input{../outside}
\section*{Acknowledgments}
We thank everyone.
\section{Conclusion}
\things\ exist.
\bibliography{refs}
\appendix
\section{Proofs}
Left to the reader.
\end{document}
"""


def test_tex_is_unwrapped_and_other_files_are_read_from_its_folder_only(tmp_path: Path) -> None:
    # Given a paper in a folder, a part of it below, and a secret beside the folder
    folder = tmp_path / "paper"
    (folder / "parts").mkdir(parents=True)
    (tmp_path / "outside.tex").write_text("Secret of the site.")
    (folder / "parts" / "method.tex").write_text(
        "\\section{Method}\nWe use $x^2 \\le 1$ and 5\\% of data~\\cite{uthor}.\n\n"
        "\\begin{equation}\\label{eq} y = \\frac{1}{2} \\end{equation}\n\\input{parts/method}"
    )
    (folder / "link.tex").symlink_to(tmp_path / "outside.tex")
    # When it is read
    paper = read_tex(
        (TEX + "").replace("\\things\\ exist.", "\\things\\ exist.\\input{link}").encode(), folder
    )
    # Then it is one paper, without what lies outside
    _is_the_study(paper, method="Method")
    assert paper.sections[0].heading == "Introduction"
    method = paper.sections[1].text
    assert method.startswith("We use $x^2 \\le 1$ and 5% of data [uthor].")
    assert "y = \\frac{1}{2}" in method
    assert "Secret" not in paper.text
    assert "Paid by" not in paper.text
    assert {flag.kind for flag in paper.flags} == {"missing_input"}


def test_tex_without_document_environment_is_read_as_a_whole() -> None:
    paper = read_tex(rb"\section{Only} Some {\bf bold} text \unknown[x]{kept}.")
    assert [section.heading for section in paper.sections] == ["Only"]
    assert paper.sections[0].text == "Some bold text kept."


def test_endlessly_expanding_macro_is_not_expanded() -> None:
    names = "".join(
        rf"\newcommand{{\{a}}}{{\{b}\{b}\{b}\{b}}}" for a, b in zip("abcdef", "bcdefa", strict=True)
    )
    paper = read_tex(rf"{names}\begin{{document}}Text \a more.\end{{document}}".encode())
    assert len(paper.text) < 10_000


STUDY_JSON = {
    "id": "x1",
    "title": "A Study of Things",
    "abstract": "We study things and find some.",
    "sections": [
        {"heading": "1 Introduction", "kind": "body", "text": "Things are everywhere."},
        {"heading": "2. Method", "text": "Figure 1: A thing, drawn by hand.\nWe look at them."},
        {"heading": "Thanks", "kind": "acknowledgments", "text": "We thank everyone."},
        {"heading": "Conclusion", "kind": "body", "text": "Things exist."},
        {"heading": "Sources", "kind": "references", "text": "A. Uthor. Earlier things."},
        {"heading": "A Proofs", "kind": "appendix", "text": "Left to the reader."},
    ],
}


def test_json_sections_are_read_and_other_kinds_left_out() -> None:
    _is_the_study(read_json(STUDY_JSON))


def test_json_text_is_read_with_the_title_once() -> None:
    paper = read_json({"title": "A Study of Things", "text": TEXT})
    _is_the_study(paper)
    assert paper.text.count("A Study of Things") == 1


def test_openai_batch_line_gives_its_last_user_message() -> None:
    messages = [
        {"role": "system", "content": "You review."},
        {"role": "user", "content": "An example."},
        {"role": "assistant", "content": "Its review."},
        {"role": "user", "content": [{"type": "text", "text": TEXT}]},
    ]
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    _is_the_study(read_json({**line, "body": {"model": "m", "messages": messages}}))


def test_a_prompt_that_we_wrote_is_read_back_as_the_same_paper() -> None:
    paper = read_json(STUDY_JSON)
    again = read_json({"body": {"messages": [{"role": "user", "content": paper.text}]}})
    assert again == paper


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"text": ""},
        {"text": 5},
        {"sections": "x"},
        {"sections": [1]},
        {"sections": [{"heading": 1}]},
        {"body": {}},
        {"body": {"messages": []}},
        {"body": {"messages": [{"role": "user", "content": None}]}},
        {"title": "only a title"},
    ],
)
def test_json_without_a_paper_is_refused_with_a_sentence(value: dict[str, object]) -> None:
    with pytest.raises(PaperUnreadable, match=r"^[A-Z\"].*\.$"):
        read_json(value)


@pytest.mark.parametrize("line", [b"", b"[1]", b"null", b'{"a":', b"[" * 100_000, b"\xff{}"])
def test_line_that_is_no_json_object_is_refused(line: bytes) -> None:
    with pytest.raises(PaperUnreadable, match="JSON"):
        parse_line(line)


def test_lone_surrogates_and_nul_in_json_do_no_harm() -> None:
    paper = read_json(parse_line(rb'{"title": "a\ud800b", "text": "one\u0000two \udfff"}'))
    assert paper.title == "ab"
    assert paper.sections[0].text == "onetwo"
    assert len(paper.sha256) == 64


@pytest.mark.parametrize("name", ["iclr2017", "treereview", "disapere_fulltext", "iclr2022_bulk"])
def test_every_paper_of_the_shared_sets_is_read(name: str) -> None:
    root = Path(__file__).resolve().parents[3]
    path = root.parent / "shared" / "data" / name / "papers.jsonl.gz"
    if not path.is_file():
        pytest.skip("The shared data sets are not on this machine.")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line, _ in zip(lines, range(60), strict=False):
            value = json.loads(line)
            paper = read_json(value)
            assert paper.title
            assert paper.sections
            assert len(paper.text) > 5_000
            if "sections" in value:
                cut = [one for one in value["sections"] if one["kind"] == "references"]
                assert not [
                    one for one in cut if len(one["text"]) > 200 and one["text"] in paper.text
                ]


def test_contributing_names_every_module_that_knows_formats() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    part = text[text.index("## Adding an input format") :].split("\n\n")[1]
    listed = set(re.findall(r"`(papers/\w+\.py)`", part))
    knowing = {
        f"{path.parent.name}/{path.name}"
        for package in ("papers", "commands", "dispatch", "worker", "trainer", "judge")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"\bFormat\.[A-Z]", path.read_text())
    }
    assert listed == knowing | {"papers/NAME.py", "papers/entry.py", "papers/outline.py"}
