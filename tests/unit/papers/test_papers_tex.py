"""TeX is read as it prints: letters, notes, conditionals, definitions, inserted files."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import PaperUnreadable
from papers.paper import Paper
from papers.tex import read_tex


def _read(body: str, preamble: str = "", folder: Path | None = None) -> Paper:
    source = (
        f"\\documentclass{{article}}\n{preamble}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )
    return read_tex(source.encode(), folder)


def _text(body: str, preamble: str = "") -> str:
    paper = _read("\\section{Introduction}\n" + body, preamble)
    assert not paper.flags
    return paper.sections[-1].text


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        (r"Universit\'{e} de Montr\'eal", "Université de Montréal"),
        (
            r"Ha\v{c}ek, \v S\'i\v{r}, \.Zak, S{\o}ren, \AA ngstr\"om",
            "Haček, Šíř, Żak, Søren, Ångström",
        ),
        (r"Nguy{\~{\^e}}n", "Nguyễn"),
        (r"\c{C}a\u{g}r{\i}, \k{e}, \r{u}, \d{h}, \=a", "Çağrı, ę, ů, ḥ, ā"),
        (r"G\^{\i}te et na{\"\i}f", "Gîte et naïf"),
        (r"\OE uvre, \ae ther, {\ss}, \th, \DH", "Œuvre, æther, ß, þ, Ð"),
        (
            r"10\,\% of \pounds5, \S 3, 20\textdegree{} C, A\&B, a\_b",
            "10 % of £5, §3, 20° C, A&B, a_b",
        ),
        (r"``Quoted'' -- and --- `single' \ldots", "“Quoted” – and — `single' …"),
        (r"hy\-phen\-ation and no\/break", "hyphenation and nobreak"),
        (r"{\bf Bold}, \textsc{Caps}, \emph{it}, \LaTeX\ text", "Bold, Caps, it, LaTeX text"),
    ],
)
def test_letters_accents_and_signs_are_those_that_are_printed(source: str, printed: str) -> None:
    assert _text(source) == printed


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        (
            "See \\url{https://x.org/%7Eann?q=a%20b} for it.",
            "See https://x.org/%7Eann?q=a%20b for it.",
        ),
        ("The \\href{https://x.org/a%2Fb}{site} stays. % gone\nNext.", "The site stays. Next."),
        ("Up to 5\\% of all % gone\nand more.", "Up to 5% of all and more."),
        ("A line.\\\\% gone\nAnother.", "A line. Another."),
        ("Code \\verb|a % b| stays.", "Code a % b stays."),
        ("\\begin{verbatim}\nx = 5 % 2\n\\end{verbatim}\nAfter.", "x = 5 % 2\nAfter."),
        ("One% no space\nword.", "Oneword."),
        ("First.%\n\nSecond.", "First.\nSecond."),
    ],
)
def test_a_percent_sign_is_a_comment_only_where_tex_reads_one(source: str, printed: str) -> None:
    assert _text(source) == printed


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        (r"\iffalse a \ifnum1=1 b \else c \fi d \else e \fi f", "e f"),
        (r"\iftrue a \iffalse b \fi c \else d \fi e", "a c e"),
        (r"\ifnum 2>3 a\else b\fi", "b"),
        (r"\if00 a\fi \if01 b\fi", "a"),
        (r"\ifdraft a \else b \fi", "b"),
        (r"\drafttrue\ifdraft a \else b \fi", "a"),
        (r"\ifx\nosuch\other a \fi b", "b"),
        (r"\ifcase 1 a\or b\or c\else d\fi", "b"),
        (r"\ifthenelse{\boolean{long}}{a}{b}", "b"),
        (r"a $x \iff y$ b", r"a $x \iff y$ b"),
        (r"a \iffalse b", "a b"),  # not closed: nothing is lost
    ],
)
def test_of_a_conditional_the_branch_that_is_printed_is_read(source: str, printed: str) -> None:
    assert _text(source, r"\newif\ifdraft \newboolean{long}") == printed


@pytest.mark.parametrize(
    ("preamble", "source", "printed"),
    [
        (r"\newcommand{\cut}[1]{}", r"a \cut{gone} b", "a b"),
        (r"\def\cut#1{}", r"a \cut{gone {deep}} b", "a b"),
        (r"\long\def\cut#1#2{#2}", r"a \cut{gone}{kept} b", "a kept b"),
        (r"\newcommand{\note}[2][Ann]{#1: #2}", r"\note{x}, \note[Bo]{y}", "Ann: x, Bo: y"),
        (r"\NewDocumentCommand{\swap}{m m}{#2 #1}", r"\swap{a}{b}", "b a"),
        (r"\newcommand\ours{\textsc{Net}\xspace}", r"Our \ours is \ours.", "Our Net is Net."),
        (r"\newcommand{\R}{\mathbb{R}}", r"in $\R^n$", r"in $\mathbb{R}^n$"),
        (
            r"\newenvironment{claim}[1]{Claim #1.}{Done.}",
            r"\begin{claim}{A}x\end{claim}",
            "Claim A.xDone.",
        ),
        (r"\let\old\emph \excludecomment{proof}", "\\begin{proof}gone\\end{proof}kept", "kept"),
    ],
)
def test_definitions_are_expanded_and_emptied_ones_print_nothing(
    preamble: str, source: str, printed: str
) -> None:
    assert _text(source, preamble) == printed


@pytest.mark.parametrize("command", ["footnote", "footnote[3]", "endnote", "marginpar", "todo"])
def test_notes_stand_apart_after_their_paragraph(command: str) -> None:
    text = _text(f"Before\\{command}{{The note with \\emph{{stress}}.}} after.\n\nNext.")
    assert text == "Before after.\nThe note with stress.\nNext."


@pytest.mark.parametrize(
    "source",
    [
        "\\icmltitle{On Things}",
        "\\twocolumn[\\icmltitle{On Things}\\icmlkeywords{none}]",
        "\\title[Things]{On \\\\ Things}\\maketitle",
        "\\aistatstitle{On Things}",
        "\\Title{On Things}",
        "\\TITLE{On Things}",
        "\\title{On {\\bf Things}\\thanks{Paid.}}\\runningtitle{Short}",
        "\\icmltitlerunning{Short}\\icmltitle{On Things}",
    ],
)
def test_the_title_is_found_in_the_commands_of_many_styles(source: str) -> None:
    abstract = "\\begin{abstract}We count.\\end{abstract}"
    paper = _read(f"{source}\n{abstract}\n\\section{{One}} Text.")
    assert (paper.title, paper.abstract) == ("On Things", "We count.")
    assert [one.heading for one in paper.sections] == ["One"]


IMPORTS = {
    r"\import{parts/}{one}": "parts/one.tex",
    r"\subimport{./parts/}{one.tex}": "parts/one.tex",
    r"\subimport{parts}{one}": "parts/one.tex",
    r"\inputfrom{parts/deep/}{one}": "parts/deep/one.tex",
    r"\include{parts/one}": "parts/one.tex",
    r"\subfile{parts/one}": "parts/one.tex",
    r"\input parts/one ": "parts/one.tex",
}


@pytest.mark.parametrize("command", IMPORTS)
def test_inserted_files_are_read_where_they_stand(tmp_path: Path, command: str) -> None:
    path = tmp_path / IMPORTS[command]
    path.parent.mkdir(parents=True)
    path.write_text("\\section{One}\nA part. \\input{more}")
    (path.parent / "more.tex").write_text("Beside it.")
    paper = _read(f"\\section{{Zero}} Start. {command} \\section{{Two}} End.", folder=tmp_path)
    assert [one.heading for one in paper.sections] == ["Zero", "One", "Two"]
    assert "parts" not in paper.text
    if "import" in command or "from" in command:  # \input is relative to the paper otherwise
        assert "Beside it." in paper.text


def test_missing_part_is_flagged_and_leaves_no_path_in_the_text(tmp_path: Path) -> None:
    paper = _read(r"\section{A} Text. \import{gone/}{part} \input{other}", folder=tmp_path)
    assert [flag.kind for flag in paper.flags] == ["missing_input"] * 2
    assert "gone" not in paper.text


def test_table_rows_and_captions_are_kept_and_drawings_left_out() -> None:
    paper = _read(
        r"\section{A} Text. \begin{table}\caption{The \emph{counts}.}"
        r"\begin{tabular}{l|r} a & 1 \\ b & 2 \\ \end{tabular}\end{table}"
        r"\begin{figure}\begin{tikzpicture}\node{Box};\end{tikzpicture}\caption{Parts.}\end{figure}"
    )
    assert paper.sections[0].text == "Text.\na 1\nb 2"
    assert paper.captions == ("The counts.", "Parts.")


@pytest.mark.parametrize("name", ["letter", "standalone", "beamer", "scrlttr2"])
def test_a_document_that_is_no_paper_by_its_class_is_refused(name: str) -> None:
    with pytest.raises(PaperUnreadable, match=f"class is {name}\\.$") as failure:
        read_tex(
            f"\\documentclass[a4]{{{name}}}\\begin{{document}}Dear all\\end{{document}}".encode()
        )
    assert failure.value.kind == "not_a_paper"
