"""Names in a folder of submissions: links, pipes, devices, undecodable bytes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from papers.entry import Entry, readable_name
from papers.reading import PdfLimits, Reading, ReadingCache, discover, read_all

TEXT = "A study\n\nAbstract\nWe study ranking.\n"


def _read(entries: list[Entry]) -> dict[str, Reading]:
    readings = read_all(entries, cache=None, limits=PdfLimits(), processes=1)
    return {reading.custom_id: reading for reading in readings}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of submissions with one good paper, beside what is not submitted."""
    (tmp_path / "secret.txt").write_text("A secret\n\nAbstract\nNobody submits this.\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "paper.txt").write_text("A secret\n\nElsewhere.\n")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "ok.txt").write_text(TEXT)
    return tmp_path / "papers"


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


BAD = {
    "fifo": (_fifo, "named pipe", "not_a_file"),
    "socket": (_socket, "socket", "not_a_file"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "leads out", "outside"),
    "link to a file": (lambda path: path.symlink_to("../secret.txt"), "leads out", "outside"),
    "absolute link": (lambda path: path.symlink_to("/etc/hostname"), "leads out", "outside"),
    "link to nothing": (lambda path: path.symlink_to("gone.txt"), "leads nowhere", "missing"),
    "link to itself": (lambda path: path.symlink_to(path.name), "leads nowhere", "missing"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("suffix", [".txt", ".pdf", ".tex", ".jsonl"])
@pytest.mark.parametrize("bad", BAD)
def test_what_must_not_be_read_fails_alone(folder: Path, bad: str, suffix: str) -> None:
    make, words, kind = BAD[bad]
    make(folder / f"bad{suffix}")
    for named in (str(folder), f"{folder}/*"):
        entries = {entry.custom_id: entry for entry in discover([named])}
        assert set(entries) == {"bad", "ok"}
        assert words in str(entries["bad"].problem)
        assert entries["bad"].problem_kind == kind
        assert entries["ok"].problem is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("bad", ["fifo", "socket", "link to a file", "link to a device"])
def test_named_alone_or_by_a_manifest_it_is_not_read_either(folder: Path, bad: str) -> None:
    make, words, kind = BAD[bad]
    make(folder / "bad.txt")
    (folder / "list.csv").write_text("custom_id,path\nx,bad.txt\ny,ok.txt\n")
    [entry] = discover([str(folder / "bad.txt")])
    named, good = discover([], manifest=folder / "list.csv")
    assert (entry.problem_kind, named.problem_kind, good.problem) == (kind, kind, None)
    reading = _read([entry])["bad"]
    assert reading.paper is None
    assert reading.error_kind == kind
    assert words in str(reading.error)


def test_a_pattern_does_not_follow_a_linked_folder_out(folder: Path) -> None:
    (folder / "track").symlink_to("../elsewhere")
    assert [entry.problem_kind for entry in discover([f"{folder}/*/paper.txt"])] == ["outside"]
    assert [entry.custom_id for entry in discover([str(folder)])] == ["ok"]
    # A folder that the user names is the folder, where it leads to.
    assert [entry.problem for entry in discover([str(folder / "track")])] == [None]


def test_links_within_the_folder_are_followed(folder: Path) -> None:
    (folder / "store").mkdir()
    (folder / "store" / "v2.txt").write_text(TEXT)
    (folder / "current.txt").symlink_to("store/v2.txt")
    readings = _read(discover([str(folder)]))
    assert {name: reading.error for name, reading in readings.items()} == {
        "current": None,  # the first name of a file
        "ok": None,
    }


def test_a_pipe_that_takes_a_papers_place_is_not_read(folder: Path) -> None:
    entries = discover([str(folder)])
    (folder / "ok.txt").unlink()
    os.mkfifo(folder / "ok.txt")
    assert _read(entries)["ok"].error_kind == "not_a_file"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain", "plain"),
        ("caf\u00e9", "caf\u00e9"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        (os.fsdecode("caf\u00e9".encode()), "caf\u00e9"),
        ("p\ud800", "p\\ud800"),
        ("\udfff\ud800", "\\udfff\\ud800"),
        ("pair \U0001f600", "pair \U0001f600"),
    ],
)
def test_a_name_is_made_of_characters(name: str, shown: str) -> None:
    assert readable_name(name) == shown


def test_names_that_are_not_utf8_are_read_cached_and_forgotten(folder: Path) -> None:
    # Given two names that differ in a byte which is not UTF-8
    for byte in (b"\xe9", b"\xe8"):
        (folder / os.fsdecode(b"caf" + byte + b".txt")).write_text(TEXT)
    (folder / "set.jsonl").write_text('{"custom_id": "p\\ud800", "text": "Words of a study."}\n')
    with ReadingCache(folder.parent / "cache") as cache:
        entries = discover([str(folder)])
        # When they are read twice
        for cached in (False, True):
            readings = list(read_all(entries, cache=cache, limits=PdfLimits(), processes=1))
            found = {reading.custom_id: reading.cached for reading in readings}
            # Then each has a name of its own, and the second time comes from the cache
            assert found == {
                "caf\\xe8": cached,
                "caf\\xe9": cached,
                "ok": cached,
                "p\\ud800": False,
            }
        # Then a purge, which knows the sources, finds the readings of these
        assert cache.forget([Path(reading.source) for reading in readings]) == 3
