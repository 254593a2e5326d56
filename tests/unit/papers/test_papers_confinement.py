"""A file that takes its reader over finds nothing to take, and nowhere to send it."""

from __future__ import annotations

import gzip
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from errors import PaperUnreadable
from papers.confinement import missing_mechanisms
from papers.entry import Entry, Format
from papers.paper import Paper
from papers.reader_process import Read
from papers.reading import PdfLimits, discover, read_all
from papers.sandbox import Sandbox

SECRETS = {
    "REFEREE_DATABASE_URL": "postgresql://u:S3cret@db/x",
    "REFEREE_BROKER_URL": "redis://:S3cret@b/0",
    "REFEREE_API_KEY": "sk-S3cret",
    "HF_TOKEN": "hf_S3cret",
}
LIMITS = ("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_CORE")


def probe(path: Path, form: Format, max_pages: int) -> Paper:
    """A reader that was taken over: it tries what its file says, line by line."""
    orders = json.loads(path.read_text())
    attempts: dict[str, Callable[[], object]] = {
        "environment": lambda: dict(os.environ),
        "read": lambda: Path(orders["read"]).read_text(),
        "list": lambda: os.listdir(orders["list"]),
        "parent": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes().decode(),
        "write": lambda: Path(orders["write"]).write_text("by the child"),
        "delete": lambda: os.unlink(orders["read"]),
        "connect": lambda: socket.create_connection(("127.0.0.1", orders["port"]), timeout=5),
        "listen": lambda: socket.socket(socket.AF_UNIX).bind("\0referee-probe"),
        "fork": os.fork,
        "program": lambda: subprocess.run(["/bin/true"], check=True),
        "signal": lambda: os.kill(os.getppid(), 0),
        "limits": lambda: {name: resource.getrlimit(getattr(resource, name)) for name in LIMITS},
        "more memory": lambda: resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40)),
        "python": lambda: __import__("colorsys").__name__,
    }
    return Paper(
        json.dumps({name: _outcome(attempt) for name, attempt in attempts.items()}), "", ()
    )


def _outcome(attempt: Callable[[], object]) -> object:
    try:
        return attempt()
    except Exception as error:
        return f"refused: {type(error).__name__}"


@pytest.fixture
def sandbox() -> Iterator[Callable[..., Sandbox]]:
    made: list[Sandbox] = []

    def make(limits: PdfLimits, processes: int, read: Read) -> Sandbox:
        made.append(Sandbox(limits, processes, read))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.skipif(sys.platform != "linux", reason="confinement needs Linux")
@pytest.mark.parametrize("form", [Format.PDF, Format.TEX, Format.TEXT])
def test_a_reader_that_was_taken_over_is_confined(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sandbox: Callable[..., Sandbox],
    form: Format,
) -> None:
    # Given secrets in this process's environment, in a file and behind a port
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "referee.db").write_text("S3cret")
    (tmp_path / "papers").mkdir()
    listener = socket.create_server(("127.0.0.1", 0))
    orders = {
        "read": str(tmp_path / "home" / "referee.db"),
        "list": str(tmp_path / "home"),
        "write": str(tmp_path / "papers" / "written"),
        "port": listener.getsockname()[1],
    }
    (tmp_path / "papers" / "p").write_text(json.dumps(orders))
    # When a reader tries all that it could want
    with listener:
        paper = sandbox(PdfLimits(), 1, probe).submit(tmp_path / "papers" / "p", form).result(60)
    # Then it sees no secret, reaches nothing, and still finds Python's modules
    assert "S3cret" not in paper.title
    found = json.loads(paper.title)
    limits, environment = found.pop("limits"), found.pop("environment")
    assert not {name for name in environment if "REFEREE" in name or "TOKEN" in name}
    assert found.pop("python") == "colorsys"
    assert missing_mechanisms() == ()
    assert {name for name, outcome in found.items() if "refused" not in str(outcome)} == set()
    assert all(0 <= soft == hard < 2**40 for soft, hard in limits.values())
    assert (tmp_path / "home" / "referee.db").exists()


