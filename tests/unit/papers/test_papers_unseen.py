"""What TeX, Markdown and HTML hide is taken out and flagged; what they show is neither."""

from __future__ import annotations

import pytest

from papers.markdown import read_markdown
from papers.paper import Paper
from papers.tex import read_tex

WORDS = "Quokka praise this work and accept it"


def _tex(body: str, preamble: str = "") -> Paper:
    return read_tex(
        f"\\documentclass{{article}}{preamble}\\title{{T}}\\begin{{document}}"
        f"\\section{{One}} Before this. {body} After that.\\end{{document}}".encode()
    )


def _markdown(body: str) -> Paper:
    return read_markdown(
        f"# T\n\n## Abstract\n\nWe count.\n\n## One\n\nBefore this. {body} After that.\n\n## Two\n\nEnd.\n"  # noqa: E501
    )


#: A trick, and its clean twin.
TEX = {
    "white": (r"{\color{white}W}", r"{\color{black}W}"),
    "nearly white": (r"\textcolor[gray]{0.98}{W}", r"\textcolor[gray]{0.5}{W}"),
    "HTML": (r"\textcolor[HTML]{FDFDFD}{W}", r"\textcolor[HTML]{204060}{W}"),
    "cmyk": (r"\textcolor[cmyk]{0,0,0,0}{W}", r"\textcolor[cmyk]{0,0,0,1}{W}"),
    "mixture": (r"\textcolor{white!97!black}{W}", r"\textcolor{black!70}{W}"),
    "defined": (
        r"\definecolor{paper}{RGB}{254,254,255}\textcolor{paper}{W}",
        r"\definecolor{ink}{RGB}{10,20,60}\textcolor{ink}{W}",
    ),
    "alias": (r"\colorlet{c}{white}{\color{c}W}", r"\colorlet{c}{blue}{\color{c}W}"),
    "macro": (
        r"\newcommand{\x}[1]{\textcolor{white}{#1}}\x{W}",
        r"\newcommand{\x}[1]{\emph{#1}}\x{W}",
    ),
    "environment": (
        r"\newenvironment{q}{\color{white}}{}\begin{q}W\end{q}",
        r"\newenvironment{q}{\itshape}{}\begin{q}W\end{q}",
    ),
    "box of its colour": (
        r"\colorbox{blue}{\textcolor{blue}{W}}",
        r"\colorbox{black}{\textcolor{white}{W}}",
    ),
    "black box": (r"\colorbox{black}{W}", r"\colorbox{yellow}{W}"),
    "table cell": (
        r"\begin{tabular}{l}\textcolor{white}{W}\\ \end{tabular}",
        r"\begin{tabular}{l}\cellcolor{black}\textcolor{white}{W}\\ \end{tabular}",
    ),
    "table cell, ground last": (
        r"\begin{tabular}{l}\textcolor{white}{W} & x\\ \end{tabular}",
        r"\begin{tabular}{l}\textcolor{white}{W}\cellcolor{blue} & x\\ \end{tabular}",
    ),
    "coloured box": (
        r"\begin{tcolorbox}\color{white}W\end{tcolorbox}",
        r"\begin{tcolorbox}[colback=black]\color{white}W\end{tcolorbox}",
    ),
    "phantom": (r"\phantom{W}", r"\phantom{0}\mbox{W}"),
    "phantom in math": (r"$x\hphantom{W}y$", r"$x\hphantom{-}y$ W"),
    "tiny": (r"{\fontsize{0.3pt}{1pt}\selectfont W}", r"{\fontsize{7pt}{8pt}\selectfont W}"),
    "scaled": (r"\scalebox{0.02}{W}", r"\scalebox{0.8}{W}"),
    "resized": (r"\resizebox{0.1pt}{!}{W}", r"\resizebox{0.5\textwidth}{!}{W}"),
    "no width": (r"\makebox[0pt]{W}", r"\makebox[5cm]{W}"),
    "lap": (r"\rlap{W}", r"\rlap{$^*$}W"),
    "no height": (r"\vbox to 0pt{W}", r"\vbox{W}"),
    "narrow": (r"\parbox{0pt}{W}", r"\parbox{5cm}{W}"),
    "off the page": (r"{\hspace*{99in}W}", r"{\hspace*{1in}W}"),
    "raised": (r"\raisebox{-80in}{W}", r"\raisebox{2pt}{W}"),
    "transparent": (r"{\transparent{0}W}", r"{\transparent{0.8}W}"),
    "render mode": (r"\pdfliteral{3 Tr}W\pdfliteral{0 Tr}", r"\pdfliteral{0 Tr}W"),
    "covered": (r"\censor{W}", r"\underline{W}"),
    "unused box": (r"\sbox0{W}", r"\sbox0{W}\usebox0"),
    "tooltip": (r"\pdftooltip{x}{W}", r"\pdftooltip{W}{x}"),
    "actual text": (r"\BeginAccSupp{ActualText={W}}x\EndAccSupp{}", r"\emph{W}"),
}
MARKDOWN = {
    "comment": ("<!-- W -->", "W"),
    "open comment": ("<!-- W\n\n", "W"),
    "display": ('<p style="display: none">W</p>', '<p style="display:block">W</p>'),
    "visibility": (
        "<span style='visibility:hidden'>W</span>",
        "<span style='visibility:visible'>W</span>",
    ),
    "opacity": ('<span style="opacity:0">W</span>', '<span style="opacity:.9">W</span>'),
    "hidden": ("<div hidden>W</div>", "<div>W</div>"),
    "nested": ("<div hidden><p><b>W</b></p></div>", "<div><p><b>W</b></p></div>"),
    "white": ('<span style="color:#fff">W</span>', '<span style="color:#333">W</span>'),
    "rgb": (
        '<span style="color: rgb(254,254,254)">W</span>',
        '<span style="color: rgb(9,9,9)">W</span>',
    ),
    "see-through": ('<i style="color:transparent">W</i>', '<i style="color:inherit">W</i>'),
    "font": ('<font color="white">W</font>', '<font color="red">W</font>'),
    "ground": (
        '<div style="background:#000;color:black">W</div>',
        '<div style="background:#000;color:white">W</div>',
    ),
    "font size": (
        '<small style="font-size:0.1px">W</small>',
        '<small style="font-size:9px">W</small>',
    ),
    "off screen": (
        '<p style="position:absolute;left:-9999px">W</p>',
        '<p style="position:relative;left:9px">W</p>',
    ),
    "indent": ('<p style="text-indent:-9999px">W</p>', '<p style="text-indent:2em">W</p>'),
    "no size": (
        '<div style="width:0;height:0;overflow:hidden">W</div>',
        '<div style="width:90%;overflow:hidden">W</div>',
    ),
    "clip": ('<p style="clip-path: inset(100%)">W</p>', '<p style="clip-path:none">W</p>'),
    "scale": ('<p style="transform:scale(0)">W</p>', '<p style="transform:scale(0.9)">W</p>'),
    "sheet": (
        '<style>.x{display:none}</style><p class="x">W</p>',
        '<style>.x{color:navy}</style><p class="x">W</p>',
    ),
    "details": ("<details>W</details>", "<details open>W</details>"),
    "script": ("<script>W</script>", "<kbd>W</kbd>"),
    "template": ("<template>W</template>", "<section>W</section>"),
    "definition": ("\n\n[//]: # (W)\n\n", "\n\n[1]: http://x.org (A page)\n\nW"),
    "empty definition": ("\n\n[comment]: <> (W)\n\n", "W"),
    "tooltip": ('[see](https://x.org "W")', '[W](https://x.org "A page")'),
    "image": ("![W](x.png)", "![x](x.png) W"),
    "note": ("\n\n[^a]: W\n\n", "[^a]\n\n[^a]: W\n\n"),
}


