"""Cuts one review into points, each with its topic and stance.

A field of the form tells the stance where it can; sentences are classified where it cannot. A point
keeps the reviewer's own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from models.text.aspects import PartKind
from papers.text_safety import neutralise, normalise
from trainer.data.sentences import sentences
from trainer.data.stance import Stance, stance_of
from trainer.data.topics import Subject, own_title, subject_of, title_of

_PART_KINDS: Mapping[str, PartKind] = {
    "summary": "summary",
    "strengths": "praise",
    "weaknesses": "criticism",
    "questions": "request",
    "suggestions": "request",
    "limitations": "limits",
    "mixed": "free",
    "review": "free",
}
#: Words of a point: less says nothing, more than one item of a review should hold.
MIN_WORDS, MAX_WORDS = 6, 60

#: A sub-heading's names by where what follows it stands.
_NAMES: Mapping[PartKind, str] = {
    "praise": r"(?:main |key |overall )?(?:strengths?|strong points?|pros|positives?|advantages"
    r"|positive (?:points|aspects)|reasons to accept)",
    "criticism": r"(?:main |key |major |overall )?(?:weakness(?:es)?|weak points?|cons|negatives?"
    r"|negative (?:points|aspects)|concerns?|issues|criticisms?|drawbacks|reasons to reject)",
    "request": r"questions?(?: (?:for|to) (?:the )?authors?)?|suggestions?(?: for improvement)?"
    r"|comments and questions|questions and comments",
    "limits": r"limitations?",
    "minor": r"(?:minor|small|other|additional)[\w /]{0,20}|typos?|nits?|nitpicks?|details?",
    "summary": r"(?:paper )?summary(?: of (?:the )?(?:paper|contributions?))?|synopsis|overview"
    r"|contributions?",
    "free": r"(?:(?:general|detailed|specific|major|main|further) )?(?:comments?|discussion"
    r"|thoughts|remarks|review|evaluation|assessment|feedback)|novelty|originality|clarity|quality"
    r"|significance|soundness|correctness|reproducibility|overall|conclusion|justification",
}
_SUBHEADING = re.compile(
    r"(?:^|(?<=[.!?\n]))[\s\-*#•=_\d.)(]*(?:\*\*|__)?(?:"
    + "|".join(f"(?P<{part_kind}>{names})" for part_kind, names in _NAMES.items())
    + r")(?:\*\*|__)?\s*(?::|\n|--|$)(?:\*\*|__)?",
    re.IGNORECASE,
)
#: Sub-headings in texts that lost their line breaks, after no full stop.
_INLINE = re.compile(
    r"\s+[-+*•]?\s*(?=(?:Pros|Cons|PROS|CONS|Strengths|Weaknesses|Positives|Negatives|Questions"
    r"|Minor|Typos|Suggestions)(?: \w+)?:)"
)
_MARK = r"(?:[-*•+–·]+|\(?\d{1,2}[.)\]]|\([a-z]\)|\[?[WSQ]\d{1,2}\]?[:.)]?)"
_BULLET = re.compile(rf"(?:^|(?<=\n)|(?<=[.!?;:]))[ \t]*{_MARK}\s+(?=\S)")
_LEADING = re.compile(rf"^[\W_]*{_MARK}\s+|^\(?\d{{1,2}}[.)]\s*(?=[A-Za-z])|^[\s*•+–·:;,.>)\]-]+")
#: Begins a sentence that goes on with the one before.
_CONTINUATION = re.compile(
    r"(?:this|that|these|those|it|they|for (?:example|instance)|e\.g|i\.e|specifically"
    r"|in particular|moreover|therefore|thus|hence|indeed|also|so|such|because|since|in fact"
    r"|as a result|namely|here|and|or|otherwise|consequently)\b",
    re.IGNORECASE,
)
#: Not about the paper: other reviewers, one's own score, thanks, pointers within the page.
_REVIEWER_REFERENCE = re.compile(
    r"\b(?:other reviewers?|reviewer\s?#?\d|anonreviewer|\bR[1-4]\b|pre-review"
    r"|(?:my|the) (?:score|rating)|area chair|openreview"
    r"|recommend (?:accept|reject|acceptance|rejection)|(?:vote|lean|inclin\w+) (?:for|to|toward)"
    r"|thanks?|see (?:above|below|weakness\w*|questions?|strengths?|summary)|please refer to"
    r"|not (?:an expert|familiar|well versed)|as (?:mentioned|stated) (?:above|before)|https?://)"
    r"|:\W*$",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"\[\d+\]\s+[A-Z]|\(?\d{4}\)?\.\s*$|arxiv:?\s*\d|et al\.,? \(?\d{4}\)?[:.]?$", re.IGNORECASE
)


@dataclass(frozen=True)
class ReviewPoint:
    """One point of one review; `position` counts within the review."""

    subject: Subject
    stance: Stance
    part_kind: PartKind
    title: str
    text: str
    position: int

    @property
    def n_words(self) -> int:
        """Words of its text."""
        return len(self.text.split())


def points_of(parts: Mapping[str, str]) -> list[ReviewPoint]:
    """The points of a review in order, from its parts (`source_records.PARTS` -> text)."""
    found = [
        piece
        for name, text in parts.items()
        for part_kind, block in _blocks(text, _PART_KINDS.get(name, "free"))
        for bullet in _bullets(block)
        for piece in _pieces(bullet, part_kind)
    ]
    points = (
        _point(text, stance, part_kind, n) for n, (text, stance, part_kind) in enumerate(found)
    )
    return [point for point in points if point is not None]


def _blocks(text: str, part_kind: PartKind) -> Iterator[tuple[PartKind, str]]:
    """Stretches under one sub-heading; what a form's field says holds until one comes."""
    end, text = 0, _INLINE.sub("\n", text)
    for match in _SUBHEADING.finditer(text):
        if match.start() > end:
            yield part_kind, text[end : match.start()]
        part_kind, end = cast(PartKind, match.lastgroup), match.end()
    yield part_kind, text[end:]


