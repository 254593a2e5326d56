"""Sanitise a paper's text for use in a prompt.

There are two steps. `normalise` removes invisible characters and repairs ligatures. `neutralise`
breaks up strings that a tokenizer or a trained model would take for part of the prompt itself; they
stay readable.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from errors import PaperUnreadable
from papers.instructions import find_instructions
from papers.paper import HIDDEN_TEXT, Flag, Paper, Section

#: Invisible and direction-changing characters, and the tag characters that can spell hidden ASCII.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
#: Runs of them that spell text: tag characters stand for ASCII, variation selectors for bytes. An
#: emoji has one selector, the flag of a country's part six tags.
_SPELLED = re.compile("[\U000e0020-\U000e007f]{8,}|[\ufe00-\ufe0f\U000e0100-\U000e01ef]{8,}")
#: Those of them that typesetting leaves: they are not flagged.
_HARMLESS = frozenset("\u00ad\ufeff\ufe0e\ufe0f")
#: Controls, lone surrogates, private use and non-characters: not text.
_UNUSABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff"
    "\U000f0000-\U0010ffff]"
)
#: Letters that differ from plain ones in looks only: ligatures, mathematical alphabets, widths.
_COMPATIBLE = re.compile("[ĳĲŉǆ-ǌﬀ-ﬆ\U0001d400-\U0001d7ff！-～]")
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\u2028\u2029]")

#: Kind of the flag of text that reads like an instruction to a reviewer.
INSTRUCTION = "instruction"

_NAMES = (
    "s|unk|pad|eos|bos|start_of_turn|end_of_turn|start_of_image|end_of_utterance|file_sep|filename"
    "|repo_name|reponame|gh_stars|issue_start|issue_comment|issue_closed|jupyter_[a-z]{4,6}"
    "|empty_output|fim_[a-z]{3,6}|tool_call|tool_response|think"
)
#: Special tokens of chat templates, as tokenizers match them in plain text.
SPECIAL_TOKEN = re.compile(
    rf"<(?P<bar>[|｜][^\s<>|｜]{{1,64}}[|｜])>|<(?P<sys></?SYS>)>|<(?P<name>/?(?:{_NAMES}))>"
    r"|\[(?P<square>/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS))\]"
)
_HEADINGS = (
    "TITLE|ABSTRACT|CAPTIONS|CONTENT|Significance and novelty|Potential reasons for acceptance"
    "|Potential reasons for rejection|Suggestions for improvement"
    "|How to evaluate the idea of the paper"
    "|Compared to previous similar works, what are the essential differences[^\\[\\]]{0,90}"
    "|How to evaluate the experimental results in the paper"
    "|Other suggestions for further improving the quality of the paper"
    "|Other important review comments"
)
#: The prompt's own marks: its layout, the aspects' headings, the empty marker.
PROMPT_MARK = re.compile(rf"\[(?P<heading>(?i:{_HEADINGS}))\]|<(?P<empty>(?i:No related terms))>")
#: The prompt's own sentences, and their replacements in a paper.
PROMPT_PHRASES = {
    "The given paper is as follows": "The given paper is: as follows",
    'Below is an "Instruction"': "Below is an “Instruction”",
    'below is an "Instruction"': "below is an “Instruction”",
    "Section Title: ": "Section title: ",
    "### Response:": "# # # Response:",
    "### Instruction:": "# # # Instruction:",
}


def normalise(text: str) -> tuple[str, bool]:
    """The visible text in composed form, and whether invisible characters were removed."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    text = _UNUSABLE.sub("", text)
    if text.isascii():
        return text, False
    hidden = any(char not in _HARMLESS for char in _INVISIBLE.findall(text))
    text = _SPACES.sub(" ", _INVISIBLE.sub("", text))
    text = _COMPATIBLE.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return unicodedata.normalize("NFC", text), hidden


