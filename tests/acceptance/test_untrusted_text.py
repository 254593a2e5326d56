"""Names and texts of others on the screen, in tables and in files, through the real command."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

from subprocesses import python_command
from tests.site import Site, wait_until

#: Formula, markup and terminal escapes in one; the name of a batch and of its paper.
NAME = "=[/b] [red]x\x1b]0;owned\x07"
SHOWN = "=[/b] [red]x\\u001b]0;owned\\u0007"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with a batch of that name, with one paper whose id it is too."""
    folder = tmp_path_factory.mktemp("untrusted")
    site = Site(folder / "home")
    line = {"custom_id": NAME, "title": "=1+1 title", "text": "Words of a study."}
    (folder / "set.jsonl").write_text(json.dumps(line))
    arguments = ("submit", str(folder / "set.jsonl"), "--batch", NAME, "--reviewer", "demo-7")
    assert site.run(*arguments).code == 0
    return site


def test_status_shows_every_batch_whatever_its_name(site: Site) -> None:
    shown = site.run("status")
    assert shown.code == 0
    assert SHOWN in shown.out


@pytest.mark.parametrize("command", ["show", "pause"])
def test_a_name_does_not_steer_the_terminal(site: Site, command: str) -> None:
    assert site.run(command, NAME).code == 0
    unknown = site.run(command, "gone\x9b2J\x1b[2J")
    assert unknown.code == 2
    assert "\x9b" not in unknown.err
    assert "\x1b" not in unknown.err


@pytest.mark.parametrize("command", [("status",), ("sql", "SELECT name FROM batch")])
def test_a_name_does_not_steer_a_real_terminal(site: Site, command: tuple[str, ...]) -> None:
    # Given a terminal, to which programs write colours of their own
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        python_command("cli", *command),
        env=os.environ | {"REFEREE_HOME": str(site.home), "COLUMNS": "150", "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = _until_closed(ours)
    assert process.wait(timeout=60) == 0
    # Then the name is there, without its power
    assert SHOWN in shown
    assert "\x1b]" not in shown
    assert "\x07" not in shown


def _until_closed(terminal: int) -> str:
    parts = []
    with contextlib.suppress(OSError):  # EIO: nobody has it open any more
        while part := os.read(terminal, 2**16):
            parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode()


def test_cells_of_sql_are_shown_as_they_are(site: Site) -> None:
    query = "SELECT custom_id AS \"[/i]\", 'see [smith2020] :star:' AS text FROM job"
    shown = site.run("sql", query)
    assert shown.code == 0
    for text in ("[/i]", SHOWN, "see [smith2020] :star:"):
        assert text in shown.out


def test_a_csv_for_a_spreadsheet_has_no_formula_and_json_has_the_text(site: Site) -> None:
    query = "SELECT custom_id, -priority AS n FROM job"
    rows = list(csv.reader(io.StringIO(site.run("sql", query, "--format", "csv").out)))
    # A file is exact but for formulas.
    assert rows == [["custom_id", "n"], [f"'{NAME}", "-1"]]
    documents = json.loads(site.run("sql", query, "--format", "json").out)
    assert documents == [{"custom_id": NAME, "n": -1}]
    [exported] = csv.DictReader(io.StringIO(site.run("export", NAME, "--format", "csv").out))
    assert (exported["batch"], exported["custom_id"]) == (f"'{NAME}", f"'{NAME}")
    assert exported["paper_title"] == "'=1+1 title"
    line = json.loads(site.run("export", NAME, "--format", "jsonl").out)
    assert line["custom_id"] == NAME


def test_ctrl_c_ends_a_function_that_does_not_end(site: Site) -> None:
    # Given a query whose single call takes minutes
    query = (
        "SELECT instr(replace(hex(zeroblob(4000000)), '0', 'a'),"
        " replace(hex(zeroblob(2000000)), '0', 'a') || 'b')"
    )
    process = subprocess.Popen(
        python_command("cli", "sql", query),
        env=os.environ | {"REFEREE_HOME": str(site.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    child = int(wait_until(lambda: children.read_text().split())[0])
    wait_until(lambda: _cpu_ticks(child) > 50)
    # When the user interrupts it
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    # Then it ends at once, and the query with it
    assert time.monotonic() - begun < 5
    assert process.returncode == 130
    assert err.strip() == "referee: Interrupted."
    assert not Path(f"/proc/{child}").exists()


def _cpu_ticks(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[11])
