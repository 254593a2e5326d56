"""Rules that exclude reviews and papers from training.

Every rule has a name and is counted; nothing is deleted. A rule excludes a whole review or paper,
or spans of a review's text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from db.corpus import CorpusPaper, HumanReview, NewFlag
from models.text.gate import GateConfig, wrong_language
from trainer.data.paper_versions import UNKNOWN
from trainer.data.rebuttals import late_additions

#: A text with fewer words says nothing about its paper.
MIN_WORDS = 25
#: Words below which "I will post the review later" is all that a review says.
PROMISE_WORDS = 60
#: Share of characters that indicate a broken encoding; intact texts have none.
MAX_MOJIBAKE_SHARE = 0.005

_WORD = re.compile(r"\w+")
_PROMISE = re.compile(
    r"(?:will|shall|to)\s+(?:post|submit|upload|add|complete|provide|write)\b.{0,40}\breview"
    r"|(?:full|detailed|complete)\s+review\s+(?:to follow|later|tomorrow|soon|will)"
    r"|placeholder|review\s+(?:is\s+)?(?:coming|forthcoming)|putting the score",
    re.IGNORECASE,
)
#: UTF-8 read as Latin-1, the replacement character, an apostrophe that became something else.
_MOJIBAKE = re.compile("[\ufffd\x80-\x9f]|Ã[\x80-\xbf©¨¼¶¤±]|â€.|Â[\xa0-\xbf]|\\w[*?]\\w")

#: Rules by the note's kind: these are no reviews of the submission.
_NOT_REVIEWS = {
    "author_reply": "written by the authors",
    "public_comment": "a comment, not a review",
    "decision": "a decision",
    "meta_review": "a meta review or decision",
}

#: All rules, in the order of the table, and what each keeps out.
RULES: Mapping[str, str] = {
    "author_reply": "review",
    "public_comment": "review",
    "decision": "review",
    "meta_review": "review",
    "empty_review": "review",
    "promised_review": "review",
    "duplicate_review": "review",
    "mangled_characters": "review",
    "wrong_language": "review",
    "late_paragraph": "stretch",
    "short_paper": "paper",
    "long_paper": "paper",
    "few_reviews": "paper",
    "unknown_version": "nothing",
}


@dataclass(frozen=True)
class Thresholds:
    """Adjustable thresholds. Percentiles are of the papers' lengths in characters."""

    min_reviews: int = 2
    short_percentile: float = 1.0
    long_percentile: float = 99.0


@dataclass(frozen=True)
class RuleMatch:
    """The result of a rule for one review."""

    rule: str
    reason: str
    excludes: bool = True
    spans: tuple[tuple[int, int], ...] = ()


def find_flags(
    papers: Sequence[CorpusPaper],
    reviews: Mapping[int, Sequence[HumanReview]],
    thresholds: Thresholds,
) -> list[NewFlag]:
    """All flags of the rules for these papers and their reviews."""
    flags: list[NewFlag] = []
    seen: set[str] = set()
    for paper in papers:
        usable = 0
        for review in reviews.get(paper.id, ()):
            findings = list(_review_findings(review, seen))
            usable += not any(finding.excludes for finding in findings)
            flags += [_flag(paper.id, review.id, finding) for finding in findings]
        flags += [_flag(paper.id, None, f) for f in _paper_findings(paper, usable, thresholds)]
    return flags + list(_lengths(papers, thresholds))


def kept_text(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """A review's text without the excluded spans."""
    kept, end = [], 0
    for start, stop in sorted(spans):
        kept.append(text[end:start])
        end = max(end, stop)
    return "".join([*kept, text[end:]]).strip()


def _flag(paper_id: int, review_id: int | None, finding: RuleMatch) -> NewFlag:
    return NewFlag(
        paper_id, review_id, finding.rule, finding.excludes, finding.reason, finding.spans
    )


def _review_findings(review: HumanReview, seen: set[str]) -> Iterator[RuleMatch]:
    kind = str(review.fields.get("kind", "review"))
    if kind in _NOT_REVIEWS:
        yield RuleMatch(kind, _NOT_REVIEWS[kind])
        return
    late = late_additions(review.text)
    if late:
        yield RuleMatch(
            "late_paragraph",
            f"{len(late)} stretches written after the first version",
            excludes=False,
            spans=late,
        )
    text = kept_text(review.text, late)
    for rule, reason in _text_rules(text, seen):
        yield RuleMatch(rule, reason)


def _text_rules(text: str, seen: set[str]) -> Iterator[tuple[str, str]]:
    words = _WORD.findall(text.casefold())
    if len(words) < MIN_WORDS:
        yield "empty_review", f"{len(words)} words"
    if len(words) < PROMISE_WORDS and (found := _PROMISE.search(text)):
        yield "promised_review", found[0]
    digest = hashlib.sha256(" ".join(words).encode()).hexdigest()
    if words and digest in seen:
        yield "duplicate_review", "the same words as an earlier review"
    seen.add(digest)
    n_mangled = len(_MOJIBAKE.findall(text))
    if n_mangled > max(2, MAX_MOJIBAKE_SHARE * len(text)):
        yield "mangled_characters", f"{n_mangled} places"
    if problem := wrong_language(text, GateConfig()):
        yield "wrong_language", problem


def _paper_findings(paper: CorpusPaper, usable: int, limits: Thresholds) -> Iterator[RuleMatch]:
    if usable < limits.min_reviews:
        yield RuleMatch("few_reviews", f"{usable} reviews can be used")
    if paper.version_choice is None or paper.version_choice.startswith(UNKNOWN):
        yield RuleMatch("unknown_version", paper.version_choice or "not recorded", excludes=False)


def _lengths(papers: Sequence[CorpusPaper], limits: Thresholds) -> Iterator[NewFlag]:
    lengths = sorted(paper.n_chars for paper in papers)
    if not lengths:
        return
    rules: list[tuple[str, Callable[[int], bool]]] = [
        ("short_paper", _below(percentile(lengths, limits.short_percentile))),
        ("long_paper", _above(percentile(lengths, limits.long_percentile))),
    ]
    for paper in papers:
        for rule, outside in rules:
            if outside(paper.n_chars):
                yield NewFlag(paper.id, None, rule, True, f"{paper.n_chars} characters")


def _below(limit: int) -> Callable[[int], bool]:
    return lambda value: value < limit


def _above(limit: int) -> Callable[[int], bool]:
    return lambda value: value > limit


def percentile(ordered: Sequence[int], percent: float) -> int:
    """The nearest-rank percentile of values in ascending order."""
    rank = round(percent / 100 * (len(ordered) - 1))
    return ordered[min(max(rank, 0), len(ordered) - 1)]


def percentiles(ordered: Sequence[int], percents: Mapping[str, float]) -> dict[str, int]:
    """Percentiles of values in ascending order by name; 0 where there are no values."""
    return {name: percentile(ordered, each) if ordered else 0 for name, each in percents.items()}
