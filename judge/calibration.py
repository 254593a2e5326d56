"""Which suppression makes a reviewer leave aspects empty as often as people do.

For each setting: how often each aspect is empty, how often the last three are empty together, item
counts, and F1 against the reference with every setting's review of a paper cut to the shortest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from sqlalchemy import func, select

from db.comparisons import Side, candidates, in_lists
from db.points import StoredPoint, read_points
from db.reviewers import ReviewerVersion
from db.schema import ItemRow, ReviewRow
from db.session import Database
from errors import UserError
from judge.comparing import ParsedPoints, extract_points
from judge.matchers import Matcher
from judge.matching import PointPair, count, restrict
from judge.overlap import f1
from judge.point_extraction import PARSED, equal_cut
from models.text.aspects import AspectSet
from models.text.generation import Suppression
from models.text.reviewer import ReviewerConfig

Mode = Literal["logit", "probability"]

#: Coefficients that are tried when none are named; 1 is off.
COEFFICIENTS = (1.0, 0.95, 0.8, 0.5)
#: The aspects that come out empty together (mission.md, known problem 2).
_LAST = 3


@dataclass(frozen=True)
class SuppressionSetting:
    """A suppression to try, and the reviewer that writes with it."""

    mode: Mode
    coefficient: float
    config: ReviewerConfig

    @property
    def label(self) -> str:
        """For tables."""
        return "off" if self.coefficient == 1 else f"{self.mode} {self.coefficient:g}"


@dataclass(frozen=True)
class FillStatistics:
    """How full reviews are: shares of reviews by aspect, items a review."""

    label: str
    n_reviews: int
    empty: Mapping[str, float]
    last_three_empty: float
    mean_items: float
    variance_items: float


@dataclass(frozen=True)
class SettingResult:
    """A setting's shape, its distance from the reference's, and its F1 at equal item counts.

    `distance` is the mean over aspects of the absolute difference of empty rates.
    """

    setting: SuppressionSetting
    shape: FillStatistics
    distance: float
    f1: float


@dataclass(frozen=True)
class Calibration:
    """All settings on the same papers; `best` has the smallest distance."""

    reference: FillStatistics
    tried: tuple[SettingResult, ...]
    n_papers: int

    @property
    def best(self) -> SettingResult:
        """The closest setting; of equals the one with the higher F1."""
        return min(self.tried, key=lambda each: (each.distance, -each.f1))


def settings_of(
    config: ReviewerConfig, modes: Sequence[Mode], coefficients: Sequence[float]
) -> list[SuppressionSetting]:
    """The settings to try, each as a reviewer called NAME~MODE-C; off is the same in each mode."""
    found: dict[tuple[Mode, float], SuppressionSetting] = {}
    for mode in modes:
        for value in coefficients:
            key: tuple[Mode, float] = ("logit", 1.0) if value == 1 else (mode, value)
            name = f"{config.name}~{'off' if value == 1 else f'{mode}-{value:g}'}"
            suppression = Suppression(mode=key[0], coefficient=value)
            found[key] = SuppressionSetting(
                *key, replace(config, name=name, suppression=suppression)
            )
    return list(found.values())


def calibrate(
    database: Database,
    tried: Sequence[tuple[SuppressionSetting, ReviewerVersion]],
    reference: ReviewerVersion,
    matcher: Matcher,
    only: frozenset[str] | None,
) -> Calibration:
    """Compare the settings on the papers that all of them and the reference have reviewed.

    Raises UserError when there is none, or when the reference has no aspects.
    """
    reviews, held, hashes = _shared_reviews(
        database, [version for _, version in tried], reference, only
    )
    aspects = tried[0][0].config.aspect_set
    human = read_fill_statistics(database, reference.name, sorted(held.values()), aspects)
    if human.mean_items == 0:
        raise UserError(
            f"The reviews of {reference.name} are not divided into aspects: calibrate against "
            "merged reviews."
        )
    scores = _scores(database, list(reviews.values()), held, hashes, matcher)
    found = []
    for place, (setting, version) in enumerate(tried):
        shape = read_fill_statistics(
            database, setting.label, sorted(reviews[version.id].values()), aspects
        )
        found.append(SettingResult(setting, shape, _distance(shape, human), scores[place]))
    return Calibration(human, tuple(found), len(held))


def _shared_reviews(
    database: Database,
    versions: Sequence[ReviewerVersion],
    reference: ReviewerVersion,
    only: frozenset[str] | None,
) -> tuple[dict[int, dict[int, int]], dict[int, int], dict[int, str]]:
    """({version: {paper: review}}, {paper: reference review}, {paper: SHA-256}) on the papers
    that all have."""
    by_version: dict[int, dict[int, int]] = {}
    hashes: dict[int, str] = {}
    of_reference: dict[int, int] = {}
    for version in versions:
        found = candidates(database, Side(version), Side(version), reference, only)
        by_version[version.id] = {paper.paper_id: paper.a_review for paper in found}
        of_reference |= {paper.paper_id: paper.reference_reviews[0] for paper in found}
        hashes |= {paper.paper_id: paper.sha256 for paper in found}
    shared = set.intersection(*(set(reviews) for reviews in by_version.values()))
    if not shared:
        raise UserError(f"No paper has been reviewed by {reference.name} and under every setting.")
    kept = {
        v: {p: r for p, r in reviews.items() if p in shared} for v, reviews in by_version.items()
    }
    return kept, {paper: of_reference[paper] for paper in shared}, hashes


def read_fill_statistics(
    database: Database, label: str, review_ids: Sequence[int], aspects: AspectSet
) -> FillStatistics:
    """How full these reviews are under the aspects; an aspect without an item is empty."""
    counts = _item_counts(database, review_ids)
    # (reviews, aspects)
    table = np.array([[counts.get((r, key), 0) for key in aspects.keys] for r in review_ids])
    empty = table == 0
    totals = table.sum(axis=1)
    return FillStatistics(
        label=label,
        n_reviews=len(review_ids),
        empty=dict(zip(aspects.keys, map(float, empty.mean(axis=0)), strict=True)),
        last_three_empty=float(empty[:, -_LAST:].all(axis=1).mean()),
        mean_items=float(totals.mean()),
        variance_items=float(totals.var()),
    )


def _item_counts(database: Database, review_ids: Sequence[int]) -> dict[tuple[int, str], int]:
    found: dict[tuple[int, str], int] = {}
    with database.read() as on:
        for some in in_lists(review_ids):
            query = (
                select(ItemRow.review_id, ItemRow.aspect, func.count().label("n"))
                .join(ReviewRow, ReviewRow.id == ItemRow.review_id)
                .where(ReviewRow.id.in_(some))
                .group_by(ItemRow.review_id, ItemRow.aspect)
            )
            found |= {(row.review_id, row.aspect): row.n for row in on.execute(query)}
    return found


def _distance(shape: FillStatistics, human: FillStatistics) -> float:
    return float(np.mean([abs(shape.empty[key] - human.empty[key]) for key in human.empty]))


def _scores(
    database: Database,
    by_setting: Sequence[Mapping[int, int]],
    of_reference: Mapping[int, int],
    hashes: Mapping[int, str],
    matcher: Matcher,
) -> list[float]:
    """Mean F1 of each setting, all reviews of a paper cut to the same number of items."""
    ids = [*of_reference.values(), *(r for reviews in by_setting for r in reviews.values())]
    extract_points(database, ParsedPoints(), ids)
    points = read_points(database, PARSED, ids)
    matcher.prepare([point.text for some in points.values() for point in some])
    scores: list[list[float]] = [[] for _ in by_setting]
    for paper, reference_review in of_reference.items():
        reference = points.get(reference_review, ())
        written = [points.get(reviews[paper], ()) for reviews in by_setting]
        n = min(map(len, written))
        for place, generated in enumerate(written):
            kept = equal_cut(generated, n, hashes[paper])
            scores[place].append(_f1(matcher, reference, kept))
    return [float(np.mean(values)) for values in scores]


def _f1(
    matcher: Matcher, reference: Sequence[StoredPoint], generated: Sequence[StoredPoint]
) -> float:
    if not reference or not generated:
        return 0.0
    pairs: list[PointPair] = matcher.pairs([p.text for p in reference], [p.text for p in generated])
    matches = restrict(pairs, range(len(generated)), assign=matcher.assign)
    return f1(count(matches, len(reference), len(generated)))
