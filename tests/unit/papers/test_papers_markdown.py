"""Markdown as authors and converters write it: front matter, fences, spans, pictures, abstracts."""

from __future__ import annotations

import pytest

from papers.markdown import read_markdown

BODY = "\n\n# Introduction\n\nWe begin.\n\n# Method\n\nWe do.\n\n# Results\n\nWe see.\n"


@pytest.mark.parametrize(
    "front",
    [
        "---\ntitle: On Things\nabstract: We count.\n---\n",
        "---\ntitle: 'On Things'\nabstract: >\n  We\n  count.\nauthor:\n- A\n...\n",
        "\ufeff---\ndate: 2020-01-01\nTitle: On Things\nAbstract: |\n  We count.\n---\n",
        "---\ntitle: On Things\nabstract: We count.\nnote: broken: yaml: here\n---\n",
    ],
)
def test_front_matter_gives_title_and_abstract(front: str) -> None:
    paper = read_markdown(front + BODY)
    assert (paper.title, paper.abstract) == ("On Things", "We count.")
    assert [one.heading for one in paper.sections] == ["Introduction", "Method", "Results"]
    assert "---" not in paper.text


def test_a_rule_at_the_beginning_is_no_front_matter() -> None:
    paper = read_markdown("---\nNot a field\n---\n\n# On Things" + BODY)
    assert "Not a field" in paper.title + paper.text


@pytest.mark.parametrize(
    "abstract",
    [
        "**Abstract.** We count.",
        "***Abstract*—We count.**",
        "__Abstract:__ We count.",
        "*Abstract* — We count.",
        "**Abstract** We count.",
        "_Abstract_\n\nWe count.",
        "<h3>Abstract</h3>\n\nWe count.",
        '#### <span id="p"></span>**Abstract**\n\nWe count.',
    ],
)
def test_an_abstract_under_an_emphasised_word_is_found(abstract: str) -> None:
    paper = read_markdown(f"# On Things\n\nA. Author\n\n{abstract}{BODY}")
    assert paper.abstract == "We count."
    assert paper.sections[0].heading == "Introduction"


@pytest.mark.parametrize("fence", ["```", "~~~", "`````", "```sh", "~~~ python"])
def test_code_in_fences_has_no_headings_and_no_markup(fence: str) -> None:
    close = fence.rstrip("abcdefghijklmnopqrstuvwxyz ")
    code = f"{fence}\n# References\n<div hidden>x</div>\n===\n{close}"
    paper = read_markdown(f"# On Things{BODY}".replace("We do.", f"{code}\n\nAfter."))
    assert [one.heading for one in paper.sections][-3:] == ["Introduction", "Method", "Results"]
    assert "# References\n<div hidden>x</div>" in paper.sections[-2].text
    assert paper.sections[-2].text.endswith("After.")
    assert "```" not in paper.text


@pytest.mark.parametrize(
    "stray", ["```", "```\n\n```python\nx = 1\n```\n\n```python\ny = 2\n```", "~~~"]
)
def test_a_stray_fence_does_not_make_code_of_the_rest(stray: str) -> None:
    paper = read_markdown(f"# On Things{BODY}".replace("We begin.", stray))
    assert [one.heading for one in paper.sections][-2:] == ["Method", "Results"]


@pytest.mark.parametrize(
    "picture",
    [
        "![](data:image/png;base64,{})",
        "![Image](data:image/jpeg;base64,{})",
        '<img alt="x" src="data:image/svg+xml;charset=utf-8;base64,{}"/>',
        "[pic]: data:image/gif;base64,{}",
    ],
)
def test_pictures_in_base64_are_left_out(picture: str) -> None:
    paper = read_markdown(f"# On Things{BODY}".replace("We do.", picture.format("iVBO/+9" * 9000)))
    assert "iVBO" not in paper.text
    assert len(paper.text) < 400


def test_html_tables_and_spans_become_rows_and_words() -> None:
    table = "<table><tr><th>Name</th><th># of x</th></tr><tr><td># one</td><td>2</td></tr></table>"
    span = 'See <span id="page-1"></span>[\\[3\\]](#page-2), H<sub>2</sub>O, <b>bold</b>.'
    paper = read_markdown(f"# On Things{BODY}".replace("We do.", f"{table}\n\n{span}"))
    assert paper.sections[-2].text == "Name # of x\n# one 2\nSee [3], H2O, bold."


@pytest.mark.parametrize(
    "mark",
    ["==> picture [20 x 30] intentionally omitted <==", "{3}" + "-" * 48, "[MISSING_PAGE_EMPTY:4]"],
)
def test_marks_of_converters_are_left_out(mark: str) -> None:
    paper = read_markdown(f"# On Things{BODY}".replace("We do.", f"One.\n\n{mark}\n\nTwo."))
    assert paper.sections[-2].text == "One.\nTwo."
