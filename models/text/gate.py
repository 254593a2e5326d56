"""The quality gate: named checks of one answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from models.text.aspects import AspectSet
from models.text.generation import Finish
from models.text.review import GateCheck, GateResult, Review

#: All checks, in the order in which they are made.
CHECKS = ("headings", "not_all_empty", "loop", "echo", "refusal", "length", "language")

#: Checks that are made only for reviewers which name them as fatal.
ON_DEMAND = ("complete", "grounded")

#: Words of a run that is counted for the loop check: longer than stock phrases of reviews.
_LOOP_WORDS = 8
#: Letters and words below which nothing is said about the language: too few to count.
_LANGUAGE_LETTERS = 40
_LANGUAGE_WORDS = 20
#: The commonest words of English prose and of reviews.
_COMMON_WORDS = (
    "the of and a to in is that it for on as with are this be by not or an which from have has but "
    "can more their its was were also they would should could may does do how what these we i "
    "some than there such other only between about when if no paper authors"
)
_COMMON = frozenset(_COMMON_WORDS.split())
#: Share of an item's longer words that the source must hold, for the check `grounded`.
MIN_GROUNDED = 0.4
#: Letters of a word that are compared, so that "compare" and "comparison" are one, and those up to
#: which a word says too little to count.
_STEM, _SHORT = 6, 3
_WORD = re.compile(r"\w+")
#: A refusal opens a line; in the middle of one it is a quotation, for papers are about such models.
_REFUSAL = re.compile(
    r"^\W*(?:(?:i'?m|i am) sorry\b.{0,40}?|sorry\b.{0,20}?|unfortunately\W+|apologies\b.{0,20}?)?"
    r"(?:as an? (?:ai|artificial intelligence|large|language)\b.{0,20}\bmodel\b"
    r"|i(?:'m| am) (?:unable|not able) to (?:provide|review|access|fulfil|assist|help|comply)"
    r"|i (?:cannot|can'?t|can not) (?:fulfil|assist|help with|comply|complete this|complete the|"
    r"access the|access this|review this|review the|provide (?:a|an|any|the) (?:\w+ )?review))",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class GateConfig:
    """Which checks reject a review (the others are only recorded), and their thresholds.

    A short review is not wrong, so `length` is recorded unless a reviewer says otherwise.
    """

    fatal: tuple[str, ...] = ("headings", "not_all_empty", "loop", "echo", "refusal", "language")
    #: Words: a longer verbatim copy of paper or prompt is an echo; quotations are shorter.
    echo_words: int = 40
    #: Times that one run of eight words, or one item, must occur to be a loop.
    loop_repeats: int = 4
    #: Words of all items together; the recipe's reviews have several hundred.
    min_words: int = 60
    #: Share of the letters that are ASCII; formulas and names need some room.
    min_ascii_letters: float = 0.8
    #: Share of the words that are among the commonest English ones; prose has 0.3 to 0.5.
    min_common_words: float = 0.12


def check(
    review: Review,
    *,
    aspects: AspectSet,
    raw: str,
    system: str,
    paper_text: str,
    finish: Finish,
    n_output_tokens: int,
    config: GateConfig,
) -> GateResult:
    """Make all checks of one answer; `raw` is what `review` was parsed from.

    A check's detail is empty or says in a few words what was found.
    """
    said = " ".join(f"{item.title} {item.text}" for item in review.items)
    n_words = len(_WORD.findall(said))
    stopped = ", stopped at the token limit" if finish == "length" else ""
    missing = [a.heading for a in aspects.aspects if a.key in review.missing_aspects]
    found = {
        "headings": "missing: " + "; ".join(missing) if missing else "",
        "not_all_empty": "" if review.items else "no aspect has an item",
        "loop": _loop(review, raw, config.loop_repeats),
        "echo": _echo(raw, f"{system}\n{paper_text}", config.echo_words),
        "refusal": _refusal(review),
        "language": wrong_language(said, config),
    }
    checks = {
        name: GateCheck(name, not text, name in config.fatal, text) for name, text in found.items()
    }
    checks["length"] = GateCheck(
        "length",
        n_words >= config.min_words,
        "length" in config.fatal,
        f"{n_words} words, {n_output_tokens} tokens{stopped}",
    )
    wanted = [name for name in ON_DEMAND if name in config.fatal]
    for name in wanted:
        text = _cut_off(finish) if name == "complete" else _ungrounded(review, paper_text)
        checks[name] = GateCheck(name, not text, True, text)
    return GateResult(tuple(checks[name] for name in (*CHECKS, *wanted)))


def _cut_off(finish: Finish) -> str:
    return "" if finish == "stop" else f"the answer did not end by itself ({finish})"


def _ungrounded(review: Review, source: str) -> str:
    """The first item of which too many words stand nowhere in what the model read."""
    known = {word[:_STEM] for word in _words(source)}
    for item in review.items:
        words = [w[:_STEM] for w in _words(item.text) if w not in _COMMON and len(w) > _SHORT]
        n_known = sum(word in known for word in words)
        if n_known < MIN_GROUNDED * len(words):
            return f"{n_known} of {len(words)} words come from the source: {_short(item.text)}"
    return ""


def _loop(review: Review, raw: str, n_repeats: int) -> str:
    runs = Counter(_runs(_words(raw), _LOOP_WORDS))
    items = Counter(tuple(_words(f"{item.title} {item.text}")) for item in review.items)
    for run, count in (*runs.most_common(1), *items.most_common(1)):
        if count >= n_repeats:
            return f"{count} times: {_short(' '.join(run))}"
    return ""


def _echo(raw: str, source: str, n_words: int) -> str:
    words, folded = _words(raw), source.casefold()
    if not _may_copy(words, folded, n_words):
        return ""
    known = f" {' '.join(_WORD.findall(folded))} "
    for run in map(" ".join, _runs(words, n_words)):
        if f" {run} " in known:
            return f"copied: {_short(run)}"
    return ""


def _may_copy(words: list[str], folded: str, n_words: int) -> bool:
    """Whether a run of `n_words` could be a copy; a quick test, since nearly always it is not.

    Wherever such a run starts, it covers a whole block of half its length.
    """
    size = max(1, n_words // 2)
    blocks = (words[start : start + size] for start in range(0, len(words) - size + 1, size))
    return any(_stands_in(folded, block) for block in blocks)


def _stands_in(folded: str, words: list[str]) -> bool:
    # Looked up one by one first: the longest is the least likely to be there.
    if not all(word in folded for word in sorted(words, key=len, reverse=True)):
        return False
    return re.search(r"\b" + r"\W+".join(words) + r"\b", folded) is not None


def _refusal(review: Review) -> str:
    lines = [review.unplaced, *(f"{item.title}\n{item.text}" for item in review.items)]
    found = _REFUSAL.search("\n".join(lines))
    return _short(found[0].strip()) if found else ""


def wrong_language(said: str, config: GateConfig) -> str:
    """What shows that a text is not English prose; empty when it is, or is too short to tell."""
    words = _words(said)
    n_letters = sum(map(str.isalpha, said))
    n_ascii = sum(map(str.isalpha, said.encode("ascii", "ignore").decode()))
    n_common = sum(word in _COMMON for word in words)
    if n_letters >= _LANGUAGE_LETTERS and n_ascii < config.min_ascii_letters * n_letters:
        return f"{n_ascii / n_letters:.0%} of the letters are ASCII"
    if len(words) >= _LANGUAGE_WORDS and n_common < config.min_common_words * len(words):
        return f"{n_common / len(words):.0%} of the words are common English ones"
    return ""


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _runs(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(length)), strict=False)


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
