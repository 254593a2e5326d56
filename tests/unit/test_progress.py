"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr

import pytest

from commands.output import ProgressBar, progress
from trainer.qlora.progress_reports import ProgressBarListener

VALUES = {"loss": 1.25, "learning_rate": 1e-4, "tokens_per_second": 900.0}


class Terminal(io.StringIO):
    """Output sent to a terminal of 200 columns."""

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        """Without control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    return Terminal()


def test_terminal_shows_a_bar_and_erases_it(terminal: Terminal) -> None:
    with redirect_stderr(terminal), progress("reading") as advance:
        advance(3, 12)
    assert re.search(r"reading .* 3/12", terminal.text)
    # The last thing sent erases the line.
    assert terminal.getvalue().rstrip().endswith("\x1b[2K")


def test_training_moves_the_same_bar_and_prints_above_it(terminal: Terminal) -> None:
    with redirect_stderr(terminal), ProgressBar("training", transient=False) as bar:
        shown = ProgressBarListener(bar)
        shown.on_message("rank 16, [nf4] weights")
        shown.on_step(901, 1800, VALUES)
    assert "rank 16, [nf4] weights\n" in terminal.text.replace("\r", "")
    last = terminal.text.rstrip().splitlines()[-1]
    assert re.search(r"training .* 901/1800 loss 1\.2500  lr 1\.0e-04  900 tokens/s", last)


def test_without_a_terminal_a_line_is_printed_per_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading") as advance:
        for done in range(41):
            advance(done, 40)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"reading: {done}/40" for done in range(4, 41, 4)]
