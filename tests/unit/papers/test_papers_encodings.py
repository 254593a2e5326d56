"""Every reader of text decides encodings in one place; what is no text is refused in a sentence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from errors import PaperUnreadable
from papers.encoding import MAX_TEXT_BYTES, decode
from papers.entry import Format
from papers.file_reader import read_file
from papers.jsonl import read_line
from papers.line_files import LineReader, scan
from papers.paper import Paper
from papers.reading import PdfLimits, discover, read_all

TITLE = "Größe naïver Maße"
SOURCES = {
    Format.TEXT: f"{TITLE}\n\nAbstract\nWe count.\n\n1 Introduction\n\nWe begin.\n",
    Format.MARKDOWN: f"# {TITLE}\n\n## Abstract\n\nWe count.\n\n## 1 Introduction\n\nWe begin.\n",
    Format.TEX: f"\\documentclass{{article}}\n\\title{{{TITLE}}}\n\\begin{{document}}\n"
    "\\begin{abstract}We count.\\end{abstract}\n\\section{1 Introduction}\nWe begin.\n\\end{document}\n",  # noqa: E501
}
ENCODINGS = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16, big": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "old Macintosh": lambda text: text.replace("\n", "\r").encode(),
    "line separators": lambda text: text.replace("\n", "\u2028").encode(),
    "next line": lambda text: text.replace("\n", "\x85").encode(),
    "gzip": lambda text: gzip.compress(text.encode("utf-16")),
    "gzip in two members": lambda text: (
        gzip.compress(text[:20].encode()) + gzip.compress(text[20:].encode())
    ),
    "Latin 1": lambda text: text.encode("latin-1"),
}
UNFLAGGED = {"UTF-16 without a mark", "Latin 1"}


def _is_the_paper(paper: Paper) -> None:
    assert (paper.title, paper.abstract) == (TITLE, "We count.")
    assert [(one.heading, one.text) for one in paper.sections if one.heading] == [
        ("1 Introduction", "We begin.")
    ]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", SOURCES)
def test_every_reader_reads_every_encoding(tmp_path: Path, form: Format, encoding: str) -> None:
    path = tmp_path / "paper"
    path.write_bytes(ENCODINGS[encoding](SOURCES[form]))
    paper = read_file(path, form, 1)
    _is_the_paper(paper)
    assert {flag.kind for flag in paper.flags} == ({"encoding"} if encoding in UNFLAGGED else set())


@pytest.mark.parametrize(
    "encoding",
    [
        "UTF-8 with a mark",
        "UTF-16",
        "UTF-16 without a mark",
        "old Macintosh",
        "Windows",
        "gzip",
        "Latin 1",
    ],
)
def test_json_lines_are_read_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    text = SOURCES[Format.TEXT]
    lines = [json.dumps({"id": name, "text": text}, ensure_ascii=False) for name in "abc"]
    path = tmp_path / "set.jsonl"
    path.write_bytes(ENCODINGS[encoding]("\n".join(lines)))
    found = list(scan(path))
    assert [number for number, _, _ in found] == [1, 2, 3]
    reader = LineReader()
    for _, offset, line in reversed(found):  # backwards: positions are exact
        assert reader.read(path, offset, len(line)) == line
        _is_the_paper(read_line(line))
    reader.close()


@pytest.mark.parametrize(
    ("declared", "encoding", "word"),
    [
        ("latin2", "iso8859-2", "Łódź"),
        ("cp1251", "cp1251", "Наука"),
        ("latin9", "iso8859-15", "cœur"),
        ("applemac", "mac-roman", "Größe"),
    ],
)
def test_tex_declares_its_encoding(tmp_path: Path, declared: str, encoding: str, word: str) -> None:
    source = f"\\documentclass{{article}}\n\\usepackage[{declared}]{{inputenc}}\n\\begin{{document}}{word}"  # noqa: E501
    (tmp_path / "a.tex").write_bytes(source.encode(encoding))
    paper = read_file(tmp_path / "a.tex", Format.TEX, 1)
    assert paper.sections[0].text == word
    assert paper.flags == ()


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Методы машинного обучения решают задачи классификации текстов. ", "cp1251"),
        ("本研究では深層学習を用いた手法を提案し、実験により有効性を示した。", "cp932"),
        ("我们提出了一种新的方法来解决这个问题，实验结果表明其有效性。", "gb18030"),
    ],
)
def test_a_legacy_encoding_is_detected_and_flagged(text: str, encoding: str) -> None:
    found, flags = decode(("On Things\n" + text * 3).encode(encoding))
    assert text in found
    assert [flag.kind for flag in flags] == ["encoding"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x00\x01\x02\x03" * 50, "not_text"),
        (bytes(range(256)) * 20, "not_text"),
        (b"\x7fELF\x02\x01\x01" + bytes(60), "not_text"),
        (b"\xff\xfe", "empty"),
        (b"\xef\xbb\xbf \n", "empty"),
        (gzip.compress(b"word " * 99)[:-20], "damaged"),
        (b"\x1f\x8b\x08 not gzip at all", "damaged"),
        (gzip.compress(bytes(MAX_TEXT_BYTES + 9)), "too_large"),
        (gzip.compress(gzip.compress(b"word " * 99)), "not_text"),
    ],
)
def test_what_is_no_text_is_refused_in_a_sentence(data: bytes, kind: str) -> None:
    with pytest.raises(PaperUnreadable, match=r"^The [^\n]+\.$") as failure:
        decode(data)
    assert failure.value.kind == kind


@pytest.mark.timeout(60)
@pytest.mark.parametrize("end", [b'"}', b'"}\n', b'"}\n{"id": "z", "text": "Two."}'])
def test_a_line_above_the_limit_is_refused_alone(tmp_path: Path, end: bytes) -> None:
    long = b'{"id": "long", "text": "' + b"word " * (MAX_TEXT_BYTES // 5 + 1)
    (tmp_path / "set.jsonl").write_bytes(b'{"id": "a", "text": "One."}\n' + long + end)
    readings = list(
        read_all(discover([str(tmp_path)]), cache=None, limits=PdfLimits(), processes=1)
    )
    assert [bool(one.paper) for one in readings] == [True, False, True][: len(readings)]
    assert readings[1].error_kind == "too_large"
    assert len(readings) == (3 if b"z" in end else 2)


def test_a_gzipped_line_without_end_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(80):
            file.write(b"a" * 2**20)
    [(number, offset, line)] = list(scan(path))
    assert (number, offset, len(line)) == (1, 0, MAX_TEXT_BYTES + 1)
