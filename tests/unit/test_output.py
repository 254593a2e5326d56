"""What authors and models write does not steer a terminal, is no markup and no formula."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from commands.output import ProgressBar, TerminalStream, exact_output, printable, table
from db.exporting import csv_row


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "plain [text], ümläute, 漢字 and \U0001f600",
            "plain [text], ümläute, 漢字 and \U0001f600",
        ),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("ends of\r\nlines", "ends of\nlines"),
        ("\x1b]0;owned\x07", "\\u001b]0;owned\\u0007"),
        ("\x1b[2J\x1b[31mred", "\\u001b[2J\\u001b[31mred"),
        ("over\rwritten", "over\\u000dwritten"),
        ("back\b\b\b\bspaced\x7f", "back\\u0008\\u0008\\u0008\\u0008spaced\\u007f"),
        ("\x9b31mC1", "\\u009b31mC1"),
        ("\x90sixel\x9c", "\\u0090sixel\\u009c"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("\u2066isolated\u2069", "\\u2066isolated\\u2069"),
    ],
)
def test_characters_that_steer_a_terminal_are_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown
    stream = io.StringIO()
    TerminalStream(stream).write(text)
    assert stream.getvalue() == shown


def test_progress_bars_of_libraries_are_drawn() -> None:
    stream = io.StringIO()
    for text in ("\r 50%|#####  |", "\n\x1b[A", "\r100%\x1b[31m"):
        TerminalStream(stream).write(text)
    assert stream.getvalue() == "\r 50%|#####  |\n\x1b[A\r100%\\u001b[31m"


def test_json_means_the_same_after_it() -> None:
    document = {"title": "\x9b31m\u202e \x7f\x1b[2J\r\n \ud800"}
    text = json.dumps(document, ensure_ascii=False)
    assert json.loads(printable(text)) == document


@pytest.mark.parametrize(
    "cell",
    [
        "as shown in [smith2020] and [red]this",
        "[/b]",
        "[link=https://example.org]click[/link]",
        ":star: and :x:",
        "array[i], [1], [@x]",
        "\\[escaped]",
    ],
)
def test_a_cell_and_a_heading_are_shown_as_they_are(cell: str) -> None:
    file = io.StringIO()
    Console(file=file, width=200).print(table([cell, "n"], [[cell, 1], [None, "\x1b[2J"]]))
    lines = file.getvalue().splitlines()
    assert sum(cell in line for line in lines) == 2
    assert "\\u001b[2J" in file.getvalue()
    assert "\x1b" not in file.getvalue()


def test_a_label_and_a_sentence_of_a_progress_bar_are_no_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ProgressBar("reviewing [/b]\x1b]0;x\x07", transient=False) as bar:
        bar(1, 2, "[/i]")
        bar.say("paper [/u] \x9b2J")
    shown = capsys.readouterr().err
    assert "reviewing [/b]\\u001b]0;x\\u0007" in shown
    assert "paper [/u] \\u009b2J" in shown


def test_data_for_a_pipe_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, expected in ((io.StringIO(), "\x1bdata\r\n"), (Terminal(), "\\u001bdata\n")):
        monkeypatch.setattr(sys, "stdout", TerminalStream(stream))
        with exact_output() as output:
            output.write("\x1bdata\r\n")
        assert stream.getvalue() == expected


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}, {"LC_ALL": "POSIX"}])
def test_any_text_is_written_in_any_locale(locale: dict[str, str]) -> None:
    script = (
        "import click; from commands.output import echo_json, protect_terminal;"
        "protect_terminal(); click.echo('caf\\u00e9 \\udce9'); echo_json({'a': '\\ud800\\u00e9'})"
    )
    environment = {**locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=True
    )
    first, _, rest = done.stdout.decode("utf-8").partition("\n")
    assert first == "café \\udce9"
    assert json.loads(rest) == {"a": "\ud800é"}


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ('=HYPERLINK("http://x","y")', '\'=HYPERLINK("http://x","y")'),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", "'\t=1+1"),
        ("\r=1+1", "'\r=1+1"),
        ("＝1+1", "'＝1+1"),
        ("-12", "-12"),
        ("+0.5", "+0.5"),
        (-12, -12),
        (-0.5, -0.5),
        (None, None),
        ("a - b = c", "a - b = c"),
        ("", ""),
    ],
)
def test_a_cell_of_csv_is_no_formula(cell: object, written: object) -> None:
    assert csv_row([cell, "x"]) == [written, "x"]
