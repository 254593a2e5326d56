"""Interpret TeX source as text: what is printed, where it stands, and what is hidden.

This is no TeX: nothing is executed that reads, writes or computes. Definitions are expanded,
conditionals decided, groups followed for their colour, size and box, so that text which the printed
page does not show is told from text that it shows. Mathematics is kept as source.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from papers.colours import BLACK, WHITE, Colour, shows, tex_colour
from papers.tex_commands import (
    CODE_ENVIRONMENTS,
    CONDITIONALS,
    DECLARED_SIZES,
    DISCARDED,
    ENVIRONMENT_ARGUMENTS,
    FLOATS,
    LEADING_ARGUMENTS,
    MATH_ENVIRONMENTS,
    NO_CONDITIONALS,
    PICTURES,
    SKIPPED_ENVIRONMENTS,
    TABLES,
    points,
)
from papers.tex_symbols import ACCENTS, LIGATURES, SIGNS, WORDS, accented
from papers.unseen import Unseen

#: Characters that expansions may add to a source: 10 times its own, and this many.
FREE_EXPANSION = 2**19
#: Frames; deeper expansion is a loop.
MAX_FRAMES = 200
#: Groups; deeper nesting is no document.
MAX_GROUPS = 500
#: Characters of an argument that is taken as a whole.
MAX_ARGUMENT = 100_000
#: Points; smaller text cannot be read on paper, as in `papers.hidden_text`.
TINY_PT = 1.5
#: Points; a shift further than this leads off any page: the height of A3.
OFF_PAGE_PT = 1190.0
#: Words; more in a box without width print over their neighbours.
BOX_WORDS = 4

_TOKEN = re.compile(
    r"\\(?P<word>[a-zA-Z@]+)(?P<star>\*?)(?P<gap>[ \t]*(?:\n(?![ \t]*\n)[ \t]*)?)"
    r"|\\(?P<sign>.)|(?P<open>\{)|(?P<close>\})|(?P<comment>%[^\n]*\n?[ \t]*)"
    r"|(?P<par>\n[ \t]*(?:\n[ \t]*)+)|(?P<math>\$\$?)|(?P<tie>~)|(?P<align>&)"
    r"|(?P<text>[^\\{}%$~&\n]+|\n)|(?P<rest>.)",
    re.S,
)
_SCAN = re.compile(r"\\.|[{}]|(?<!\\)%[^\n]*", re.S)
_BRANCH = re.compile(r"\\(if[a-zA-Z@]*|else|or|fi)(?![a-zA-Z@])|\\.|%[^\n]*", re.S)
_BASE = re.compile(
    r"\s*(?:\{\s*(?:\\(?P<b1>[a-zA-Z]{1,2})\s*|(?P<c1>[^\W\d_]*))\s*\}"
    r"|\\(?P<b2>[ijoOlL]|ae|AE|oe|OE|aa|AA)(?![a-zA-Z])\s*|(?P<c2>[^\W\d_]))"
)
_BLANK = re.compile(r"(?:[ \t]|\n(?![ \t]*\n)|%[^\n]*\n?[ \t]*)*")
_OPTIONAL = re.compile(
    r"[ \t]*\n?[ \t]*\[((?:[^\[\]{}]|\{[^{}]{0,300}\}|\[[^\[\]]{0,80}\]){0,1000})\]"
)
_URL = re.compile(r"\s*\{((?:[^{}\\]|\\.|\{[^{}]{0,500}\}){0,4000})\}", re.S)
_NAME = re.compile(r"\s*(?:\{\s*\\([a-zA-Z@]+)\s*\}|\\([a-zA-Z@]+))\s*")
_LIGATURE = re.compile("|".join(map(re.escape, sorted(LIGATURES, key=len, reverse=True))))
_COMPARISON = re.compile(r"\s*(-?\d+)\s*([<>=])\s*(-?\d+)\s?")
_TITLE = re.compile(r"(?:[a-zA-Z@]*[a-z@])?[tT]itle|TITLE")
_NO_TITLE = re.compile(
    r"(?i)(sub|running|short|make|pdf|book|section|chapter|part|page|format|the|old|col|"
    r"plain|alt|trans|translated|print|@|head|toc|set|use|get|has|abs|abstract|caption)@?title"
)
_TRANSPARENT = re.compile(r"opacity\s*=\s*0?\.?0*(?![.\d]*[1-9])")


@dataclass
class Frame:
    """A text that is being read, and where."""

    text: str
    position: int = 0
    #: The folder that names in `\\input` are relative to, with a closing slash, or empty.
    folder: str = ""


@dataclass
class Group:
    """What a brace or an environment encloses."""

    kind: str
    out: list[str] | None
    math: str = ""
    colour: Colour | None = BLACK
    ground: Colour | None = WHITE
    size_pt: float = 10.0
    hidden: str = ""
    picture: bool = False
    at_close: Callable[[], None] | None = None
    cell_ground: Colour | None = None
    has_cell_ground: bool = False


@dataclass
class Macro:
    """A definition: how many arguments it takes, the first one's default, and its body."""

    n_arguments: int
    default: str | None
    body: str


@dataclass
class Document:
    """What was found. Text is in pieces, with blank lines between paragraphs."""

    title: list[str] = field(default_factory=list)
    other_title: list[str] = field(default_factory=list)
    abstract: list[str] = field(default_factory=list)
    front: list[str] = field(default_factory=list)
    after_abstract: list[str] = field(default_factory=list)
    sections: list[tuple[list[str], list[str]]] = field(default_factory=list)
    captions: list[list[str]] = field(default_factory=list)


#: Returns the text of an inserted file and its folder, or None. Arguments: folder and name.
Insert = Callable[[str, str], "tuple[str, str] | None"]


