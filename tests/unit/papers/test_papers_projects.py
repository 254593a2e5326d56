"""Of a TeX project one paper is found; of a folder of submissions all are."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import UserError
from papers.reading import discover

PAPER = (
    "\\documentclass[11pt]{article}\n\\begin{document}Words.\\input{parts/one}"
    "\\includegraphics[width=2cm]{plots/loss.pdf}\\end{document}"
)


def _files(folder: Path, **contents: str) -> None:
    for name, text in contents.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _found(folder: Path) -> list[str]:
    return [str(entry.path.relative_to(folder)) for entry in discover([str(folder)])]


def test_figures_letters_parts_and_style_files_of_a_project_are_no_papers(tmp_path: Path) -> None:
    _files(
        tmp_path,
        main_dot_tex=PAPER,
        main_dot_pdf="%PDF-1.4 compiled",
        parts__one_dot_tex="Part.",
        plots__loss_dot_pdf="%PDF-1.4 figure",
        fig__box_dot_tex="\\documentclass[tikz]{standalone}\\begin{document}x\\end{document}",
        figures__old_dot_pdf="%PDF-1.4 not inserted",
        response_letter_dot_tex="\\documentclass{letter}\\begin{document}Dear editor\\end{document}",  # noqa: E501
        rebuttal_dot_tex="\\documentclass{article}\\begin{document}We thank\\end{document}",
        cover_letter_dot_txt="Dear editor",
        supplement_dot_pdf="%PDF-1.4 supplement",
    )
    assert _found(tmp_path) == ["main.tex"]


@pytest.mark.parametrize("support", ["icml.sty", "refs.bib", "main.bbl"])
def test_all_below_a_paper_with_style_files_belongs_to_it(tmp_path: Path, support: str) -> None:
    _files(
        tmp_path,
        p__main_dot_tex=PAPER,
        p__data__notes_dot_txt="Notes.",
        q__other_dot_md="# T\n\nText.",
    )
    _files(tmp_path, p__extra__x_dot_tex=PAPER, p__extra__y_dot_pdf="%PDF-1.4")
    (tmp_path / "p" / support).write_text("%")
    assert _found(tmp_path) == ["p/main.tex", "q/other.md"]


def test_a_document_that_another_inserts_is_part_of_it(tmp_path: Path) -> None:
    part = "\\documentclass[main]{subfiles}\\begin{document}x\\end{document}"
    _files(
        tmp_path,
        main_dot_tex="\\documentclass{article}\\begin{document}\\include{intro}\\subfile{two}\\end{document}",
        intro_dot_tex=PAPER,
        two_dot_tex=part,
    )
    assert _found(tmp_path) == ["main.tex"]


def test_submissions_side_by_side_are_papers_each(tmp_path: Path) -> None:
    _files(
        tmp_path,
        a_dot_tex=PAPER,
        b_dot_tex=PAPER,
        c_dot_pdf="%PDF-1.4",
        d_dot_md="# T\n\nText.",
        conf_dot_sty="%",
        sub__e_dot_tex=PAPER,
        sub2__f_dot_pdf="%PDF-1.4",
    )
    assert _found(tmp_path) == ["a.tex", "b.tex", "c.pdf", "d.md", "sub/e.tex", "sub2/f.pdf"]


def test_a_file_that_is_named_is_taken_as_it_is(tmp_path: Path) -> None:
    _files(tmp_path, main_dot_tex=PAPER, rebuttal_dot_md="# T\n\nText.")
    assert len(discover([str(tmp_path / "rebuttal.md")])) == 1


def test_a_folder_of_letters_only_is_refused(tmp_path: Path) -> None:
    _files(tmp_path, letter_dot_tex="\\documentclass{letter}\\begin{document}x\\end{document}")
    with pytest.raises(UserError, match="contains no papers"):
        discover([str(tmp_path)])


def test_a_project_in_utf_16_is_a_project(tmp_path: Path) -> None:
    (tmp_path / "main.tex").write_bytes(PAPER.encode("utf-16"))
    (tmp_path / "part.tex").write_text("Part.")
    assert _found(tmp_path) == ["main.tex"]