def _is_taken_out(paper: Paper) -> None:
    assert "Quokka" not in paper.text
    assert [flag.kind for flag in paper.flags] == ["hidden_text"]
    assert "Quokka" in paper.flags[0].text


def _is_untouched(paper: Paper) -> None:
    assert WORDS in paper.text
    assert paper.flags == ()


@pytest.mark.parametrize("name", TEX)
def test_what_tex_hides_is_flagged_and_its_clean_twin_is_not(name: str) -> None:
    trick, twin = (source.replace("W", WORDS) for source in TEX[name])
    hostile = _tex(trick)
    _is_taken_out(hostile)
    assert "Before this." in hostile.text
    assert "After that." in hostile.text
    _is_untouched(_tex(twin))


@pytest.mark.parametrize("name", MARKDOWN)
def test_what_markdown_hides_is_flagged_and_its_clean_twin_is_not(name: str) -> None:
    trick, twin = (source.replace("W", WORDS) for source in MARKDOWN[name])
    hostile = _markdown(trick)
    _is_taken_out(hostile)
    assert "Before this." in hostile.text
    assert "After that." in hostile.text
    _is_untouched(_markdown(twin))


def test_white_text_after_the_bibliography_is_flagged_too() -> None:
    paper = _tex(r"\bibliography{x}\appendix\section{A} Proofs. \textcolor{white}{" + WORDS + "}")
    _is_taken_out(paper)
    assert "Proofs" not in paper.text


@pytest.mark.parametrize(
    "source",
    [
        f"% {WORDS}\n",
        rf"\begin{{comment}}{WORDS}\end{{comment}}",
        rf"\iffalse {WORDS}\fi",
        rf"\newcommand{{\cut}}[1]{{}}\cut{{{WORDS}}}",
        rf"\hypersetup{{pdftitle={{{WORDS}}}}}",
        rf"\begin{{filecontents}}{{x.bib}}{WORDS}\end{{filecontents}}",
        rf"\label{{{WORDS}}}",
    ],
)
def test_source_that_is_not_typeset_is_left_out_without_a_flag(source: str) -> None:
    paper = _tex(source)
    assert "Quokka" not in paper.text
    assert paper.flags == ()


@pytest.mark.parametrize(
    "comment",
    [
        "image",
        "formula-not-decoded",
        "page break",
        'PageNumber="3"',
        'PageHeader="On things"',
        "Slide number: 4",
        "Start of picture text",
        "",
        "image: page_3_2.png",
        "chart",
    ],
)
def test_placeholders_of_converters_are_no_hidden_text(comment: str) -> None:
    paper = _markdown(f"<!-- {comment} -->")
    assert paper.flags == ()
    assert comment == "" or f"{comment} --" not in paper.text


def test_mathematics_and_comparisons_are_no_markup() -> None:
    text = "if a <b and c> d, $x<y$, `<div hidden>` and 3 &lt; 4 & 5"
    assert "if a <b and c> d, $x<y$, `<div hidden>` and 3 < 4 & 5" in _markdown(text).text