class Interpreter:
    """Reads one document."""

    def __init__(self, source: str, insert: Insert) -> None:
        self.document = Document()
        self.unseen = Unseen()
        self._insert = insert
        self._frames = [Frame(source)]
        self._in_preamble = "\\begin{document}" in source or "\\begin {document}" in source
        self._macros: dict[str, Macro] = {}
        self._environments: dict[str, tuple[Macro, str]] = {}
        self._grounds: dict[str, Colour | None] = {}
        self._conditions: dict[str, bool] = {}
        self._colours: dict[str, Colour] = {}
        self._boxes: dict[str, list[str]] = {}
        self._written: dict[str, str] = {}
        self._used_boxes: set[str] = set()
        self._skipped = set(SKIPPED_ENVIRONMENTS)
        self._notes: list[list[str]] = []
        self._bodies = {id(self.document.front), id(self.document.after_abstract)}
        self._budget = 10 * len(source) + FREE_EXPANSION
        self._scans = 40 * len(source) + FREE_EXPANSION
        self._bracket_depth = -1
        self._ended = False
        self._groups = [Group("", None if self._in_preamble else self._front())]

    def run(self) -> Document:
        """Read to the end of the document."""
        while self._frames:
            frame = self._frames[-1]
            found = _TOKEN.match(frame.text, frame.position)
            if found is None:
                self._frames.pop()
                continue
            frame.position = found.end()
            if self._token(frame, found):
                break
        while len(self._groups) > 1:
            self._close_group()
        self._flush_notes()
        for name, pieces in self._boxes.items():
            if name not in self._used_boxes:
                self.unseen.add("in a box that is not printed", " " + "".join(pieces))
        return self.document

    # Tokens

    def _token(self, frame: Frame, found: re.Match[str]) -> bool:
        """Handle one token; True at the end of the document."""
        kind = found.lastgroup
        if found["word"] is not None:
            if self._groups[-1].math:
                return self._math_word(frame, found)
            return self._word(frame, found)
        if kind == "text":
            self._text(found["text"])
        elif kind == "sign":
            self._sign(frame, found["sign"])
        elif kind == "open":
            self._open_brace()
        elif kind == "close":
            self._close_brace()
        elif kind == "comment":
            if frame.text[frame.position : frame.position + 1] == "\n":
                self._paragraph()
        elif kind == "par":
            self._paragraph()
        elif kind == "math":
            self._dollar(found["math"], frame)
        elif self._groups[-1].math:
            self._emit(found[0])
        elif kind == "align":
            self._new_cell()
        else:
            self._emit(" ")
        return False

    def _text(self, text: str) -> None:
        if self._groups[-1].math:
            self._emit(text)
            return
        if self._bracket_depth == len(self._groups) and "]" in text:
            text, self._bracket_depth = text.replace("]", " ", 1), -1
        self._emit(_LIGATURE.sub(lambda match: LIGATURES[match[0]], text))

    def _emit(self, text: str) -> None:
        group = self._groups[-1]
        reason = group.hidden or self._invisible(group)
        if reason and not text.isspace() and reason == "no contrast" and self._late_ground():
            reason = ""
        if reason:
            self.unseen.add(reason, text)
        elif group.out is not None:
            group.out.append(text)

    def _invisible(self, group: Group) -> str:
        if group.picture:
            return ""
        if group.size_pt < TINY_PT:
            return "tiny"
        ground = group.cell_ground if group.has_cell_ground else group.ground
        return "" if shows(group.colour, ground) else "no contrast"

    def _late_ground(self) -> bool:
        """Does the cell of a table name its ground after the text?"""
        if not any(group.kind in TABLES for group in self._groups):
            return False
        frame = self._frames[-1]
        cell = re.compile(r"[^&]{0,500}").match(frame.text, frame.position)
        return cell is not None and re.search(r"\\cellcolor", cell[0].split("\\\\")[0]) is not None

    def _sign(self, frame: Frame, sign: str) -> None:
        if self._groups[-1].math:
            if sign in ")]" and self._groups[-1].math == "\\" + sign:
                self._emit("\\" + sign)
                self._close_group()
            else:
                self._emit("\\" + sign)
        elif sign in "([":
            self._open_math("\\" + {"(": ")", "[": "]"}[sign], "\\" + sign)
        elif sign == "\\":
            self._skip(re.compile(r"\*?[ \t]*(?:\[[^\[\]\n]{0,40}\])?"))
            self._new_row()
        elif sign in ACCENTS:
            self._accent(frame, sign)
        else:
            self._emit(SIGNS.get(sign, " "))

    def _accent(self, frame: Frame, accent: str) -> None:
        found = _BASE.match(frame.text, frame.position)
        if found is None:
            # An accent above an accented letter.
            self._argument_group("{", lambda: self._emit(ACCENTS[accent]))
            return
        letter = found["b1"] or found["b2"]
        if letter is not None and letter not in WORDS:
            return
        frame.position = found.end()
        base = WORDS[letter] if letter else (found["c1"] or found["c2"] or "")
        self._emit(accented(accent, base))

    def _paragraph(self) -> None:
        while self._groups[-1].math in ("$", "\\)"):
            self._emit(self._groups[-1].math)
            self._close_group()
        if self._groups[-1].hidden == "off the page":
            self._groups[-1].hidden = ""
        self._emit("\n\n")
        if all(group.kind not in ("note", "caption", "heading") for group in self._groups[-3:]):
            self._flush_notes()

    def _new_row(self) -> None:
        table = next((group for group in reversed(self._groups) if group.kind in TABLES), None)
        if table is None:
            self._emit(" ")
            return
        for group in self._groups:
            group.has_cell_ground = False
        self._emit("\n\n")

    def _new_cell(self) -> None:
        self._emit(" ")

    # Groups

    def _open_brace(self) -> None:
        if self._groups[-1].math:
            self._emit("{")
        self._open(replace(self._groups[-1], kind="{", at_close=None))

    def _close_brace(self) -> None:
        group = self._groups[-1]
        if len(self._groups) == 1 or group.kind.startswith("\\begin") or group.kind in TABLES:
            return
        self._close_group()
        if self._groups[-1].math and group.kind == "{" and group.math:
            self._emit("}")

    def _open(self, group: Group) -> None:
        if len(self._groups) < MAX_GROUPS:
            self._groups.append(group)

    def _close_group(self) -> None:
        group = self._groups.pop()
        if group.at_close is not None:
            group.at_close()

    def _argument_group(
        self, kind: str, at_close: Callable[[], None] | None = None, **changes: object
    ) -> None:
        """Read the braced argument that follows as a group; a single token is no argument."""
        self._skip(_BLANK)
        if not self._take("{"):
            if at_close is not None and kind in ("heading", "caption", "note"):
                at_close()
            return
        group = replace(self._groups[-1], kind=kind, at_close=at_close)
        for name, value in changes.items():
            setattr(group, name, value)
        self._open(group)

    def _open_math(self, closing: str, opening: str) -> None:
        self._emit(opening)
        self._open(replace(self._groups[-1], kind="math", math=closing, at_close=None))

    def _dollar(self, sign: str, frame: Frame) -> None:
        for depth, group in enumerate(reversed(self._groups)):
            if group.kind == "math":
                if not group.math.startswith("$"):
                    self._emit(sign)
                    return
                if group.math == "$" and sign == "$$":
                    frame.position -= 1
                    sign = "$"
                for _ in range(depth):
                    self._close_group()
                self._emit(group.math)
                self._close_group()
                return
            if not group.math:
                break
        self._open_math(sign, sign)

    # Reading of arguments

    def _skip(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        frame = self._frames[-1]
        found = pattern.match(frame.text, frame.position)
        if found is not None:
            frame.position = found.end()
        return found

    def _take(self, text: str) -> bool:
        frame = self._frames[-1]
        while frame.position >= len(frame.text) and len(self._frames) > 1:
            self._frames.pop()
            frame = self._frames[-1]
        if frame.text.startswith(text, frame.position):
            frame.position += len(text)
            return True
        return False

    def _optional(self) -> str | None:
        found = self._skip(_OPTIONAL)
        return found[1] if found else None

    def _argument(self) -> str:
        """The argument that follows as source: a group, or a single token."""
        self._skip(_BLANK)
        frame = self._frames[-1]
        while frame.position >= len(frame.text) and len(self._frames) > 1:
            self._frames.pop()
            frame = self._frames[-1]
            self._skip(_BLANK)
        if not frame.text.startswith("{", frame.position):
            token = self._skip(re.compile(r"\\(?:[a-zA-Z@]+|.)|[^{}\\%]", re.S))
            return token[0] if token else ""
        start, depth = frame.position + 1, 1
        end = min(len(frame.text), start + MAX_ARGUMENT)
        if self._scans <= 0:
            end = min(end, start + 200)
        position = start
        while (found := _SCAN.search(frame.text, position, end)) is not None:
            position = found.end()
            depth += {"{": 1, "}": -1}.get(found[0], 0)
            if depth == 0:
                self._scans -= position - start
                frame.position = position
                return frame.text[start : position - 1]
        self._scans -= end - start
        frame.position = start  # not closed: its text is read on
        return ""

    def _push(self, text: str, folder: str | None = None) -> None:
        if not text or len(self._frames) >= MAX_FRAMES or len(text) > self._budget:
            return
        self._budget -= len(text)
        where = self._frames[-1].folder if folder is None else folder
        self._frames.append(Frame(text, 0, where))

    # Commands

    def _math_word(self, frame: Frame, found: re.Match[str]) -> bool:
        word, gap = found["word"], found["gap"]
        if word == "end":
            return self._end_in_math(frame)
        if word == "label":
            self._argument()
        elif word in ("phantom", "hphantom", "vphantom"):
            self._argument_group("{", hidden="phantom", math="")
        elif word in ("color", "textcolor", "pagecolor", "colorbox", "tiny", "fontsize"):
            return self._word(frame, found)
        elif word in self._macros:
            self._expand(self._macros[word], gap)
        elif self._is_conditional(word):
            self._conditional(word)
        elif word in ("else", "or"):
            self._skip_branch(stop_at_else=False)
        elif word != "fi":
            self._emit(found[0])
        return False

    def _end_in_math(self, frame: Frame) -> bool:
        name = self._skip(re.compile(r"\s*\{([^{}\n]{1,40})\}"))
        if name is None:
            self._emit("\\end")
            return False
        for depth, group in enumerate(reversed(self._groups)):
            if group.kind == "math" and group.math == name[1]:
                for _ in range(depth):
                    self._close_group()
                self._emit(f"\\end{{{name[1]}}}")
                self._close_group()
                self._emit("\n\n" if name[1] != "math" else "")
                return False
        if name[1] == "document":
            return True
        inline = self._groups[-1].kind == "math" and self._groups[-1].math in ("$", "\\)")
        if inline and any(group.kind.startswith("\\begin") for group in self._groups):
            self._close_group()
            return self._end(name[1])
        self._emit(f"\\end{{{name[1]}}}")
        return False

    def _word(self, frame: Frame, found: re.Match[str]) -> bool:
        word, gap = found["word"], found["gap"]
        if word in self._macros:
            self._expand(self._macros[word], gap)
            return False
        if word in WORDS and not (word == "P" and found["star"]):
            self._emit(WORDS[word] + found["star"])
            return False
        if word in ACCENTS:
            frame.position -= len(gap)
            self._accent(frame, word)
            return False
        if word == "end":
            return self._end(self._environment_name())
        handler = _HANDLERS.get(word)
        if handler is not None:
            handler(self, word, found["star"])
        elif self._is_conditional(word):
            frame.position -= len(gap)
            self._conditional(word)
        elif word in DISCARDED:
            self._discard(DISCARDED[word])
        elif word in LEADING_ARGUMENTS:
            self._leading(LEADING_ARGUMENTS[word])
        elif word in DECLARED_SIZES:
            self._groups[-1].size_pt = DECLARED_SIZES[word]
        elif self._is_switch(word):
            self._switch(word)
        elif _TITLE.fullmatch(word) and not _NO_TITLE.match(word):
            self._title(word)
        else:
            self._unknown(gap, found["star"])
        return False

    def _unknown(self, gap: str, star: str) -> None:
        frame = self._frames[-1]
        optional = re.compile(r"\[[^\[\]\n]{0,80}\]\s?").match(frame.text, frame.position)
        if optional is not None and not gap:
            frame.position = optional.end()
            return
        if gap or not frame.text.startswith("{", frame.position):
            self._emit(" ")

    def _expand(self, macro: Macro, gap: str) -> None:
        frame = self._frames[-1]
        if macro.n_arguments == 0:
            # TeX drops the spaces after a name; authors mostly mean them.
            frame.position -= bool(gap)
            self._push(macro.body)
            return
        arguments: list[str] = []
        if macro.default is not None:
            given = self._optional()
            arguments.append(macro.default if given is None else given)
        while len(arguments) < macro.n_arguments:
            arguments.append(self._argument())
        body = re.sub(
            r"#(\d)",
            lambda match: (
                arguments[int(match[1]) - 1] if 0 < int(match[1]) <= len(arguments) else ""
            ),
            macro.body.replace("##", "#"),
        )
        self._push(body)

    def _discard(self, n_arguments: int) -> None:
        while self._optional() is not None:
            pass
        for _ in range(n_arguments - 1):
            self._argument()
        if n_arguments:
            self._argument_group("{", out=None, math="")

    def _leading(self, n_arguments: int) -> None:
        """Drop the first arguments; the last one is printed."""
        while self._optional() is not None:
            pass
        for _ in range(n_arguments):
            self._argument()
            while self._optional() is not None:
                pass

    # Definitions

    def _define(self, word: str, star: str) -> None:
        name = self._skip(_NAME)
        if name is None:
            return
        count = self._optional()
        default = self._optional() if count is not None else None
        n_arguments = int(count) if count is not None and count.strip().isdigit() else 0
        self._store(name[1] or name[2], Macro(min(n_arguments, 9), default, self._argument()))

    def _define_plain(self, word: str, star: str) -> None:
        name = self._skip(_NAME)
        if name is None:
            return
        parameters = self._skip(re.compile(r"[^{}\n\\]{0,60}"))
        digits = re.findall(r"#(\d)", parameters[0]) if parameters else []
        self._store(name[1] or name[2], Macro(len(digits), None, self._argument()))

    def _define_document(self, word: str, star: str) -> None:
        name = self._skip(_NAME)
        if name is None:
            return
        kinds = re.findall(
            r"[mrRvbsotOdD]", re.sub(r"\{[^{}]*\}", "", specification := self._argument())
        )
        default = "" if kinds[:1] and kinds[0] in "oOs" else None
        if default is not None and (given := re.match(r"\s*O\s*\{([^{}]*)\}", specification)):
            default = given[1]
        body = self._argument()
        if "s" not in kinds:
            self._store(name[1] or name[2], Macro(min(len(kinds), 9), default, body))

    def _operator(self, word: str, star: str) -> None:
        self._skip(_NAME)
        self._argument()

    def _let(self, word: str, star: str) -> None:
        name = self._skip(_NAME)
        self._skip(re.compile(r"\s*=?\s*"))
        other = self._skip(re.compile(r"\\([a-zA-Z@]+)|\\?."))
        if name is None or other is None:
            return
        known = self._macros.get(other[1] or "")
        own = name[1] or name[2]
        if own not in _HANDLERS and not self._is_conditional(own):
            self._macros[own] = known or Macro(0, None, other[0] if other[1] != own else "")

    def _store(self, name: str, macro: Macro) -> None:
        # Definitions of layout, and those that would replace the document's structure.
        plumbing = re.search(r"\\(?:@|csname|expandafter|catcode|futurelet|write|read)", macro.body)
        if plumbing is None and name not in _STRUCTURE:
            self._macros[name] = macro

    def _define_environment(self, word: str, star: str) -> None:
        name = self._argument().strip()
        count = self._optional()
        default = self._optional() if count is not None else None
        n_arguments = int(count) if count is not None and count.strip().isdigit() else 0
        begin, end = self._argument(), self._argument()
        if name and name not in ("document", "abstract", *CODE_ENVIRONMENTS):
            self._environments[name] = (Macro(n_arguments, default, begin), end)

    def _define_box(self, word: str, star: str) -> None:
        while self._optional() is not None:
            pass
        name = self._argument().strip()
        while self._optional() is not None:
            pass
        self._grounds[name] = self._option_ground(self._argument())

    def _exclude(self, word: str, star: str) -> None:
        self._skipped.add(self._argument().strip())

    def _include(self, word: str, star: str) -> None:
        self._skipped.discard(self._argument().strip())

    def _define_colour(self, word: str, star: str) -> None:
        self._optional()
        name, model, specification = self._argument(), self._argument(), self._argument()
        colour = tex_colour(specification, model, self._colours)
        if colour is not None:
            self._colours[name.strip()] = colour

    def _let_colour(self, word: str, star: str) -> None:
        self._optional()
        name, specification = self._argument(), self._argument()
        colour = tex_colour(specification, "", self._colours)
        if colour is not None:
            self._colours[name.strip()] = colour

    # Conditionals

    def _is_conditional(self, word: str) -> bool:
        if word in CONDITIONALS or word in self._conditions:
            return True
        return word.startswith("if") and len(word) > 2 and word not in NO_CONDITIONALS

    def _new_condition(self, word: str, star: str) -> None:
        name = self._skip(_NAME)
        if name is not None:
            self._conditions[name[1] or name[2]] = False

    def _is_switch(self, word: str) -> bool:
        for end in ("true", "false"):
            if word.endswith(end) and "if" + word.removesuffix(end) in self._conditions:
                return True
        return False

    def _switch(self, word: str) -> None:
        value = word.endswith("true")
        self._conditions["if" + word.removesuffix("true" if value else "false")] = value

    def _conditional(self, word: str) -> None:
        start = self._frames[-1].position
        if word == "ifcase":
            number = self._skip(re.compile(r"\s*(\d+)\s?"))
            if number is None or int(number[1]) > 0:
                self._skip_branch(stop_at_else=True, n_cases=int(number[1]) if number else 1)
            return
        if not self._holds(word) and not self._skip_branch(stop_at_else=True):
            self._frames[-1].position = start

    def _holds(self, word: str) -> bool:
        if word in self._conditions:
            return self._conditions[word]
        if word in ("iftrue", "ifpdf", "ifvmode"):
            return True
        if word == "ifmmode":
            return bool(self._groups[-1].math)
        if word in ("ifnum", "ifdim"):
            return self._compares()
        if word in ("if", "ifcat", "ifx"):
            pair = self._skip(re.compile(r"\s*(\\[a-zA-Z@]+|\\?.)\s*(\\[a-zA-Z@]+|.)", re.S))
            return pair is not None and self._equal(pair[1], pair[2])
        if word == "ifodd":
            number = self._skip(re.compile(r"\s*(\d+)\s?"))
            return number is not None and int(number[1]) % 2 == 1
        if word == "ifdefined":
            name = self._skip(_NAME)
            return name is not None and (name[1] or name[2]) in self._macros
        if word == "ifcsname":
            name = self._skip(re.compile(r"([^\\\n]{0,80})\\endcsname\s?"))
            return name is not None and name[1] in self._macros
        return False

    def _compares(self) -> bool:
        found = self._skip(_COMPARISON)
        if found is None:
            self._skip(re.compile(r"[^\\\n]{0,40}?[<>=]\s*-?[\w.]+\s?"))
            return True
        first, second = int(found[1]), int(found[3])
        return {"<": first < second, ">": first > second, "=": first == second}[found[2]]

    def _equal(self, first: str, second: str) -> bool:
        if first == second:
            return True
        one, other = (self._macros.get(name.lstrip("\\")) for name in (first, second))
        return one is not None and one == other

    def _skip_branch(self, *, stop_at_else: bool, n_cases: int = 0) -> bool:
        """Skip to the end of a branch. False, and nothing skipped, if it has none."""
        frame, depth = self._frames[-1], 0
        start = frame.position
        if self._scans <= 0:
            return False
        for found in _BRANCH.finditer(frame.text, start):
            name = found[1]
            if name is None:
                continue
            if name == "fi":
                if depth == 0:
                    return self._resume(frame, start, found.end())
                depth -= 1
            elif name.startswith("if"):
                depth += self._is_conditional(name)
            elif depth == 0 and stop_at_else:
                if name == "or":
                    n_cases -= 1
                if name == "else" or n_cases == 0:
                    return self._resume(frame, start, found.end())
        self._scans -= len(frame.text) - start
        return False

    def _resume(self, frame: Frame, start: int, end: int) -> bool:
        self._scans -= end - start
        frame.position = end
        self._skip(re.compile(r"[ \t]*\n?[ \t]*(?!\n)"))
        return True

    def _else(self, word: str, star: str) -> None:
        self._skip_branch(stop_at_else=False)

    def _if_then_else(self, word: str, star: str) -> None:
        condition, first, second = (self._argument() for _ in range(3))
        name = re.match(r"\s*\\boolean\s*\{(\w+)\}", condition)
        equal = re.match(r"\s*\\equal\s*\{([^{}]*)\}\s*\{([^{}]*)\}", condition)
        number = _COMPARISON.match(condition)
        if name:
            holds = self._conditions.get("if" + name[1], False)
        elif equal:
            holds = equal[1].strip() == equal[2].strip()
        elif number:
            one, two = int(number[1]), int(number[3])
            holds = {"<": one < two, ">": one > two, "=": one == two}[number[2]]
        else:
            holds = True
        self._push(first if holds else second)

    def _toggle(self, word: str, star: str) -> None:
        name = self._argument().strip()
        if word.startswith("new"):
            self._conditions["if" + name] = False
        elif word == "setboolean":
            self._conditions["if" + name] = self._argument().strip() == "true"
        else:
            self._conditions["if" + name] = word == "toggletrue"

    def _if_toggle(self, word: str, star: str) -> None:
        name, first, second = (self._argument() for _ in range(3))
        self._push(first if self._conditions.get("if" + name.strip(), False) else second)

    # Files

    def _input(self, word: str, star: str) -> None:
        if word in (
            "import",
            "subimport",
            "inputfrom",
            "subinputfrom",
            "includefrom",
            "subincludefrom",
        ):
            folder, name = self._argument().strip(), self._argument().strip()
            base = self._frames[-1].folder if word.startswith("sub") else ""
            self._insert_file(base + folder.rstrip("/") + "/", name)
            return
        self._skip(_BLANK)
        if self._frames[-1].text.startswith("{", self._frames[-1].position):
            name = self._argument().strip()
        else:
            bare = self._skip(re.compile(r"[^\s{}\\%]{1,200}"))
            name = bare[0] if bare else ""
        if word == "InputIfFileExists":
            self._argument()
            self._argument()
        if name and "\\" not in name and "#" not in name:
            self._insert_file(self._frames[-1].folder, name.strip('"'))

    def _insert_file(self, folder: str, name: str) -> None:
        if name in self._written:
            self._push(self._written[name])
            return
        found = self._insert(folder, name)
        if found is not None:
            text, where = found
            self._scans += 40 * len(text)
            self._budget += 10 * len(text)
            self._push(text + "\n", where)

    # Environments

    def _environment_name(self) -> str:
        found = self._skip(re.compile(r"\s*\{\s*([^{}\n]{1,60}?)\s*\}"))
        return found[1] if found else ""

    def _begin(self, word: str, star: str) -> None:
        name = self._environment_name()
        bare = name.rstrip("*")
        if name == "document":
            if self._in_preamble:
                self._in_preamble = False
                self._groups = [replace(self._groups[0], out=self._front())]
        elif name in self._skipped or bare in ("filecontents",):
            self._skip_environment(name)
        elif bare in CODE_ENVIRONMENTS:
            self._code(name)
        elif bare in MATH_ENVIRONMENTS:
            self._emit("\n\n")
            self._open_math(name, f"\\begin{{{name}}}")
        elif name in self._environments:
            macro, _ = self._environments[name]
            self._open(replace(self._groups[-1], kind=f"\\begin {name}", at_close=None))
            self._expand(macro, "")
        else:
            self._open_environment(name, bare)

    def _skip_environment(self, name: str) -> None:
        text = self._until_end(name)
        if text is not None and name.startswith("filecontents"):
            self._optional()
            found = re.match(r"\s*(?:\[[^\]]*\])?\s*\{([^{}\n]{1,200})\}", text)
            if found:
                self._written[found[1]] = text[found.end() :]
                self._written[found[1].removesuffix(".tex")] = text[found.end() :]

    def _until_end(self, name: str) -> str | None:
        frame = self._frames[-1]
        if self._scans <= 0:
            return None
        end = frame.text.find(f"\\end{{{name}}}", frame.position)
        self._scans -= (end if end >= 0 else len(frame.text)) - frame.position
        if end < 0:
            return None
        text = frame.text[frame.position : end]
        frame.position = end + len(name) + 6
        return text

    def _code(self, name: str) -> None:
        if name.startswith(("lstlisting", "Verbatim", "minted")):
            self._optional()
        if name.startswith("minted"):
            self._argument()
        text = self._until_end(name)
        if text is not None:
            self._emit("\n\n" + "\n\n".join(filter(str.strip, text.split("\n"))) + "\n\n")

    def _open_environment(self, name: str, bare: str) -> None:
        self._emit("\n\n")
        group = replace(self._groups[-1], kind=f"\\begin {name}", at_close=None)
        if name in TABLES or bare in TABLES:
            group.kind = bare
        if bare in FLOATS:
            group.out = None
        if bare in PICTURES:
            group.out, group.picture = None, True
        if bare in ("abstract", "onecolabstract", "abst"):
            group.out = None if self._ended or self.document.abstract else self.document.abstract
            group.at_close = self._after_abstract
        if name in self._grounds:
            group.ground = self._grounds[name]
        options = self._optional()
        if options is not None and bare in ("tcolorbox", "mdframed", "beamercolorbox"):
            group.ground = self._option_ground(options)
        for number in range(ENVIRONMENT_ARGUMENTS.get(bare, 0)):
            argument = self._argument()
            width = points(argument)
            if bare == "minipage" and number == 0 and width is not None and width < 1:
                group.hidden = "in a box without width"
        self._open(group)

    def _option_ground(self, options: str) -> Colour | None:
        found = re.search(r"(?:colback|backgroundcolor)\s*=\s*\{?([\w!.]+)", options)
        return tex_colour(found[1], "", self._colours) if found else WHITE

    def _end(self, name: str) -> bool:
        if name == "document":
            return True
        if name in self._environments:
            self._push(self._environments[name][1] + f"\\refereeend{{{name}}}")
            return False
        self._close_environment(name)
        return False

    def _end_defined(self, word: str, star: str) -> None:
        self._close_environment(self._argument())

    def _close_environment(self, name: str) -> None:
        kinds = (f"\\begin {name}", name.rstrip("*"))
        for depth, group in enumerate(reversed(self._groups)):
            if group.kind in kinds:
                for _ in range(depth + 1):
                    self._close_group()
                break
            if depth > 50:
                break
        self._emit("\n\n")

    # Structure

    def _front(self) -> list[str]:
        return self.document.front

    def _section(self, word: str, star: str) -> None:
        self._flush_notes()
        while len(self._groups) > 1 and (
            self._groups[-1].math or self._groups[-1].kind in ("note", "caption", "heading")
        ):
            self._close_group()
        while self._optional() is not None:
            pass
        heading: list[str] = []
        body: list[str] = []
        self._start(heading, body)
        self._argument_group("heading", out=None if self._ended else heading)

    def _start(self, heading: list[str], body: list[str]) -> None:
        if self._ended or self._in_preamble:
            return
        self.document.sections.append((heading, body))
        for group in self._groups:
            if group.out is not None and id(group.out) in self._bodies:
                group.out = body
        self._bodies.add(id(body))

    def _title(self, word: str) -> None:
        while self._optional() is not None:
            pass
        name = "title" if word == "title" else "other_title"
        pieces: list[str] = getattr(self.document, name)
        if pieces:
            self._argument_group("{", out=None)
        else:
            self._argument_group("{", out=pieces)

    def _abstract_command(self, word: str, star: str) -> None:
        if self._frames[-1].text.startswith("{", self._frames[-1].position):
            self._argument_group("{", self._after_abstract, out=self.document.abstract)

    def _after_abstract(self) -> None:
        for group in self._groups:
            if group.out is self.document.front:
                group.out = self.document.after_abstract

    def _caption(self, word: str, star: str) -> None:
        while self._optional() is not None:
            pass
        if word in ("captionof", "captionsetup"):
            self._argument()
            self._optional()
        if word == "captionsetup":
            return
        pieces: list[str] = []
        if not self._ended and not self._in_preamble:
            self.document.captions.append(pieces)
        self._argument_group("caption", out=pieces, picture=False)

    def _note(self, word: str, star: str) -> None:
        while self._optional() is not None:
            pass
        pieces: list[str] = []
        prints = self._groups[-1].out is not None
        if prints:
            self._notes.append(pieces)
        self._argument_group("note", out=pieces if prints else None, math="")

    def _flush_notes(self) -> None:
        notes, self._notes = self._notes, []
        out = next((group.out for group in reversed(self._groups) if group.out is not None), None)
        if out is not None:
            for pieces in notes:
                out.append("\n\n" + "".join(pieces) + "\n\n")

    def _end_of_text(self, word: str, star: str) -> None:
        """Bibliography and appendices are read for hidden text only."""
        if self._in_preamble:
            return
        self._flush_notes()
        self._ended = True
        for group in self._groups:
            group.out = None

    def _cite(self, word: str, star: str) -> None:
        while self._optional() is not None:
            pass
        self._emit(f"[{' '.join(self._argument().split())}]")

    def _link(self, word: str, star: str) -> None:
        while self._optional() is not None:
            pass
        found = self._skip(_URL)
        if found is None:
            found = self._skip(re.compile(r"([|!+])([^\n]{0,2000}?)\1"))
            address = found[2] if found else ""
        else:
            address = found[1]
        if word != "href":
            self._emit(re.sub(r"\\([%#&_~{}])", r"\1", address))

    def _verb(self, word: str, star: str) -> None:
        self._optional()
        if word == "mintinline":
            self._argument()
        found = self._skip(re.compile(r"([^\w\s])([^\n]{0,2000}?)\1"))
        if found and found[1] == "{":
            return
        if found:
            self._emit(found[2])
        elif word != "verb":
            self._emit(self._argument())

    def _two_columns(self, word: str, star: str) -> None:
        self._skip(_BLANK)
        if self._take("["):
            self._bracket_depth = len(self._groups)

    def _first_of_two(self, word: str, star: str) -> None:
        first = self._argument()
        self._argument()
        self._push(first)

    def _item(self, word: str, star: str) -> None:
        label = self._optional()
        self._emit("\n\n")
        if label:
            self._push(label + " ")

    def _break(self, word: str, star: str) -> None:
        if word in ("tabularnewline", "newline", "linebreak", "cr"):
            self._new_row()
        else:
            self._paragraph()

    # What cannot be seen

    def _colour(self, word: str, star: str) -> None:
        model = self._optional() or ""
        colour = tex_colour(self._argument(), model, self._colours)
        if word == "textcolor":
            self._argument_group("{", colour=colour)
        elif word == "pagecolor":
            for group in self._groups:
                group.ground = colour
        else:
            self._groups[-1].colour = colour

    def _normal_colour(self, word: str, star: str) -> None:
        self._groups[-1].colour = BLACK

    def _colour_box(self, word: str, star: str) -> None:
        model = self._optional() or ""
        ground = self._argument()
        if word == "fcolorbox":
            self._optional()
            ground = self._argument()
        self._argument_group(
            "{", ground=tex_colour(ground, model, self._colours), has_cell_ground=False
        )

    def _cell_colour(self, word: str, star: str) -> None:
        model = self._optional() or ""
        ground = tex_colour(self._argument(), model, self._colours)
        while self._optional() is not None:
            pass
        for group in self._groups:
            group.cell_ground, group.has_cell_ground = ground, True

    def _phantom(self, word: str, star: str) -> None:
        self._argument_group("{", hidden="phantom")

    def _covered(self, word: str, star: str) -> None:
        self._argument_group("{", hidden="painted over")

    def _tooltip(self, word: str, star: str) -> None:
        shown, hidden = self._argument(), self._argument()
        self.unseen.add("in a tooltip", " " + hidden)
        self._push(shown)

    def _font_size(self, word: str, star: str) -> None:
        size = points(self._argument())
        self._argument()
        if size is not None:
            self._groups[-1].size_pt = size

    def _scale(self, word: str, star: str) -> None:
        factor = re.match(r"\s*-?(\d*\.?\d+)", self._argument())
        while self._optional() is not None:
            pass
        scale = float(factor[1]) if factor else 1.0
        self._argument_group("{", size_pt=self._groups[-1].size_pt * scale)

    def _resize(self, word: str, star: str) -> None:
        sides = [points(self._argument()), points(self._argument())]
        small = any(side is not None and abs(side) < TINY_PT for side in sides)
        size = 0.0 if small else self._groups[-1].size_pt
        self._argument_group("{", size_pt=size)

    def _raise(self, word: str, star: str) -> None:
        shift = points(self._argument())
        while self._optional() is not None:
            pass
        if shift is not None and abs(shift) > OFF_PAGE_PT:
            self._argument_group("{", hidden="off the page")

    def _shift(self, word: str, star: str) -> None:
        if word in ("hspace", "vspace"):
            length = self._argument()
        else:
            found = self._skip(re.compile(r"\s*(-?[\d.]+\s*[a-z]{2})(?:\s*(?:plus|minus)\s*\S+)*"))
            length = found[1] if found else ""
        shift = points(length)
        if shift is not None and abs(shift) > OFF_PAGE_PT:
            self._groups[-1].hidden = "off the page"
        self._emit(" ")

    def _put(self, word: str, star: str) -> None:
        place = self._skip(re.compile(r"\s*\(\s*(-?[\d.]+)[^,()]{0,20},\s*(-?[\d.]+)[^()]{0,20}\)"))
        try:
            far = (
                place is not None and max(abs(float(place[1])), abs(float(place[2]))) > OFF_PAGE_PT
            )
        except ValueError:
            far = False
        if far:
            self._argument_group("{", hidden="off the page")

    def _narrow_box(self, word: str, star: str) -> None:
        """A box without width: a mark in it stands beside the text, a sentence over it."""
        if word in ("makebox", "framebox", "parbox", "vbox", "hbox", "vtop"):
            if word in ("vbox", "hbox", "vtop"):
                found = self._skip(re.compile(r"\s*(?:to|spread)\s*(-?[\d.]+\s*[a-z]{2})\s*"))
                width = found[1] if found else None
            elif word == "parbox":
                while self._optional() is not None:
                    pass
                width = self._argument()
            else:
                width = self._optional()
                while self._optional() is not None:
                    pass
            size = points(width) if width is not None else None
            if size is None or abs(size) >= 1:
                return
        out, pieces = self._groups[-1].out, list[str]()

        def decide() -> None:
            text = "".join(pieces)
            if len(re.findall(r"[^\W\d_]{2,}", text)) >= BOX_WORDS:
                self.unseen.add("in a box without width", " " + text)
            elif out is not None:
                out.append(text)

        self._argument_group("box", decide, out=pieces)

    def _save_box(self, word: str, star: str) -> None:
        name = self._box_name()
        if word == "setbox":
            self._skip(re.compile(r"\s*=?\s*\\[vh]box\s*"))
        if word == "newsavebox":
            return
        while self._optional() is not None:
            pass
        pieces = self._boxes.setdefault(name, [])
        self._argument_group("box", out=pieces)

    def _use_box(self, word: str, star: str) -> None:
        name = self._box_name()
        self._used_boxes.add(name)
        self._emit("".join(self._boxes.get(name, ())))

    def _box_name(self) -> str:
        found = self._skip(re.compile(r"\s*\{?\s*\\?([a-zA-Z@]+|\d+)\s*\}?"))
        return found[1] if found else ""

    def _transparent(self, word: str, star: str) -> None:
        number = re.match(r"\s*(\d*\.?\d+)", self._argument())
        clear = number is not None and float(number[1]) < 0.05
        if word == "texttransparent":
            self._argument_group("{", hidden="transparent" if clear else self._groups[-1].hidden)
        else:
            self._groups[-1].hidden = "transparent" if clear else ""

    def _literal(self, word: str, star: str) -> None:
        """Commands for the page itself, with the mode in which text is painted."""
        self._skip(re.compile(r"\s*(?:direct|page|shipout)\s*"))
        text = self._argument()
        mode = re.findall(r"\b([0-7])\s+Tr\b", text)
        if mode:
            self._groups[-1].hidden = "invisible" if mode[-1] in "37" else ""
        elif re.search(r"\((?:[^()\\]|\\.){8,}\)\s*Tj", text):
            self.unseen.add("painted by a literal", " " + text)

    def _render(self, word: str, star: str) -> None:
        invisible = re.search(r"(?i)TextRenderingMode\s*=\s*(?:Invisible|3|7)", self._argument())
        if word == "textpdfrender":
            hidden = "invisible" if invisible else self._groups[-1].hidden
            self._argument_group("{", hidden=hidden)
        elif invisible:
            self._groups[-1].hidden = "invisible"

    def _alternative_text(self, word: str, star: str) -> None:
        text = self._argument()
        found = re.search(r"ActualText\s*=\s*\{?([^{}]*)", text)
        if found:
            self.unseen.add("said by ActualText only", " " + found[1])

    def _node(self, word: str, star: str) -> None:
        """The label of a picture; it is left out of the text, hidden or not."""
        options = self._skip(re.compile(r"[^\[\]{};]{0,80}\[([^\[\]]{0,400})\]"))
        if options is not None and _TRANSPARENT.search(options[1]):
            self._skip(re.compile(r"[^{};]{0,80}"))
            self._argument_group("{", hidden="transparent")


_Handler = Callable[[Interpreter, str, str], None]


def _table() -> dict[str, _Handler]:
    table: dict[str, _Handler] = {}
    for names, handler in (
        ("newcommand renewcommand providecommand DeclareRobustCommand", Interpreter._define),
        ("def gdef edef xdef", Interpreter._define_plain),
        (
            "NewDocumentCommand RenewDocumentCommand ProvideDocumentCommand DeclareDocumentCommand",
            Interpreter._define_document,
        ),
        ("let", Interpreter._let),
        ("DeclareMathOperator", Interpreter._operator),
        ("newenvironment renewenvironment", Interpreter._define_environment),
        ("newtcolorbox renewtcolorbox newmdenv", Interpreter._define_box),
        ("excludecomment", Interpreter._exclude),
        ("includecomment", Interpreter._include),
        ("definecolor providecolor", Interpreter._define_colour),
        ("colorlet", Interpreter._let_colour),
        ("newif", Interpreter._new_condition),
        ("else or", Interpreter._else),
        ("ifthenelse", Interpreter._if_then_else),
        ("newboolean setboolean newtoggle toggletrue togglefalse", Interpreter._toggle),
        ("iftoggle ifbool", Interpreter._if_toggle),
        (
            "input include subfile subfileinclude import subimport inputfrom subinputfrom"
            " includefrom subincludefrom InputIfFileExists",
            Interpreter._input,
        ),
        ("begin", Interpreter._begin),
        ("refereeend", Interpreter._end_defined),
        ("section subsection subsubsection chapter paragraph subparagraph", Interpreter._section),
        ("abstract abst ABSTRACT", Interpreter._abstract_command),
        ("caption captionof subcaption captionsetup", Interpreter._caption),
        (
            "footnote footnotetext marginpar marginnote sidenote endnote todo",
            Interpreter._note,
        ),
        (
            "bibliography printbibliography appendix appendices appendixpage",
            Interpreter._end_of_text,
        ),
        ("href url nolinkurl path burl", Interpreter._link),
        ("verb lstinline mintinline Verb", Interpreter._verb),
        ("twocolumn", Interpreter._two_columns),
        ("texorpdfstring", Interpreter._first_of_two),
        ("item", Interpreter._item),
        ("par tabularnewline newline linebreak cr newpage clearpage", Interpreter._break),
        ("color textcolor pagecolor", Interpreter._colour),
        ("normalcolor", Interpreter._normal_colour),
        ("colorbox fcolorbox", Interpreter._colour_box),
        ("cellcolor rowcolor", Interpreter._cell_colour),
        ("phantom hphantom vphantom", Interpreter._phantom),
        ("censor blackout xblackout invisible", Interpreter._covered),
        ("pdftooltip", Interpreter._tooltip),
        ("fontsize", Interpreter._font_size),
        ("scalebox", Interpreter._scale),
        ("resizebox", Interpreter._resize),
        ("raisebox", Interpreter._raise),
        ("hspace vspace hskip vskip kern moveleft moveright lower raise", Interpreter._shift),
        ("put", Interpreter._put),
        ("makebox framebox parbox vbox hbox vtop rlap llap clap", Interpreter._narrow_box),
        ("sbox savebox setbox newsavebox", Interpreter._save_box),
        ("usebox box copy unhbox unvbox unhcopy", Interpreter._use_box),
        ("transparent texttransparent pgfsetfillopacity", Interpreter._transparent),
        ("pdfliteral special", Interpreter._literal),
        ("pdfrender textpdfrender", Interpreter._render),
        ("BeginAccSupp", Interpreter._alternative_text),
        ("node", Interpreter._node),
    ):
        table.update(dict.fromkeys(names.split(), handler))
    cites = "cite citep citet citealp citealt citeauthor citeyear citeyearpar parencite textcite"
    for name in (*cites.split(), "autocite", "footcite", "nocite", "Cite", "Citet", "Citep"):
        table[name] = Interpreter._cite
    return table


_HANDLERS = _table()
#: Commands that a document must not redefine for its reader to find its structure.
_STRUCTURE = frozenset(
    [
        "begin",
        "end",
        "section",
        "subsection",
        "subsubsection",
        "chapter",
        "paragraph",
        "caption",
        "footnote",
        "title",
        "abstract",
        "input",
        "include",
        "cite",
        "citep",
        "citet",
        "color",
        "textcolor",
        "phantom",
        "maketitle",
    ]
)
