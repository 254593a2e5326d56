"""Whatever a text file holds, reading it gives a paper or a sentence, and nothing else happens."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import PaperUnreadable, UserError
from papers.entry import Format
from papers.file_reader import read_file
from papers.jsonl import parse_line, read_json
from papers.paper import Paper
from papers.reading import PdfLimits, Reading, discover, read_all

PIECES = [
    b"# ", b"\n", b"\n\n", b"Abstract", b"References\n", b"[TITLE]\n", b"[ABSTRACT]\n",
    b"[CONTENT]\n",
    b"Figure 1: x", b"1 Introduction\n", b"===\n", b"{", b"}", b"[", b"]", b"\\", b"$", b"%", b"$$",
    b"\\section{", b"\\begin{abstract}", b"\\end{abstract}", b"\\begin{document}", b"\\input{x}",
    b"\\newcommand{\\a}{\\a\\a}", b"\\a", b"\\caption{", b"\\title{", b"\\begin{figure}", b"\\(",
    b'{"id": 1, "text": "', b'"}', b'{"sections": [{"text": "', b'"}]}', b"\xff\xfe", b"\x00",
    b"\\iffalse ", b"\\fi", b"\\else", b"\\textcolor{white}{", b"\\phantom{", b"\\footnote{",
    b"\\makebox[0pt]{", b"\\'", b"\\c", b"\\begin{tabular}{l}", b"\\end{x}", b"&", b"\\verb|",
    b"\\def\\b#1{#1#1}", b"\\b{", b"\\sbox0{", b"\\usebox0", b"<div hidden>", b"</div>", b"<!--", b"`",  # noqa: E501
    b"```\n", b"---\n", b"a: b\n", b"[^a]: x", b"[a]: #", b"<style>.x{", b"&#8203;", b"\x1f\x8b\x08",  # noqa: E501
    b"\xfe\xff", b"\r", b"\xe2\x80\xa8", b"\x0c", b"12\n",
    b"<|eot_id|>", "ﬁ\u200b".encode(), b"\xc3", b"word ", b"<!--", b"-->", b"![", b"](", b"**",
]  # fmt: skip
files = st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=40).map(b"".join)


def _check(reading: Reading) -> None:
    if reading.paper is None:
        assert reading.error
        assert reading.error_kind not in (None, "crashed")
        assert "\n" not in reading.error
    else:
        assert reading.error is None
        assert len(reading.paper.sha256) == 64
        assert "\x00" not in reading.paper.text


def _read(data: bytes, form: Format) -> Paper:
    if form is Format.JSON:
        return read_json(parse_line(data))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "paper"
        path.write_bytes(data)
        return read_file(path, form, 1)


@pytest.mark.parametrize("form", [Format.TEXT, Format.MARKDOWN, Format.JSON])
@given(data=files)
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_a_paper_or_paper_unreadable(form: Format, data: bytes) -> None:
    with contextlib.suppress(PaperUnreadable):
        paper = _read(data, form)
        assert len(paper.sha256) == 64
        assert "\x00" not in paper.text


def _read_tex(data: bytes) -> Paper:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "paper.tex"
        path.write_bytes(data)
        return read_file(path, Format.TEX, 1)


@given(data=files)
@settings(max_examples=150, deadline=None)
def test_any_bytes_as_tex_give_a_paper_or_paper_unreadable(data: bytes) -> None:
    with contextlib.suppress(PaperUnreadable):
        assert len(_read_tex(data).sha256) == 64


@given(contents=st.lists(files, min_size=5, max_size=20))
@settings(max_examples=8, deadline=None)
def test_any_bytes_in_a_folder_give_readings_or_a_sentence(contents: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(contents):
            suffix = ("txt", "md", "jsonl", "tex")[number % 4]
            (Path(folder) / f"{number}.{suffix}").write_bytes(data)
        try:
            entries = discover([folder])
        except UserError:
            return  # no lines, or one name for different lines
        readings = list(read_all(entries, cache=None, limits=PdfLimits(), processes=1))
    assert [reading.custom_id for reading in readings] == [entry.custom_id for entry in entries]
    for reading in readings:
        _check(reading)


@pytest.mark.parametrize(
    "data",
    [
        b"\\begin{figure}" * 20_000,
        b"$" + b"a" * 200_000,
        b"{" * 200_000,
        b"\\caption{" * 5_000,
        b"\\[" * 50_000,
        b"\\cite[" * 20_000,
        b"%" * 200_000,
        b"\\begin{tabular}" * 20_000,
        b"\\iffalse " * 10_000,
        b"\\newcommand{\\a}{" * 4_000,
        b"\\section{" * 10_000,
        b"\\footnote{" * 10_000,
        b"\\def\\a#1{#1#1#1}\\a{\\a{\\a{\\a{x}}}}" * 300,
    ],
    ids=lambda data: data[:12].decode(),
)
@pytest.mark.timeout(60)
def test_pathological_tex_is_read_in_seconds(data: bytes) -> None:
    paper = _read_tex(b"Some text. " + data)
    assert paper.text


@pytest.mark.parametrize(
    "data",
    [
        b"# " + b" " * 300_000 + b"x",
        b"<!--" * 50_000,
        b"[TITLE]\nx\n" + b"[ABSTRACT]\nx\n[CAPTIONS]\n" * 20_000,
        b"![" * 100_000,
        b"[" * 2_000_000,
        b"<div " * 50_000,
        b"[\\" * 200_000,
        b"```x\n" * 50_000,
        b"[^a]: x\n" * 20_000,
        b"<|" * 100_000 + b"[How to " * 10_000,
        b"#\n" * 100_000 + b"x",
        b"Some text.\n" + b"Figure 1: x\n" * 50_000,
    ],
    ids=lambda data: repr(data[:9]),
)
@pytest.mark.parametrize("form", [Format.TEXT, Format.MARKDOWN])
@pytest.mark.timeout(60)
def test_pathological_text_is_read_in_seconds(form: Format, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "paper").write_bytes(b"Some text.\n" + data)
    assert read_file(tmp_path / "paper", form, 1).text
