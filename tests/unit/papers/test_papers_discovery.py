"""What a user may name, and the one sentence that a mistake gets."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest

from errors import UserError
from papers.entry import Format
from papers.reading import PdfLimits, discover, read_all
from tests.unit.papers.handmade_pdf import line, pdf, prose


def _write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Title of {name}\n\nText of {name}.")


def _names(folder: Path, *paths: str) -> list[str]:
    return [entry.custom_id for entry in discover([str(folder / path) for path in paths])]


def test_folder_is_searched_recursively_in_order(tmp_path: Path) -> None:
    _write(tmp_path, "b.txt", "a.md", "sub/c.txt", "sub/deep/d.markdown")
    _write(tmp_path, ".hidden.txt", ".git/e.txt", "README.md", "LICENSE.txt", "data.csv", "f.py")
    assert _names(tmp_path, ".") == ["a", "b", "c", "d"]


def test_of_a_tex_project_only_the_main_file_is_a_paper(tmp_path: Path) -> None:
    _write(tmp_path, "intro.tex")
    (tmp_path / "main.tex").write_text("\\documentclass{article}\\begin{document}x\\end{document}")
    assert _names(tmp_path, ".") == ["main"]
    assert _names(tmp_path, "intro.tex") == ["intro"]


def test_pattern_and_file_and_folder_name_a_file_once(tmp_path: Path) -> None:
    _write(tmp_path, "p1.txt", "p2.txt", "q.txt")
    assert _names(tmp_path, "p*.txt", "p1.txt", ".") == ["p1", "p2", "q"]


def test_pdf_content_is_read_as_pdf_under_any_name(tmp_path: Path) -> None:
    data = pdf([line(72, 740, "A Good Paper", 18) + prose("A sentence of prose stands here")])
    (tmp_path / "paper.txt").write_bytes(data)
    (tmp_path / "submission_17").write_bytes(data)
    entries = discover([str(tmp_path / "paper.txt"), str(tmp_path / "submission_17")])
    assert [entry.format for entry in entries] == [Format.PDF, Format.PDF]
    assert [entry.custom_id for entry in entries] == ["paper", "submission_17"]


@pytest.mark.parametrize(
    ("paths", "culprit"),
    [
        (["missing.pdf"], "missing.pdf"),
        (["nothing*.pdf"], r"nothing\*.pdf"),
        (["empty"], "empty"),
        (["data.csv"], "data.csv"),
        (["empty.jsonl"], "empty.jsonl"),
        (["a/x.txt", "b/x.md"], r"x \(.*a/x.txt and .*b/x.md\)"),
        ([], "No paper"),
    ],
)
def test_mistake_is_reported_in_one_sentence_with_its_file(
    tmp_path: Path, paths: list[str], culprit: str
) -> None:
    (tmp_path / "empty").mkdir()
    _write(tmp_path, "data.csv", "a/x.txt", "b/x.md")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match=culprit) as failure:
        discover([str(tmp_path / path) for path in paths])
    assert "\n" not in str(failure.value)
    assert str(failure.value).endswith(".")


def test_lines_of_jsonl_are_entries_by_their_own_names(tmp_path: Path) -> None:
    lines = ['{"custom_id": "x", "text": "1"}', '{"id": 7, "text": "2"}', '{"text": "3"}']
    (tmp_path / "set.jsonl").write_text("\n".join(lines))
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(b'{"text": "4"}\n\n{"text": "5"}\n'))
    assert _names(tmp_path, "set.jsonl") == ["x", "7", "set:3"]
    assert _names(tmp_path, "packed.jsonl.gz") == ["packed:1", "packed:3"]


def test_same_line_twice_is_one_entry_and_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "x", "text": "one"}\n{"id": "y", "text": "two"}\n')
    (tmp_path / "b.jsonl").write_text('{"id": "x", "text": "one"}\n{"id": "z", "text": "two"}')
    assert _names(tmp_path, "a.jsonl", "b.jsonl") == ["x", "y", "z"]
    (tmp_path / "c.jsonl").write_text('{"id": "x", "text": "other"}\n')
    with pytest.raises(UserError, match=r"different content: x \(.*a.jsonl:1 and .*c.jsonl:1\)"):
        _names(tmp_path, "a.jsonl", "c.jsonl")


def test_standard_input_is_json_lines_or_one_text() -> None:
    lines = io.StringIO('{"id": "x", "title": "T", "text": "Prose one."}\n{"text": "Prose two."}\n')
    entries = discover(["-"], stdin=lines)
    assert [entry.custom_id for entry in entries] == ["x", "stdin:2"]
    readings = list(read_all(entries, cache=None, limits=PdfLimits(), processes=1))
    assert [bool(reading.paper) for reading in readings] == [True, True]
    [entry] = discover(["-"], stdin=io.StringIO("A Title\n\nProse."))
    [reading] = read_all([entry], cache=None, limits=PdfLimits(), processes=1)
    assert reading.paper is not None
    assert reading.paper.title == "A Title"
    assert reading.custom_id == "stdin"


def test_manifest_names_papers_relative_to_itself(tmp_path: Path) -> None:
    _write(tmp_path, "set/one.txt", "two.txt")
    manifest = tmp_path / "set" / "list.csv"
    manifest.write_text("custom_id,path,title\nsub-1,one.txt,A Better Title\nsub-2,../two.txt,\n")
    entries = discover([], manifest=manifest)
    readings = list(read_all(entries, cache=None, limits=PdfLimits(), processes=1))
    titles = [reading.paper.title for reading in readings if reading.paper]
    assert [reading.custom_id for reading in readings] == ["sub-1", "sub-2"]
    assert titles == ["A Better Title", "Title of two.txt"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("custom_id,path\na,one.txt\na,one.txt\n", "names a more than once"),
        ("custom_id,path\na,gone.txt\n", "gone.txt"),
        ("custom_id,path\n,one.txt\n", ":2 lacks"),
        ("name,file\na,one.txt\n", "needs the columns custom_id and path"),
        ("custom_id,path\na,set.jsonl\n", "contains several"),
        ("", "needs the columns"),
    ],
)
def test_manifest_with_a_mistake_is_refused(tmp_path: Path, table: str, words: str) -> None:
    _write(tmp_path, "one.txt")
    (tmp_path / "set.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "list.csv").write_text(table)
    with pytest.raises(UserError, match=words):
        discover([], manifest=tmp_path / "list.csv")


def test_thousands_of_lines_are_streamed_and_not_held(tmp_path: Path) -> None:
    import tracemalloc

    # Given a file of 2,000 papers of 20 kB
    text = "A sentence of forty characters, or so. " * 500
    with (tmp_path / "set.jsonl").open("w") as file:
        for index in range(2_000):
            file.write(
                json.dumps({"id": f"p{index}", "title": "T", "text": f"{index} {text}"}) + "\n"
            )
    # When the entries are found and the first hundred papers read
    tracemalloc.start()
    entries = discover([str(tmp_path / "set.jsonl")])
    readings = read_all(entries, cache=None, limits=PdfLimits(), processes=2)
    for _ in range(100):
        assert next(readings).paper is not None
    readings.close()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Then memory stays far below the 40 MB of the file
    assert len(entries) == 2_000
    assert peak < 10 * 2**20