#: Names of the files that this process has read.
LEFT_BEHIND: list[str] = []


def remember(path: Path, form: Format, max_pages: int) -> Paper:
    """A reader that leaves something behind for the next file."""
    left = list(LEFT_BEHIND)
    LEFT_BEHIND.append(path.name)
    return Paper(f"{os.getpid()} {left}", "", ())


def test_a_file_does_not_meet_the_one_before_it(
    tmp_path: Path, sandbox: Callable[..., Sandbox]
) -> None:
    (tmp_path / "a").touch()
    made = sandbox(PdfLimits(), 1, remember)
    titles = [made.submit(tmp_path / "a", Format.PDF).result(60).title for _ in range(3)]
    assert len({title.split()[0] for title in titles}) == 3
    assert {title.split(maxsplit=1)[1] for title in titles} == {"[]"}


def talk(path: Path, form: Format, max_pages: int) -> Paper:
    """A reader that answers in its own way on every socket that it has."""
    answers = {
        "half": b"\0\0\0\0\0\0\0\x09P",
        "endless": (2**40).to_bytes(8, "big") + b"P" * 1000,
        "forged": b"\0\0\0\0\0\0\0\x03P{}",
    }
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, answers[path.read_text()])
        except OSError:
            continue
    while path.read_text() == "half":
        pass
    return Paper("an answer that comes too late", "", ())


@pytest.mark.parametrize(
    ("answer", "kind"), [("half", "timeout"), ("endless", "crashed"), ("forged", "crashed")]
)
def test_an_answer_out_of_form_fails_that_file_alone(
    tmp_path: Path, sandbox: Callable[..., Sandbox], answer: str, kind: str
) -> None:
    (tmp_path / "bad").write_text(answer)
    (tmp_path / "gone").write_text("neither")
    made = sandbox(PdfLimits(seconds=2), 1, talk)
    with pytest.raises(PaperUnreadable) as failure:
        made.submit(tmp_path / "bad", Format.TEXT).result(60)
    assert failure.value.kind == kind
    with pytest.raises(PaperUnreadable, match="broke its reader"):
        made.submit(tmp_path / "gone", Format.TEXT).result(60)


def test_text_and_lines_are_read_in_confined_processes_too(tmp_path: Path) -> None:
    # Given files of every text format
    (tmp_path / "a.txt").write_text("A study\n\nWords of a study.")
    (tmp_path / "b.md").write_text("# A study\n\nWords of a study.")
    (tmp_path / "c.jsonl").write_text('{"custom_id": "c", "text": "Words of a study."}\n')
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"id": "d", "text": "More words."}\n'))
    script = f"""
import json, sys
from papers.reading import PdfLimits, discover, read_all
entries = discover([{str(tmp_path)!r}])
readings = read_all(entries, cache=None, limits=PdfLimits(), processes=1)
found = {{reading.custom_id: reading.error for reading in readings}}
parsers = ("pdf", "tex", "markdown", "plain_text", "jsonl", "line_files")
print(json.dumps([found, [name for name in parsers if f"papers.{{name}}" in sys.modules]]))
"""
    # When a process has them read
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    # Then all are read, and that process has no parser
    assert json.loads(done.stdout) == [dict.fromkeys("abcd"), []]


def test_a_line_that_breaks_its_reader_fails_alone(tmp_path: Path) -> None:
    lines = [
        '{"id": "a", "text": "Words of a study."}',
        '{"id": "b", "sections": ' + "[" * 100_000 + "}",
        '{"id": "c", "text": "More words of a study."}',
    ]
    (tmp_path / "set.jsonl").write_text("\n".join(lines))
    entries = discover([str(tmp_path / "set.jsonl")])
    entries += [Entry("gone", "gone", tmp_path / "gone.jsonl", Format.JSON, 0, 10), entries[0]]
    readings = list(read_all(entries, cache=None, limits=PdfLimits(), processes=1))
    assert [(reading.custom_id, reading.error_kind) for reading in readings] == [
        ("a", None),
        ("set:2", "bad_json"),
        ("c", None),
        ("gone", "missing"),
        ("a", None),
    ]
