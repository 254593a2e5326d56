"""Place the fields of a review that its form does not name, so that none is lost.

A field with prose belongs to a part of the review, by its name; scores, choices, confirmations and
files are stored unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from trainer.data.json_lines import score_of, text_of

#: Part of a review -> regular expression on the names of fields that belong there, in this order.
_PARTS: Mapping[str, str] = {
    "mixed": r"(strength|pros|positive).*(weakness|cons\b|negative)",
    "strengths": r"strength|strong_point|reasons?_to_accept|\bpros\b|positive",
    "weaknesses": r"weakness|weak_point|reasons?_to_reject|\bcons\b|negative|drawback",
    "questions": r"question",
    "suggestions": r"suggestion|requested_change|improvement|typo|recommended_change",
    "limitations": r"limitation|societal|broader_impact",
    "summary": r"^(paper_|brief_|short_)*summary(?!_of_(the_|your_)*(review|recommendation))"
    r"|main_contribution|synopsis",
}
#: Overall scores, best known first; a field such as `justification_of_rating` is none.
_RATINGS = (
    r"(final_|overall_|review_|paper_)*rating(_score)?",
    r"(final_|overall_)*recommendation(_score)?",
    r"(final_|overall_)*(score|evaluation|assessment)",
    r"(preliminary_|initial_)(overall_)?(rating|recommendation|score)",
)
_CONFIDENCES = (r"(reviewer_?s?_|your_|review_)*(confidence|expertise)(_score|_level|_rating)?",)
#: Fields about the reviewer's own conduct and about permissions, whatever they say.
_FORMALITIES = re.compile(
    r"code_of_conduct|acknowledge?ment|confirmation|\bconfirm|certif|ethic\w*_(review|flag)"
    r"|flag_for|needs_ethic|licen[cs]e|first_time|identity|consent|llm_(use|usage|policy)"
    r"|pledge|policy|conflict_of_interest"
)
_FILE = re.compile(r"/(attachment|pdf|paperhash)\b\S*")
#: Words up to which a text that begins with a number is a choice, such as "3: good".
_CHOICE_WORDS = 12
_NUMBERED = re.compile(r"-?\d+(\.\d+)?\s*([:.,=()/–-]|\b)")


class PlacedFields(NamedTuple):
    """Fields by where they belong: `parts` of a review -> prose, `extra` as they are."""

    parts: dict[str, str]
    extra: dict[str, Any]
    rating: float | None
    confidence: float | None


def place_fields(fields: Mapping[str, Any]) -> PlacedFields:
    """Place fields that no form names. Prose of a general part is labelled with its field."""
    parts: dict[str, list[str]] = {}
    extra: dict[str, Any] = {}
    for name, value in fields.items():
        if _is_empty(value):
            continue
        text = text_of(value)
        if name == "title":
            # The heading of a review; reviews of other forms have none in their text.
            extra[name] = value
        elif _is_prose(name, value, text):
            part = _part_of(name)
            labelled = f"{_label(name)}: {text}" if part in ("review", "mixed") else text
            parts.setdefault(part, []).append(labelled)
        else:
            extra[name] = value
    return PlacedFields(
        {part: "\n\n".join(texts) for part, texts in parts.items()},
        extra,
        _score(extra, _RATINGS),
        _score(extra, _CONFIDENCES),
    )


def _part_of(name: str) -> str:
    plain = _plain(name)
    return next((part for part, names in _PARTS.items() if re.search(names, plain)), "review")


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | dict) and not value)


def _is_prose(name: str, value: Any, text: str) -> bool:
    if isinstance(value, list) and not all(isinstance(each, str) for each in value):
        return False
    if not text or _FILE.fullmatch(text) or _FORMALITIES.search(_plain(name)):
        return False
    words = len(text.split())
    if words == 1 or (isinstance(value, list) and words <= _CHOICE_WORDS):
        return False
    return words > _CHOICE_WORDS or _NUMBERED.match(text) is None


def _score(extra: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    for pattern in names:
        for name, value in extra.items():
            score = score_of(value) if re.fullmatch(pattern, _plain(name)) else None
            if score is not None:
                return score
    return None


def _plain(name: str) -> str:
    """A field's name in lower case with single underscores: venues write it as they like."""
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


def _label(name: str) -> str:
    return name.replace("_", " ").strip().capitalize()
