"""What a TeX paper inserts with \\input is its own, although other papers lie in its folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from papers.reading import PdfLimits, Reading, discover, read_all


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of submissions beside what is not submitted."""
    (tmp_path / "secret.txt").write_text("A secret: S3cret\n")
    (tmp_path / "papers").mkdir()
    return tmp_path / "papers"


PARTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "hidden": (".env", lambda f: (f / ".env").write_text("S3cret"), "hidden file"),
    "hidden TeX": (".env", lambda f: (f / ".env.tex").write_text("S3cret"), "hidden file"),
    "hidden folder": (".git/x.tex", lambda f: _write(f / ".git" / "x.tex", "S3cret"), "hidden"),
    "text": ("other.txt", lambda f: (f / "other.txt").write_text("S3cret"), "not a TeX file"),
    "Markdown": ("other.md", lambda f: (f / "other.md").write_text("S3cret"), "not a TeX file"),
    "no suffix": ("id_rsa", lambda f: (f / "id_rsa").write_text("S3cret"), "not a TeX file"),
    "another paper": ("b", lambda f: (f / "b.tex").write_text(OTHER), "paper of its own"),
    "old paper": ("b", lambda f: (f / "b.tex").write_text(OLD), "paper of its own"),
    "link out": ("c.tex", lambda f: (f / "c.tex").symlink_to("../secret.txt"), "not in the"),
    "path out": ("../secret", lambda f: (f.parent / "secret.tex").write_text("S3cret"), "not in"),
    "pipe": ("p.tex", lambda f: os.mkfifo(f / "p.tex"), "not in the"),
}
OTHER = "% a\n\\documentclass[11pt]{article}\\begin{document}S3cret\\end{document}"
OLD = "\\documentstyle {article} \\begin{document}S3cret"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _tex(folder: Path, *inputs: str) -> Reading:
    body = " ".join(f"\\input{{{name}}}" for name in inputs)
    text = f"\\documentclass{{article}}\\begin{{document}}Words. {body} More.\\end{{document}}"
    _write(folder / "a.tex", text)
    entries = discover([str(folder / "a.tex")])
    [reading] = read_all(entries, cache=None, limits=PdfLimits(), processes=1)
    return reading


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", PARTS)
def test_a_tex_paper_does_not_read_what_is_not_its_own(folder: Path, case: str) -> None:
    name, make, words = PARTS[case]
    make(folder)
    reading = _tex(folder, name)
    assert reading.paper is not None
    assert "S3cret" not in reading.paper.text
    [flag] = reading.paper.flags
    assert flag.kind == "missing_input"
    assert words in flag.detail


def test_a_tex_paper_reads_its_own_parts(folder: Path) -> None:
    _write(folder / "parts" / "one.tex", "First part.")
    _write(folder / "two.tikz", "Second part.")
    _write(folder / "three.tex", "\\documentclass[a.tex]{subfiles}\\begin{document}Third part.")
    _write(folder / "four.v2.tex", "% no \\documentclass{article}\nFourth part.")
    reading = _tex(folder, "parts/one", "two.tikz", "three", "four.v2")
    assert reading.paper is not None
    assert reading.paper.flags == ()
    for word in ("First", "Second", "Third", "Fourth"):
        assert f"{word} part." in reading.paper.text
