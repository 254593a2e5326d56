"""Unwrap TeX macros as text: arguments and simple definitions."""

from __future__ import annotations

import re

#: Characters; a longer definition is layout, not a name.
MAX_DEFINITION = 200
#: Maximum depth of nested definitions.
EXPANSIONS = 3
#: Maximum characters of an expanded text.
MAX_EXPANDED = 20 * 2**20

_DEFINITION = re.compile(
    r"\\(?:(?:re)?newcommand|providecommand|def|DeclareRobustCommand)\*?\s*\{?\\([a-zA-Z]+)\}?\s*(?=\{)"
)
#: Bounded: unclosed openings would take quadratic time.
_MATH = re.compile(
    r"\$\$[^$]{1,4000}\$\$|(?<!\\)\$(?:[^$\\]|\\.){1,2000}\$|\\\(.{1,2000}?\\\)|\\\[.{1,4000}?\\\]"
    r"|\\begin\{(equation|align|gather|multline|eqnarray|displaymath|math)(\*?)\}"
    r".{0,6000}?\\end\{\1\2\}",
    re.S,
)
_DROPPED = re.compile(
    r"\\(?:label|vspace|hspace|vskip|includegraphics|bibliographystyle|setcounter|setlength|input"
    r"|pagestyle|thispagestyle|thanks|author|date|affiliation|email|icml[a-z]*|ificlrfinal|maketitle"
    r"|usepackage|documentclass|newtheorem|footnotemark|centering|resizebox|addtocounter)\*?"
    r"(?:\s*\[[^\[\]\n]{0,200}\])*(?=\s*(\{)?)"
)
_BEGIN_END = re.compile(r"\\(?:begin|end)\s*\{[^{}\n]{1,40}\}(?:\[[^\[\]\n]{0,80}\])?")
_TABULAR = re.compile(
    r"(\\begin\{(?:tabular[x*]?|array)\})(?:\{[^{}\n]{0,60}\})?\{[^\n]{0,120}?\}(?=\s*\n|\s*\\)"
)
_COMMAND = re.compile(r"\\(?:[a-zA-Z@]+\*?|.)(?:\[[^\[\]\n]{0,80}\])?\s?")
_LINK = re.compile(r"\\href\s*\{[^{}\n]*\}")
_CITE = re.compile(r"\\[cC]ite[a-zA-Z]*\*?(?:\[[^\[\]\n]{0,80}\]){0,2}\s*\{([^{}]{0,500})\}")
_ESCAPED = re.compile(r"\\([%&$#_{}])")
_PLAIN = {"``": "“", "''": "”", "---": "—", "--": "–", "~": " ", "\\\\": "\n", "&": " ", "\\,": " "}


def argument(text: str, start: int) -> tuple[str, int]:
    """The braced argument at `start`, after optional ones in brackets, and its end."""
    position = start
    while (optional := re.compile(r"\s*\[[^\]]{0,1000}\]").match(text, position)) is not None:
        position = optional.end()
    opening = re.compile(r"\s*\{").match(text, position)
    if not opening:
        return "", position
    depth, first = 1, opening.end()
    for found in re.compile(r"\\.|[{}]", re.S).finditer(text, first):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth == 0:
            return text[first : found.start()], found.end()
    return text[first:], len(text)


def expand(text: str, preamble: str) -> str:
    """Put in the names that `\\newcommand{\\name}{...}` defines, if they take no argument."""
    names: dict[str, str] = {}
    for found in _DEFINITION.finditer(preamble):
        definition, _ = argument(preamble, found.end())
        if len(definition) <= MAX_DEFINITION and "#" not in definition:
            names[found[1]] = definition
    if not names:
        return text
    pattern = re.compile(
        r"\\(" + "|".join(sorted(names, key=len, reverse=True)) + r")(?![a-zA-Z@])(\{\})?"
    )
    for _ in range(EXPANSIONS):
        longer = pattern.sub(lambda match: names[match[1]], text)
        if longer == text or len(longer) > MAX_EXPANDED:
            break
        text = longer
    return text


def plain(text: str) -> str:
    """TeX as readable text: commands unwrapped, mathematics unchanged."""
    parts: list[str] = []
    start = 0
    for found in _MATH.finditer(text):
        parts += [
            _unwrapped(text[start : found.start()]),
            re.sub(r"\\label\{[^{}]*\}", "", found[0]),
        ]
        start = found.end()
    parts.append(_unwrapped(text[start:]))
    return _paragraphs("".join(parts))


def _unwrapped(text: str) -> str:
    text = _without_dropped(_TABULAR.sub(r"\1", text))
    text = _CITE.sub(r"[\1]", _LINK.sub(" ", text))
    text = _ESCAPED.sub(lambda match: chr(0xE000 + ord(match[1])), _BEGIN_END.sub("\n", text))
    for written, meant in _PLAIN.items():
        text = text.replace(written, meant)
    text = _COMMAND.sub(" ", re.sub(r"\\(?:emph|text[a-z]{2}|footnote|url)\s*(?=\{)", "", text))
    text = text.replace("{", "").replace("}", "")
    return re.sub("[\ue000-\ue07f]", lambda match: chr(ord(match[0]) - 0xE000), text)


def _without_dropped(text: str) -> str:
    parts: list[str] = []
    start = 0
    for found in _DROPPED.finditer(text):
        if found.start() < start:
            continue
        parts.append(text[start : found.start()])
        start = argument(text, found.end())[1] if found[1] else found.end()
    return "".join([*parts, text[start:]])


def _paragraphs(text: str) -> str:
    """One line a paragraph; table rows and displayed formulas keep theirs."""
    found = re.split(r"\n\s*\n", text)
    return "\n".join(filter(None, (" ".join(block.split()) for block in found)))
