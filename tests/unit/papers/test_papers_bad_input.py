"""A bad file fails alone, with a kind and a sentence; the other files are read."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from errors import PaperUnreadable
from papers.encoding import MAX_TEXT_BYTES
from papers.entry import Entry, Format
from papers.paper import Paper
from papers.plain_text import read_text
from papers.reading import PdfLimits, Reading, discover, read_all
from papers.sandbox import Sandbox
from tests.unit.papers.handmade_pdf import line, pdf, prose

ReadFolder = Callable[..., dict[str, Reading]]
GOOD = pdf([line(72, 740, "A Good Paper", 18) + prose("This page holds a sentence of good prose")])


def _fails(reading: Reading, kind: str, words: str) -> None:
    assert reading.paper is None
    assert reading.error_kind == kind
    assert reading.error is not None
    assert words in reading.error
    assert "\n" not in reading.error
    assert "Traceback" not in reading.error


def _reads(reading: Reading) -> None:
    assert reading.error is None
    assert reading.paper is not None
    assert reading.paper.title == "A Good Paper"


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        pytest.param(
            pdf([prose("Secret")], encrypted=True), "encrypted", "password", id="encrypted"
        ),
        pytest.param(GOOD[: len(GOOD) // 4], "damaged", "damaged or truncated", id="truncated"),
        pytest.param(pdf([]), "no_pages", "no pages", id="zero pages"),
        pytest.param(
            pdf(["q 612 0 0 792 0 0 cm /I1 Do Q"] * 3, image=True),
            "no_text",
            "scanned",
            id="images",
        ),
        pytest.param(b"GIF89a, not a PDF at all" * 9, "not_pdf", "not a PDF", id="not a pdf"),
        pytest.param(b"", "empty", "empty", id="empty file"),
    ],
)
def test_bad_pdf_fails_with_its_reason_and_the_others_go_on(
    tmp_path: Path, read_folder: ReadFolder, content: bytes, kind: str, words: str
) -> None:
    # Given a bad file between two good ones
    (tmp_path / "a.pdf").write_bytes(GOOD)
    (tmp_path / "bad.pdf").write_bytes(content)
    (tmp_path / "c.pdf").write_bytes(GOOD)
    # When all are read
    readings = read_folder()
    # Then only the bad one fails
    _fails(readings["bad"], kind, words)
    _reads(readings["a"])
    _reads(readings["c"])


def test_ten_thousand_pages_are_refused_without_being_read(
    tmp_path: Path, read_folder: ReadFolder
) -> None:
    (tmp_path / "long.pdf").write_bytes(pdf([prose("Page", lines=1)] * 10_000))
    _fails(read_folder()["long"], "too_long", "10,000 pages; the limit is 500")


def test_pdf_that_makes_the_parser_hang_is_stopped_after_its_time(
    tmp_path: Path, read_folder: ReadFolder
) -> None:
    # Given a page of a few kilobytes that unpacks to minutes of drawing
    bomb = pdf([b"0 0 m 600 700 l S " * 5_000_000], compressed=True)
    (tmp_path / "a.pdf").write_bytes(GOOD)
    (tmp_path / "hangs.pdf").write_bytes(bomb)
    (tmp_path / "z.pdf").write_bytes(GOOD)
    # When it is read with two seconds on the clock
    readings = read_folder(PdfLimits(seconds=2))
    # Then it is given up, and the same kind of child reads the next one
    _fails(readings["hangs"], "timeout", "longer than 2 s")
    _reads(readings["a"])
    _reads(readings["z"])


def misbehave(path: Path, form: Format, max_pages: int) -> Paper:
    """A reader that does what its file says."""
    word = path.read_text()
    if word == "spin":
        while True:
            pass
    if word == "die":
        ctypes.string_at(0)  # a segmentation fault
    if word == "exit":
        os._exit(3)
    if word == "grab":
        bytearray(8 * 2**30)
    if word == "raise":
        raise RuntimeError("never shown to a user")
    return read_text("A Good Paper\n\nSome prose.")


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("spin", "timeout"),
        ("die", "crashed"),
        ("exit", "crashed"),
        ("grab", "memory"),
        ("raise", "crashed"),
    ],
)
def test_failing_reader_loses_only_one_paper(tmp_path: Path, word: str, kind: str) -> None:
    sandbox = Sandbox(PdfLimits(seconds=2, memory_mib=1024), 1, misbehave)
    try:
        for name, content in (("a", "fine"), ("b", word), ("c", "fine")):
            (tmp_path / name).write_text(content)
        futures = [sandbox.submit(tmp_path / name, Format.TEXT) for name in "abc"]
        assert futures[0].result(timeout=120).title == "A Good Paper"
        with pytest.raises(PaperUnreadable) as failure:
            futures[1].result(timeout=120)
        assert failure.value.kind == kind
        assert "never shown" not in str(failure.value)
        assert futures[2].result(timeout=120).title == "A Good Paper"
    finally:
        sandbox.close()


def test_abandoned_reading_ends_its_children_at_once(tmp_path: Path) -> None:
    # Given a child that would spin for a minute
    (tmp_path / "a").write_text("spin")
    sandbox = Sandbox(PdfLimits(seconds=60), 1, misbehave)
    before = {child.pid for child in psutil.Process().children()}
    future = sandbox.submit(tmp_path / "a", Format.TEXT)
    deadline = time.monotonic() + 60
    pause = threading.Event()
    while not (new := _spinning(before)):
        assert time.monotonic() < deadline, "the child did not start"
        pause.wait(0.02)
    # When the sandbox is closed
    started = time.monotonic()
    sandbox.close()
    # Then nothing waits for the minute, and the process is gone
    assert time.monotonic() - started < 20
    assert isinstance(future.exception(timeout=20), PaperUnreadable)
    assert not [child for child in new if psutil.pid_exists(child)]


def _spinning(before: set[int]) -> list[int]:
    children = [child for child in psutil.Process().children() if child.pid not in before]
    return [child.pid for child in children if "papers.reader_process" in child.cmdline()]


def test_readings_come_in_the_order_of_the_entries_from_several_processes(tmp_path: Path) -> None:
    for index in range(12):
        # Given files that take very different times
        pages = [prose(f"Paper {index} says", lines=5)] * (40 if index % 4 == 0 else 1)
        (tmp_path / f"{index:02}.pdf").write_bytes(pdf(pages))
    entries = discover([str(tmp_path)])
    seen: list[tuple[int, int]] = []
    readings = list(
        read_all(
            entries,
            cache=None,
            limits=PdfLimits(seconds=120),
            processes=2,
            progress=lambda done, total: seen.append((done, total)),
        )
    )
    assert [reading.custom_id for reading in readings] == [f"{index:02}" for index in range(12)]
    for index, reading in enumerate(readings):
        assert reading.paper is not None
        assert f"Paper {index} says" in reading.paper.text
    assert seen == [(done, 12) for done in range(1, 13)]


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("blank.txt", b" \n\t\n ", "empty", "empty"),
        ("blank.md", b"", "empty", "empty"),
        ("binary.txt", bytes(range(256)) * 20, "not_text", "not text"),
        ("huge.txt", b"x" * (MAX_TEXT_BYTES + 1), "too_large", "20 MiB"),
        ("title.md", b"# Only a title\n", "empty", "no text"),
    ],
)
def test_bad_text_fails_with_its_reason(
    tmp_path: Path, read_folder: ReadFolder, name: str, content: bytes, kind: str, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "good.txt").write_text("A Good Paper\n\nAbstract\n\nWe are good.\n")
    readings = read_folder()
    _fails(readings[name.split(".")[0]], kind, words)
    _reads(readings["good"])


@pytest.mark.parametrize(
    ("data", "flagged"),
    [
        ("Über naïve Schätzer\n\nGrüße – “quoted” prose.".encode(), False),
        ("\ufeffÜber naïve Schätzer\n\nGrüße – “quoted” prose.".encode(), False),
        ("Über naïve Schätzer\n\nGrüße – “quoted” prose.".encode("utf-16"), False),
        ("Über naïve Schätzer\n\nGrüße – “quoted” prose.".encode("cp1252"), True),
    ],
)
def test_other_encodings_are_read_and_a_guess_is_flagged(
    tmp_path: Path, read_folder: ReadFolder, data: bytes, flagged: bool
) -> None:
    (tmp_path / "paper.txt").write_bytes(data)
    paper = read_folder()["paper"].paper
    assert paper is not None
    assert paper.title == "Über naïve Schätzer"
    assert paper.sections[0].text == "Grüße – “quoted” prose."
    assert [flag.kind for flag in paper.flags] == (["encoding"] if flagged else [])


def test_broken_line_in_the_middle_is_one_failed_entry(
    tmp_path: Path, read_folder: ReadFolder
) -> None:
    (tmp_path / "set.jsonl").write_text(
        '{"custom_id": "p1", "title": "One", "text": "First text."}\n'
        '{"custom_id": "p2", "title": "Two", "text": "Cut in the mid\n'
        "\n"
        '{"custom_id": "p3", "title": 3, "text": "A number as title."}\n'
        '{"id": "p4", "title": "Four", "text": "Last text."}\n'
    )
    readings = read_folder()
    assert list(readings) == ["p1", "set:2", "p3", "p4"]
    _fails(readings["set:2"], "bad_json", "not JSON")
    _fails(readings["p3"], "bad_json", '"title" is not a string')
    assert readings["p4"].paper is not None


def test_cut_gzip_keeps_the_lines_before_the_cut(tmp_path: Path, read_folder: ReadFolder) -> None:
    import gzip
    import json
    import random

    letters = random.Random(1)
    lines = [
        json.dumps({"id": f"p{i}", "text": "".join(letters.choices("abcdef ", k=4000))})
        for i in range(40)
    ]
    packed = gzip.compress("\n".join(lines).encode())
    (tmp_path / "set.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    readings = read_folder()
    failed = [reading for reading in readings.values() if reading.error]
    assert 5 < len(readings) < 40
    assert len(failed) == 1
    _fails(failed[0], "damaged", "truncated")
    assert next(reversed(readings.values())) == failed[0]


def test_file_removed_after_discovery_fails_alone(tmp_path: Path) -> None:
    gone = Entry("gone", "gone.txt", tmp_path / "gone.txt", Format.TEXT)
    (tmp_path / "here.txt").write_text("A Good Paper\n\nProse.")
    here = Entry("here", "here.txt", tmp_path / "here.txt", Format.TEXT)
    readings = list(read_all([gone, here], cache=None, limits=PdfLimits(), processes=1))
    _fails(readings[0], "missing", "cannot be opened")
    _reads(readings[1])
