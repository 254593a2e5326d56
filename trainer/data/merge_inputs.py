"""The input of a merger: a paper's usable reviews without the spans that cleaning excluded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from db import corpus
from db.corpus import CorpusPaper, HumanReview, NewFlag
from db.session import Database
from errors import UserError
from models.text.merging_prompt import HumanReviewText, merging_input
from papers.text_safety import neutralise, normalise
from trainer.data.cleaning_rules import kept_text
from trainer.data.source_records import PARTS

Span = tuple[int, int]


@dataclass(frozen=True)
class MergeInput:
    """The usable reviews of one paper, each as parts (`source_records.PARTS` -> text)."""

    paper: CorpusPaper
    reviews: tuple[Mapping[str, str], ...]

    @property
    def text(self) -> str:
        """The text for a prompt, sanitised."""
        texts = [HumanReviewText(tuple(parts.items())) for parts in self.reviews]
        return neutralise(normalise(merging_input(self.paper.title, texts))[0])[0]

    @property
    def sha256(self) -> str:
        """Hash of the text: a merger need not merge equal inputs twice."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def merge_inputs(database: Database, sources: Sequence[str] = ()) -> list[MergeInput]:
    """The inputs of all papers that pass cleaning and have a usable review.

    UserError when the corpus is empty or was not cleaned: uncleaned reviews refer to rebuttals.
    """
    papers = corpus.corpus_papers(database, sources)
    if not papers:
        raise UserError("There is no training data: run `referee data import` first.")
    flags = corpus.flags_of(database, [paper.id for paper in papers])
    if not flags:
        raise UserError("The reviews were not cleaned: run `referee data clean` first.")
    out = {flag.paper_id for flag in flags if flag.review_id is None and flag.excludes}
    reviews = corpus.human_reviews(database, [paper.id for paper in papers])
    of_review: dict[int, list[NewFlag]] = {}
    for flag in flags:
        if flag.review_id is not None:
            of_review.setdefault(flag.review_id, []).append(flag)
    inputs = (
        MergeInput(paper, tuple(_usable(reviews[paper.id], of_review)))
        for paper in papers
        if paper.id not in out
    )
    return [each for each in inputs if each.reviews]


def _usable(
    reviews: Sequence[HumanReview], flags: Mapping[int, Sequence[NewFlag]]
) -> Iterator[Mapping[str, str]]:
    for review in reviews:
        found = flags.get(review.id, ())
        if review.is_meta or any(flag.excludes for flag in found):
            continue
        parts = cut_parts(review, [span for flag in found for span in flag.spans])
        if parts:
            yield parts


def cut_parts(review: HumanReview, spans: Sequence[Span]) -> dict[str, str]:
    """A review's parts in the order of PARTS, without the spans [start, end) of its text."""
    stored = review.fields.get("parts") or {"review": review.text}
    kept = {}
    for name in PARTS:
        text = str(stored.get(name, ""))
        # The text contains each part verbatim.
        offset = max(0, review.text.find(text))
        inside = [
            (max(0, start - offset), min(len(text), end - offset))
            for start, end in spans
            if start < offset + len(text) and end > offset
        ]
        left = kept_text(text, inside)
        if left:
            kept[name] = left
    return kept
