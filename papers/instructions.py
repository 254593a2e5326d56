"""Find what reads like an instruction to a reviewer, in ten languages.

A rule is a pattern of an order or a plea together with what it is about: a review, its score, the
acceptance of the paper. Scientific prose states and an instruction orders, so most patterns count
only where a clause begins or after a word that makes an order, such as "please". An example that is
quoted, as papers about prompt injection do, is not an instruction.

Deterministic. The text is changed nowhere; docs/flags.md has the rules for users.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from papers.instruction_rules import LANGUAGES, Language, Rule

#: Characters around a stem in which its rules are tried: longer than any match.
REACH = 200
#: Characters before a match that show whether a clause begins there.
LEAD = 80
#: Characters around a match that may name what it is about, and around a quotation who speaks.
CONTEXT = 240
#: Characters of a passage: the rest of a longer sentence is not part of the evidence.
PASSAGE = 600
#: Characters of a text that are searched; no model reads a prompt of that length.
SEARCHED = 1_000_000

_ENDS = re.compile(r"[.!?。！？؟…]+[\"'”’»」』)\]]*\s|\n\s*\n|[。！？]")
_CLAUSE_MARKS = ".!?:;,…。！？：；，、؟؛،([{<>|=-–—•*#\"'“”‘’«»「」『』`/\\"
#: Words after which a line break is not the beginning of a clause.
_OPEN_ENDED = re.compile(
    r"\b(?:to|not|and|or|the|a|an|we|they|i|he|she|it|who|that|which|can|could|may|might|will"
    r"|would|did|does|do|of|in|for|by|with|as|than|also|authors?|reviewers?|models?)$"
)
_QUOTES = {"“": "”", "«": "»", "「": "」", "『": "』", "„": "“", "``": "''", "‘": "’"}
#: What says that a quotation is an example of something.
_MENTION = re.compile(
    r"such as|e\.g|for example|for instance|\blike\b|prompt|inject|attack|jailbreak|adversar"
    r"|phrase|string|instruct|sentence|command|embed|insert|append|contain|template|payload"
    r"|\bsays?\b|\bsaid\b|\breads?\b|wrote|written|\bcalled\b|example|hidden|hides?\b"
    r"|例如|比如|诸如|注入|攻击|提示|例えば|などの|攻撃|예를|같은|공격|por ejemplo|por exemplo|como"
    r"|par exemple|comme|zum beispiel|z\. ?b\.|wie\b|например|атак|مثل|هجوم",
)
#: What introduces an example that stands in a line of its own.
_INTRODUCED = re.compile(r"(?:such as|for example|for instance|e\.g\.|\blike)[,:]*[\s\"“'`*>]*$")
_VOWEL_MARKS = re.compile("[\u0640\u064b-\u0655\u0670]")
_HAMZAS = "\u0653\u0654\u0655"
#: Cyrillic letters that look like Latin ones.
_LOOKALIKES = str.maketrans("авеіјкмнорстухѕԁԛԝ", "abeijkmhopctyxsdqw")
_MIXED = re.compile("[a-z][\u0400-\u052f]|[\u0400-\u052f][a-z]")


@dataclass(frozen=True)
class Instruction:
    """What the passage asks for, and the passage."""

    reason: str
    passage: str


class _Folding(dict[int, int]):
    """Maps a letter to its plain lower-case form, one character to one."""

    def __missing__(self, code: int) -> int:
        lower = chr(code).lower()
        parts = unicodedata.normalize("NFKD", lower)
        plain = all("\u0300" <= mark <= "\u036f" or mark in _HAMZAS for mark in parts[1:])
        found = parts[0] if plain else lower
        self[code] = ord(found) if len(found) == 1 else code
        return self[code]


_FOLDING = _Folding()
#: Marks of an ordinary text are written in one way.
_FOLDING.update({ord("’"): ord("'"), ord("‘"): ord("'"), ord("\u00a0"): ord(" ")})


def find_instructions(text: str, *, hidden: bool = False) -> list[Instruction]:
    """What in the text reads like an instruction to a reviewer, a passage once, in order.

    In text that is `hidden` from a reader nothing is taken for an example or a statement.
    """
    text = _VOWEL_MARKS.sub("", unicodedata.normalize("NFC", text[:SEARCHED]))
    folded = text.translate(_FOLDING)
    if not folded.isascii() and _MIXED.search(folded):
        words = (
            word.translate(_LOOKALIKES) if _MIXED.search(word) else word for word in _parts(folded)
        )
        folded = "".join(words)
    found: dict[str, tuple[int, Instruction]] = {}
    for start, reason in _matches(folded, hidden):
        first, last = _sentence(text, start)
        passage = " ".join(text[first:last].split())[:PASSAGE]
        found.setdefault(passage, (start, Instruction(reason, passage)))
    return [instruction for _, instruction in sorted(found.values(), key=lambda pair: pair[0])]


def _parts(text: str) -> list[str]:
    """Words and what is between them, which together are the text."""
    return re.split(r"(\W+)", text)


def _matches(folded: str, hidden: bool) -> Iterator[tuple[int, str]]:
    places: dict[str, list[int]] = {}
    for language in LANGUAGES:
        if not language.present(folded):
            continue
        for rule in language.rules:
            for stem in rule.stems:
                if stem not in places:
                    places[stem] = list(_places(folded, stem))
            for start, end in _windows(folded, [places[stem] for stem in rule.stems]):
                for match in rule.pattern.finditer(folded, start, end):
                    if hidden or _is_addressed(folded, match, rule, language):
                        yield match.start(), rule.reason


def _windows(text: str, found: Iterable[list[int]]) -> list[tuple[int, int]]:
    """Spans around the places of stems, joined where they overlap: most texts have few or none."""
    places = sorted(place for of_stem in found for place in of_stem)
    spans: list[tuple[int, int]] = []
    for place in places:
        start, end = max(0, place - REACH), min(len(text), place + REACH)
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _places(text: str, stem: str) -> Iterator[int]:
    place = text.find(stem)
    while place >= 0:
        yield place
        place = text.find(stem, place + len(stem))


def _is_addressed(text: str, match: re.Match[str], rule: Rule, language: Language) -> bool:
    """Is it said to the reader, in this place and about a review?"""
    start, end = match.span()
    if rule.is_order and not _begins_clause(text[max(0, start - LEAD) : start], language):
        return False
    around = text[max(0, start - CONTEXT) : end + CONTEXT]
    if rule.about is not None and not rule.about.search(around):
        return False
    for place in (start, _sentence(text, start)[0]):
        if _INTRODUCED.search(text[max(0, place - LEAD) : place]):
            return False
    return not (_is_quoted(text, start, end) and _MENTION.search(around))


def _begins_clause(before: str, language: Language) -> bool:
    """Does an order begin after these characters?"""
    stripped = before.rstrip()
    if not stripped:
        return True
    if "\n" in before[len(stripped) :]:
        return _OPEN_ENDED.search(stripped) is None
    return stripped[-1] in _CLAUSE_MARKS or language.lead.search(stripped) is not None


def _is_quoted(text: str, start: int, end: int) -> bool:
    before, after = text[max(0, start - CONTEXT) : start], text[end : end + CONTEXT]
    before = before.rpartition("\n\n")[2]
    if before.count('"') % 2 == 1 and '"' in after:
        return True
    return any(
        before.rfind(opening) > before.rfind(closing) and closing in after
        for opening, closing in _QUOTES.items()
    )


def _sentence(text: str, place: int) -> tuple[int, int]:
    """The sentence around a place, or as much of it as a passage may have."""
    earliest = max(0, place - PASSAGE // 2)
    first = earliest
    for end in _ENDS.finditer(text, earliest, place):
        first = end.end()
    last = _ENDS.search(text, place)
    return first, min(last.end() if last else len(text), first + PASSAGE)
