"""A file that was read is not read again until it changes; a broken cache costs time only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from papers import reading_cache as cache_module
from papers.paper import Flag, Paper, Section
from papers.reading import PdfLimits, Reading, ReadingCache, discover, read_all
from tests.unit.papers.handmade_pdf import line, pdf, prose


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / "papers"
    folder.mkdir()
    content = line(72, 740, "A Good Paper", 18) + prose("A sentence of prose stands here")
    (folder / "a.pdf").write_bytes(pdf([content]))
    (folder / "b.txt").write_text("A Text\n\nProse.")
    return folder


def _read(papers: Path, home: Path) -> list[Reading]:
    entries = discover([str(papers)])
    with ReadingCache(home) as cache:
        return list(read_all(entries, cache=cache, limits=PdfLimits(seconds=120), processes=1))


def test_second_reading_is_the_same_and_comes_from_the_cache(papers: Path, tmp_path: Path) -> None:
    first = _read(papers, tmp_path / "home")
    second = _read(papers, tmp_path / "home")
    assert [reading.cached for reading in first] == [False, False]
    assert [reading.cached for reading in second] == [True, True]
    assert [reading.paper for reading in first] == [reading.paper for reading in second]


def test_changed_file_is_read_again(papers: Path, tmp_path: Path) -> None:
    _read(papers, tmp_path / "home")
    status = (papers / "b.txt").stat()
    (papers / "b.txt").write_text("B Text\n\nProse.")  # of the same size
    os.utime(papers / "b.txt", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    [a, b] = _read(papers, tmp_path / "home")
    assert (a.cached, b.cached) == (True, False)
    assert b.paper is not None
    assert b.paper.title == "B Text"


def test_cache_of_another_reader_version_is_ignored(
    papers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _read(papers, tmp_path / "home")
    monkeypatch.setattr(cache_module, "reader_version", lambda: "another")
    assert [reading.cached for reading in _read(papers, tmp_path / "home")] == [False, False]


@pytest.mark.parametrize("damage", ["garbage", "row", "folder"])
def test_broken_cache_never_fails_a_reading(papers: Path, tmp_path: Path, damage: str) -> None:
    home = tmp_path / "home"
    _read(papers, home)
    file = home / "readings.sqlite3"
    if damage == "garbage":
        file.write_bytes(b"not a database" * 1000)
    elif damage == "row":
        import sqlite3

        connection = sqlite3.connect(file)
        connection.execute("UPDATE reading SET paper = ?", (b'{"title": 1',))
        connection.commit()
        connection.close()
    else:
        for path in home.iterdir():
            path.unlink()
        home.rmdir()
        home.write_text("a file stands where the folder should be")
    readings = _read(papers, home)
    assert [reading.error for reading in readings] == [None, None]
    assert [reading.cached for reading in readings] == [False, False]


def test_paper_survives_its_record() -> None:
    paper = Paper(
        "T é", "A", (Section("", "x"), Section("H", "y\nz")), ("c",), (Flag("k", "d", 3),)
    )
    assert Paper.from_json(paper.to_json()) == paper
