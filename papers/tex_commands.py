"""Commands and environments of TeX by what a reader of their source needs to know of them."""

from __future__ import annotations

import re

_POINTS = {
    "pt": 1.0,
    "bp": 1.004,
    "in": 72.27,
    "cm": 28.45,
    "mm": 2.845,
    "pc": 12.0,
    "em": 10.0,
    "ex": 4.3,
    "sp": 1 / 65536,
    "px": 1.0,
    "dd": 1.07,
    "cc": 12.84,
}


def points(length: str) -> float | None:
    """A length in points; one without a unit is in points; None for a computed one."""
    found = re.fullmatch(r"\s*([+-]?\d{0,9}\.?\d{0,9})\s*([a-z]{2})?\s*(?:plus.*|minus.*)?", length)
    if found is None or not re.search(r"\d", found[1]):
        return None
    unit = _POINTS.get(found[2] or "pt")
    return float(found[1]) * unit if unit is not None else None


#: Commands whose arguments are not text, by their number.
DISCARDED = {
    name: number
    for number, names in {
        0: "maketitle centering noindent printAffiliationsAndNotice toprule midrule bottomrule"
        " hline newcolumntype xspace protect",
        1: "label vspace includegraphics bibliographystyle pagestyle thispagestyle thanks author"
        " date affiliation email usepackage documentclass documentstyle footnotemark address"
        " institute authorrunning titlerunning icmltitlerunning runningtitle runningauthor"
        " shorttitle shortauthors affil ead cortext authornote orcid keywords icmlkeywords"
        " icmlcorrespondingauthor icmlsetsymbol graphicspath hypersetup pdfinfo lstset tikzset"
        " pgfplotsset geometry usetikzlibrary pgfplotsset sisetup fancyhead fancyfoot lhead chead"
        " rhead lfoot cfoot rfoot cline acmConference acmYear acmISBN acmDOI acmJournal ccsdesc"
        " setcopyright hyphenation RequirePackage PassOptionsToPackage AtBeginDocument"
        " AddToShipoutPicture AddToShipoutPictureBG lstinputlisting verbatiminput bibitem"
        " vskip newcounter newlength usefonttheme usetheme DeclareUnicodeCharacter theoremstyle"
        " urlstyle includepdf subtitle"
        " institution streetaddress city state country postcode additionalaffiliation bibinfo"
        " correspondingauthor received revised accepted IEEEmembership"
        " IEEEauthorblockN IEEEauthorblockA IEEEauthorrefmark authorblockN authorblockA",
        2: "setcounter setlength addtocounter addtolength newtheorem icmlaffiliation icmlauthor"
        " rule markboth DeclareGraphicsExtensions titleformat settowidth addcontentsline"
        " AddToHook pdfbookmark definecolorset fntext tnotetext",
    }.items()
    for name in names.split()
}
#: Commands whose last argument is text, by the number of those before it.
LEADING_ARGUMENTS = {
    "multicolumn": 2,
    "multirow": 2,
    "rotatebox": 1,
    "adjustbox": 1,
    "hyperlink": 1,
    "hypertarget": 1,
    "foreignlanguage": 1,
    "selectlanguage": 1,
    "cmidrule": 1,
}
#: Arguments of environments, without the optional ones.
ENVIRONMENT_ARGUMENTS = {
    "tabular": 1,
    "tabularx": 2,
    "tabulary": 2,
    "longtable": 1,
    "array": 1,
    "minipage": 1,
    "wrapfigure": 2,
    "wraptable": 2,
    "multicols": 1,
    "adjustbox": 1,
    "textblock": 1,
    "list": 2,
    "overpic": 1,
    "subfigure": 1,
    "spacing": 1,
    "otherlanguage": 1,
    "adjustwidth": 2,
    "beamercolorbox": 1,
}
#: Conditionals of TeX itself.
CONDITIONALS = frozenset(
    [
        "if",
        "ifcat",
        "ifnum",
        "ifdim",
        "ifodd",
        "ifvmode",
        "ifhmode",
        "ifmmode",
        "ifinner",
        "ifvoid",
        "ifhbox",
        "ifvbox",
        "ifx",
        "ifeof",
        "iftrue",
        "iffalse",
        "ifcase",
        "ifdefined",
        "ifcsname",
        "iffontchar",
    ]
)
#: Commands that begin like a conditional and take arguments instead.
NO_CONDITIONALS = frozenset(
    [
        "iff",
        "ifthenelse",
        "iftoggle",
        "ifbool",
        "ifblank",
        "ifstrempty",
        "ifdef",
        "ifundef",
        "ifcsdef",
        "ifdefempty",
        "ifnumcomp",
        "ifstrequal",
        "ifdefstring",
        "ifdefequal",
        "ifboolexpr",
        "ifpackageloaded",
        "iflanguage",
        "ifnumequal",
        "ifdefmacro",
        "ifcsundef",
        "ifdimcomp",
        "ifnumless",
        "ifnumgreater",
        "ifinlist",
    ]
)
#: Points of the declared sizes of a document in 10 pt.
DECLARED_SIZES = {
    "tiny": 5.0,
    "scriptsize": 7.0,
    "footnotesize": 8.0,
    "small": 9.0,
    "normalsize": 10.0,
    "large": 12.0,
    "Large": 14.4,
    "LARGE": 17.3,
    "huge": 20.7,
    "Huge": 24.9,
}
MATH_ENVIRONMENTS = frozenset(
    [
        "equation",
        "align",
        "gather",
        "multline",
        "eqnarray",
        "displaymath",
        "math",
        "flalign",
        "alignat",
        "dmath",
        "IEEEeqnarray",
    ]
)
CODE_ENVIRONMENTS = frozenset(
    ["verbatim", "lstlisting", "minted", "Verbatim", "alltt", "BVerbatim"]
)
SKIPPED_ENVIRONMENTS = frozenset(
    {"comment", "CCSXML", "filecontents", "filecontents*", "bibunit", "keyword", "keywords"}
)
#: Their text is that of a figure, apart from the caption.
FLOATS = frozenset(
    [
        "figure",
        "wrapfigure",
        "sidewaysfigure",
        "teaserfigure",
        "SCfigure",
        "subfigure",
        "IEEEkeywords",
        "icmlauthorlist",
        "thebibliography",
        "appendices",
        "appendix",
    ]
)
PICTURES = frozenset(
    ["tikzpicture", "picture", "overpic", "pspicture", "pgfpicture", "axis", "tikzcd", "forest"]
)
TABLES = frozenset(["tabular", "tabularx", "tabulary", "longtable", "array", "tabu", "nicetabular"])