def _bullets(text: str) -> list[str]:
    starts = [0, *(match.start() for match in _BULLET.finditer(text)), len(text)]
    pieces = (text[start:end] for start, end in pairwise(starts))
    # Without bullets, an empty line parts what is about different things.
    return [part for piece in pieces for part in re.split(r"\n\s*\n", piece) if part.strip()]


def _pieces(text: str, part_kind: PartKind) -> Iterator[tuple[str, Stance, PartKind]]:
    """Sentences of a bullet, those that go on with the one before joined to it."""
    group: str = ""
    stance: Stance = "none"
    for start, end in sentences(text):
        sentence = _clean(text[start:end])
        if not sentence or _REVIEWER_REFERENCE.search(sentence) or _REFERENCE.search(sentence):
            continue
        found = _stance(sentence, part_kind)
        joined = f"{group} {sentence}" if group else sentence
        continues = found == "none" or found == stance or _CONTINUATION.match(sentence)
        if group and stance != "none" and continues and len(joined.split()) <= MAX_WORDS:
            group = joined
            continue
        if group:
            yield group, stance, part_kind
        group, stance = sentence, found
    if group:
        yield group, stance, part_kind


def _stance(sentence: str, part_kind: PartKind) -> Stance:
    """What a sentence does: the field's word counts for more than the sentence's own."""
    own = stance_of(sentence)
    match part_kind:
        case "summary":
            return "none"
        case "praise":
            return "praise"
        case "criticism":
            return "request" if own == "request" and "?" in sentence else "criticism"
        case "request":
            return "request"
        case "minor":
            return "request" if own != "praise" else own
        case "limits":
            return own if own != "praise" else "none"
    return own


def _point(text: str, stance: Stance, part_kind: PartKind, position: int) -> ReviewPoint | None:
    label, rest = own_title(text)
    text = _shortened(rest if label else text)
    if stance == "none" or len(text.split()) < MIN_WORDS:
        return None
    text = text[0].upper() + text[1:]
    subject = subject_of(text)
    title = _title(label) or title_of(subject, stance)
    return ReviewPoint(subject, stance, part_kind, title, text, position)


def _title(label: str) -> str:
    """A reviewer's own label as a title; empty when the output grammar could not hold it."""
    title = re.sub(r"[<>*_`#]+", "", label).strip(" .,;:-–()[]")
    plain = title.casefold()
    return "" if len(title) < 4 or plain.startswith("no related term") else title


def _shortened(text: str) -> str:
    """Whole sentences of the text up to MAX_WORDS; the first one is cut if it alone is longer."""
    kept = ""
    for start, end in sentences(text):
        longer = f"{kept} {text[start:end]}".strip()
        if kept and len(longer.split()) > MAX_WORDS:
            break
        kept = longer
    words = kept.split()
    if len(words) <= MAX_WORDS:
        return kept
    head = " ".join(words[:MAX_WORDS])
    cut = max(head.rfind(mark) for mark in (", ", "; ", ": ", " - ", " ("))
    return head[:cut] if cut > len(head) // 2 else head


def _clean(text: str) -> str:
    """One line that is safe in a prompt and in the output grammar."""
    line = " ".join(neutralise(normalise(text)[0])[0].split())
    line = _LEADING.sub("", line)
    return line.replace("**", "").replace("`", "").strip()
