"""Overlap with the human reviews, and how full reviews are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from judge.bootstrap import bootstrap, mean
from judge.overlap import METRICS, Metric, over_reviewers, some_reviewer_rate
from judge.report.comparison_records import ComparisonRecord, CountRecord, PaperRecord
from judge.statistics import Estimate

#: Who is counted against what, in the order of the tables.
ROLES = ("a", "b", "null_a", "null_b", "ceiling")


@dataclass(frozen=True)
class OverlapFigures:
    """Set metrics of one role at one cut: mean over reviewers, then over papers.

    `union` holds the same against the reviewers' points taken together, `some_reviewer` the share
    of points that at least one reviewer makes.
    """

    role: str
    cut: str
    n_points: float
    metrics: Mapping[str, Estimate]
    union: Mapping[str, Estimate]
    some_reviewer: Estimate | None


@dataclass(frozen=True)
class SizeFigures:
    """Items of one side's reviews: mean and variance in all, mean and empty share by aspect."""

    side: str
    reviews: int
    mean: float
    variance: float
    aspects: Mapping[str, tuple[float, float]]


def overlaps(counts: Sequence[CountRecord]) -> Iterable[OverlapFigures]:
    """Every role at both cuts, where there are counts."""
    for cut in ("equal", "full"):
        for role in ROLES:
            chosen = [c for c in counts if c.role == role and c.cut == cut]
            if chosen:
                yield _overlap(role, cut, chosen)


def _overlap(role: str, cut: str, counts: Sequence[CountRecord]) -> OverlapFigures:
    singles, unions = (
        [c for c in counts if (c.reference_review_id is None) is of_union]
        for of_union in (False, True)
    )
    n_points = {(c.paper_id, c.generated_review_id): c.overlap.n_generated for c in counts}
    return OverlapFigures(
        role=role,
        cut=cut,
        n_points=sum(n_points.values()) / len(n_points),
        metrics={name: _over_papers(metric, singles or unions) for name, metric in METRICS.items()},
        union={name: _over_papers(metric, unions) for name, metric in METRICS.items()},
        some_reviewer=_over_papers(some_reviewer_rate, unions) if unions else None,
    )


def _over_papers(metric: Metric, counts: Sequence[CountRecord]) -> Estimate:
    by_paper: dict[int, list[CountRecord]] = {}
    for count in counts:
        by_paper.setdefault(count.paper_id, []).append(count)
    values = [over_reviewers(metric, [c.overlap for c in each]) for each in by_paper.values()]
    told = [value for value in values if not math.isnan(value)]
    return bootstrap(mean(told), len(told))


def sizes(record: ComparisonRecord, papers: Sequence[PaperRecord]) -> Iterable[SizeFigures]:
    """Each side whose reviews have items."""
    for side, ids in (
        (record.a.label, [paper.a_review_id for paper in papers]),
        (record.b.label, [paper.b_review_id for paper in papers]),
        (record.reference.label, [i for paper in papers for i in paper.reference_review_ids]),
    ):
        found = [record.sizes[i] for i in ids if i in record.sizes]
        # Free-text reviews have no items.
        if any(size.items for size in found):
            totals = [sum(size.items.values()) for size in found]
            average = sum(totals) / len(totals)
            aspects = dict.fromkeys(key for s in found for key in (*s.items, *s.empty))
            yield SizeFigures(
                *(side, len(found), average),
                variance=sum((total - average) ** 2 for total in totals) / len(totals),
                aspects={
                    key: (
                        sum(size.items.get(key, 0) for size in found) / len(found),
                        sum(not size.items.get(key) for size in found) / len(found),
                    )
                    for key in aspects
                },
            )
