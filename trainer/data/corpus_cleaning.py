"""Apply the cleaning rules to the corpus and count the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from db import corpus
from db.corpus import CorpusPaper, HumanReview, NewFlag
from db.session import Database
from errors import UserError
from trainer.data.cleaning_rules import RULES, Thresholds, find_flags, percentiles
from trainer.data.text_table import Table

#: Percentiles of lengths in the report.
_PERCENTILES = {"p5": 5.0, "median": 50.0, "p95": 95.0, "max": 100.0}


@dataclass(frozen=True)
class SourceCount:
    """What a source contains, and how much of it is usable."""

    source: str
    licence: str
    papers: int
    papers_kept: int
    reviews: int
    reviews_kept: int


@dataclass(frozen=True)
class Statistics:
    """Counts of the corpus: all, kept, and excluded by each rule."""

    sources: tuple[SourceCount, ...]
    #: Rule -> papers or reviews that it flagged.
    rules: dict[str, int]
    versions: dict[str, int]
    decisions: dict[str, int]
    #: Ascending lengths in characters.
    paper_chars: tuple[int, ...] = field(repr=False, default=())
    review_chars: tuple[int, ...] = field(repr=False, default=())

    def to_json(self) -> dict[str, Any]:
        """For programs; lengths as percentiles."""
        return {
            "sources": [vars(source) for source in self.sources],
            "rules": self.rules,
            "versions": self.versions,
            "decisions": self.decisions,
            "chars": {name: percentiles(values, _PERCENTILES) for name, values in self._lengths()},
        }

    def tables(self) -> list[Table]:
        """For people."""
        lengths = [
            (name, *percentiles(values, _PERCENTILES).values()) for name, values in self._lengths()
        ]
        columns = ("source", "licence", "papers", "kept", "reviews", "kept")
        rules = [(rule, RULES.get(rule, ""), n) for rule, n in self.rules.items()]
        return [
            Table(columns, [tuple(vars(source).values()) for source in self.sources]),
            Table(("rule", "keeps out", "flagged"), rules),
            Table(("version of the paper", "papers"), list(self.versions.items())),
            Table(("decision", "papers"), list(self.decisions.items())),
            Table(("characters", "p5", "median", "p95", "max"), lengths),
        ]

    def _lengths(self) -> list[tuple[str, Sequence[int]]]:
        return [("paper", self.paper_chars), ("review", self.review_chars)]


def clean_corpus(database: Database, thresholds: Thresholds) -> Statistics:
    """Recompute the flags of the whole corpus. UserError if it is empty."""
    papers = corpus.corpus_papers(database)
    if not papers:
        raise UserError("There is no training data: run `referee data import` first.")
    ids = [paper.id for paper in papers]
    flags = find_flags(papers, corpus.human_reviews(database, ids), thresholds)
    corpus.replace_flags(database, ids, flags)
    return statistics(database)


def statistics(database: Database) -> Statistics:
    """Count the corpus. UserError if it is empty."""
    papers = corpus.corpus_papers(database)
    if not papers:
        raise UserError("There is no training data: run `referee data import` first.")
    ids = [paper.id for paper in papers]
    reviews = corpus.human_reviews(database, ids)
    flags = corpus.flags_of(database, ids)
    counted = Counter(flag.rule for flag in flags)
    plain = [review for each in reviews.values() for review in each if not review.is_meta]
    return Statistics(
        sources=_sources(papers, plain, flags),
        rules={rule: counted[rule] for rule in RULES},
        versions=_counted(paper.version_choice or "not recorded" for paper in papers),
        decisions=_counted(paper.decision or "not known" for paper in papers),
        paper_chars=tuple(sorted(paper.n_chars for paper in papers)),
        review_chars=tuple(sorted(len(review.text) for review in plain)),
    )


def _sources(
    papers: Sequence[CorpusPaper], reviews: Sequence[HumanReview], flags: Sequence[NewFlag]
) -> tuple[SourceCount, ...]:
    papers_out = {f.paper_id for f in flags if f.excludes and f.review_id is None}
    reviews_out = {f.review_id for f in flags if f.excludes and f.review_id is not None}
    found = []
    for source, licence in dict.fromkeys((paper.source, paper.licence) for paper in papers):
        ids = {p.id for p in papers if (p.source, p.licence) == (source, licence)}
        written = [review for review in reviews if review.paper_id in ids]
        kept = [r for r in written if r.id not in reviews_out and r.paper_id not in papers_out]
        found.append(
            SourceCount(source, licence, len(ids), len(ids - papers_out), len(written), len(kept))
        )
    return tuple(found)


def _counted(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())