def spelled_out(text: str) -> list[str]:
    """What runs of invisible characters in the text spell."""
    if text.isascii():
        return []
    spelled = (bytes(map(_byte, map(ord, run))) for run in _SPELLED.findall(text))
    found = (part.decode("utf-8", "ignore").strip() for part in spelled)
    return [words for words in found if any(map(str.isalpha, words))]


def _byte(code: int) -> int:
    """The byte that a tag character or a variation selector stands for."""
    if code < 0xE0000:
        return code - 0xFE00
    return code - 0xE0000 if code < 0xE0080 else code - 0xE0100 + 16


def neutralise(text: str) -> tuple[str, frozenset[str]]:
    """The text without special tokens and prompt marks, and the kinds that it contained."""
    text, tokens = SPECIAL_TOKEN.subn(_break_up, text)
    text, marks = PROMPT_MARK.subn(_break_up, text)
    for phrase, replacement in PROMPT_PHRASES.items():
        if phrase in text:
            text, marks = text.replace(phrase, replacement), marks + 1
    kinds = {"special_token"} if tokens else set()
    return text, frozenset(kinds | ({"prompt_mark"} if marks else set()))


def _break_up(match: re.Match[str]) -> str:
    """Change the string but not the words."""
    inner = match[match.lastgroup or 0]
    return f"({inner})" if match[0].startswith("[") else f"< {inner} >"


class _Cleaner:
    """Cleans the parts of one paper and records what was removed."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.spelled: list[str] = []

    def line(self, text: str) -> str:
        return self.text(" ".join(text.split()))

    def text(self, text: str) -> str:
        self.spelled += spelled_out(text)
        text, hidden = normalise(text)
        text = re.sub(r"[ \t]+", " ", text)
        text, kinds = neutralise(re.sub(r" ?\n\s*", "\n", text).strip())
        self.kinds |= kinds | ({"invisible_character"} if hidden else set())
        return text


_DETAILS = {
    "invisible_character": "zero-width or direction-changing characters taken out",
    "special_token": "special tokens of a chat template broken up",
    "prompt_mark": "marks or instructions of the prompt broken up",
}


def safe_paper(
    *,
    title: str,
    abstract: str = "",
    sections: Iterable[Section] = (),
    captions: Iterable[str] = (),
    flags: Sequence[Flag] = (),
) -> Paper:
    """Clean every part of a paper and flag what was found. Raises PaperUnreadable (empty)."""
    clean = _Cleaner()
    paper = Paper(
        title=clean.line(title),
        abstract=clean.text(abstract),
        sections=tuple(
            Section(clean.line(section.heading), clean.text(section.text)) for section in sections
        ),
        captions=tuple(filter(None, map(clean.line, captions))),
    )
    if not paper.abstract and not any(section.text for section in paper.sections):
        raise PaperUnreadable("The paper contains no text.", kind="empty")
    found = [Flag(kind, detail) for kind, detail in _DETAILS.items() if kind in clean.kinds]
    spelled = [Flag.quoting(HIDDEN_TEXT, "invisible characters", words) for words in clean.spelled]
    flags = (*flags, *spelled)
    # A paper that is made from another one already has some of these flags.
    everything = (*flags, *found, *_hidden_instructions(flags), *_instructions(paper))
    return replace(paper, flags=tuple(dict.fromkeys(everything)))


def _instructions(paper: Paper) -> Iterator[Flag]:
    parts = [paper.title, paper.abstract, *paper.captions]
    for section in paper.sections:
        parts += (section.heading, section.text)
    for found in find_instructions("\n\n".join(parts)):
        yield Flag.quoting(INSTRUCTION, found.reason, found.passage)


def _hidden_instructions(flags: Sequence[Flag]) -> Iterator[Flag]:
    """An instruction in hidden text has its words, so that both are the venue's canary or none."""
    for flag in flags:
        if flag.kind == HIDDEN_TEXT:
            for found in find_instructions(flag.text, hidden=True)[:1]:
                reason = f"in hidden text, {found.reason}"
                yield Flag.quoting(INSTRUCTION, reason, flag.text, flag.page)
