"""Readers of published labels from JSON lines, plain or gzipped.

Each reader checks the keys that it needs and ignores others.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from errors import UserError
from judge.point_extraction import sentences

T = TypeVar("T")


@dataclass(frozen=True)
class Passage:
    """A review and its rebuttal (APE, Cheng et al. 2020); equal keys are the same issue."""

    paper: str
    review: Mapping[str, str]
    reply: Mapping[str, str]


@dataclass(frozen=True)
class ShippedReview:
    """Metrics published by MARG's authors for one reference review."""

    recall: float
    precision: float
    pseudo_jaccard: float


@dataclass(frozen=True)
class Alignment:
    """MARG's result of one system on one paper, for one group of its comments.

    `pairs` has (reference comment, generated comment) by text, because the published ids do not
    index the lists.
    """

    paper: str
    system: str
    group: str
    references: tuple[tuple[str, ...], ...]
    generated: tuple[str, ...]
    pairs: frozenset[tuple[str, str]]
    shipped: tuple[ShippedReview, ...]


@dataclass(frozen=True)
class RatedReview:
    """A human review whose quality people rated from 0 to 100 (RottenReviews)."""

    paper: str
    title: str
    abstract: str
    text: str
    quality: float


@dataclass(frozen=True)
class ReviewedPaper:
    """A paper's human reviews, each as its points."""

    paper: str
    reviews: tuple[tuple[str, ...], ...]


def read_reviewed(path: Path, splits: Collection[str]) -> list[ReviewedPaper]:
    """Read the reviews of some splits' papers: `path` is a splits.json beside reviews.jsonl[.gz].

    Meta reviews and reviews without a point are left out.
    """
    wanted = _papers_of(path, splits)
    found: dict[str, list[tuple[str, ...]]] = {}
    packed = path.with_name("reviews.jsonl.gz")
    file = packed if packed.exists() else path.with_name("reviews.jsonl")
    for line in _lines(file, ("paper_id", "comments")):
        points = tuple(sentences(str(line["comments"])))
        if points and line["paper_id"] in wanted and not line.get("is_meta"):
            found.setdefault(str(line["paper_id"]), []).append(points)
    return [ReviewedPaper(paper, tuple(reviews)) for paper, reviews in found.items()]


def _papers_of(path: Path, splits: Collection[str]) -> set[str]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {str(paper) for split in splits for paper in document[split]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        names = ", ".join(splits)
        raise UserError(f"{path} does not list the papers of the splits {names}.") from error


def read_passages(path: Path) -> list[Passage]:
    """Read APE's review-rebuttal passages."""
    return [
        Passage(str(line["submission_id"]), dict(line["review_args"]), dict(line["reply_args"]))
        for line in _lines(path, ("submission_id", "review_args", "reply_args"))
    ]


def read_alignments(path: Path) -> list[Alignment]:
    """Read MARG's comments, alignments and metrics."""
    needed = ("doc_id", "setting", "reference_comments", "generated_comments", "alignments")
    return [
        _alignment(line, group)
        for line in _lines(path, (*needed, "metrics_for_reviews"))
        for group in line["alignments"]
    ]


def read_rated(path: Path) -> list[RatedReview]:
    """Read the reviews of RottenReviews that people rated."""
    return [
        RatedReview(
            *(str(line["paper_id"]), str(line.get("title") or ""), str(line.get("abstract") or "")),
            *(str(line["review_text"]), float(line["Human_Overall_Quality"])),
        )
        for line in _lines(path, ("paper_id", "review_text", "Human_Overall_Quality"))
        if line["Human_Overall_Quality"] is not None
    ]


def _alignment(line: Mapping[str, Any], group: str) -> Alignment:
    return Alignment(
        paper=str(line["doc_id"]),
        system=str(line["setting"]),
        group=group,
        references=tuple(map(tuple, line["reference_comments"])),
        generated=tuple(line["generated_comments"][group]),
        pairs=frozenset(
            (pair["reference_comment"], pair["predicted_comment"])
            for pair in line["alignments"][group]
        ),
        shipped=tuple(
            ShippedReview(each["recall"], each["precision"], each["pseudo_jaccard"])
            for each in line["metrics_for_reviews"][group]
        ),
    )


def _lines(path: Path, needed: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a file. Raises UserError for a malformed file."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as stream:
            for number, text in enumerate(stream, 1):
                if not text.strip():
                    continue
                line = json.loads(text)
                if not isinstance(line, dict) or not set(needed) <= line.keys():
                    missing = ", ".join(needed)
                    raise UserError(f"{path}, line {number}: expected an object with {missing}.")
                yield line
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number}: not JSON ({error.msg}).") from error
