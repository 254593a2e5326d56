"""Calibration of suppression: the setting under which aspects are empty as often as people's.

For each setting: how often each aspect is empty, how often the last three are empty together, item
counts, and F1 against the reference with every setting's review of a paper cut to the shortest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from db import reviewers
from db.comparisons import Side, candidates
from db.points import StoredPoint, read_points
from db.reviewers import ReviewerVersion
from db.reviews import item_counts
from db.session import Database
from dispatch import roster
from dispatch.progress import Steps
from errors import UserError
from judge.comparing import PaperSelection, extract_points
from judge.matchers import EmbeddingMatcher, Matcher
from judge.matching import count, restrict
from judge.missing_reviews import ensure_reviews
from judge.overlap import f1
from judge.point_extraction import PARSED, ParsedPoints, equal_cut
from judge.selecting import papers_reviewed_by, version_named
from models.text.aspects import AspectSet
from models.text.generation import Suppression
from models.text.reviewer import ReviewerConfig
from settings import Settings

Mode = Literal["logit", "probability"]

#: Modes and coefficients that are tried by default; a coefficient of 1 turns suppression off.
MODES: tuple[Mode, ...] = ("logit", "probability")
COEFFICIENTS = (1.0, 0.95, 0.8, 0.5)
#: The last aspects: when the one on rejection is empty, those after it tend to be empty as well.
_LAST = 3


@dataclass(frozen=True)
class CalibrationRequest:
    """The reviewer to calibrate, the reference, the settings to try and the papers.

    With `imported` no review is generated: those of the settings have been imported.
    """

    reviewer: str
    reference: str
    modes: Sequence[Mode] = MODES
    coefficients: Sequence[float] = COEFFICIENTS
    selection: PaperSelection = field(default_factory=PaperSelection)
    max_papers: int | None = None
    imported: bool = False


@dataclass(frozen=True)
class SuppressionSetting:
    """A suppression to try, and the configuration of the reviewer that uses it."""

    mode: Mode
    coefficient: float
    config: ReviewerConfig

    @property
    def label(self) -> str:
        """The setting's name in tables."""
        return "off" if self.coefficient == 1 else f"{self.mode} {self.coefficient:g}"


@dataclass(frozen=True)
class FillStatistics:
    """How full reviews are: the share of empty reviews by aspect, and items per review."""

    label: str
    n_reviews: int
    empty: Mapping[str, float]
    last_three_empty: float
    mean_items: float
    variance_items: float


@dataclass(frozen=True)
class SettingResult:
    """A setting's statistics, their distance from the reference's, and F1 at equal item counts.

    `distance` is the mean over aspects of the absolute difference of empty rates.
    """

    setting: SuppressionSetting
    shape: FillStatistics
    distance: float
    f1: float


@dataclass(frozen=True)
class Calibration:
    """The results of all settings on the same papers."""

    reference: FillStatistics
    tried: tuple[SettingResult, ...]
    n_papers: int

    @property
    def best(self) -> SettingResult:
        """The setting with the smallest distance, and the highest F1 among equals."""
        return min(self.tried, key=lambda each: (each.distance, -each.f1))


def read_coefficients(text: str) -> list[float]:
    """Parse coefficients such as "1,0.95". Raises UserError unless each is in (0, 1]."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < value <= 1 for value in found):
        raise UserError(f"--coefficients {text!r}: write numbers above 0 and up to 1, as 1,0.95.")
    return found


def calibrate(
    database: Database, settings: Settings, request: CalibrationRequest, steps: Steps
) -> Calibration:
    """Generate the missing reviews and compare the settings.

    Raises UserError for a reviewer that is not local, and when no paper has all reviews.
    """
    _, config = roster.resolve(database, request.reviewer)
    if config.kind != "local":
        raise UserError(f"Reviewer {config.name} is {config.kind}: only local ones are suppressed.")
    reference = version_named(database, request.reference)
    papers = papers_reviewed_by(database, reference, request.selection)[: request.max_papers]
    tried: list[tuple[SuppressionSetting, ReviewerVersion]] = []
    for setting in settings_of(config, request.modes, request.coefficients):
        if request.imported:
            tried.append((setting, _imported_version(database, setting)))
            continue
        version = roster.register_version(database, setting.config)
        with steps(f"reviewing with {setting.label}") as advance:
            ensure_reviews(
                database,
                settings,
                version,
                [paper_id for paper_id, _ in papers],
                batch_name=f"calibrate-{version.name}-v{version.version}",
                progress=advance,
            )
        tried.append((setting, version))
    only = frozenset(sha256 for _, sha256 in papers)
    return compare_settings(database, tried, reference, EmbeddingMatcher(settings.home), only)


def _imported_version(database: Database, setting: SuppressionSetting) -> ReviewerVersion:
    version = reviewers.newest(database, setting.config.name)
    if version is None:
        raise UserError(
            f"There are no reviews by {setting.config.name}: import them under that name, or leave "
            "out --imported."
        )
    return version


def settings_of(
    config: ReviewerConfig, modes: Sequence[Mode], coefficients: Sequence[float]
) -> list[SuppressionSetting]:
    """The settings to try, each with a reviewer named NAME~MODE-C; "off" is tried once."""
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


def compare_settings(
    database: Database,
    tried: Sequence[tuple[SuppressionSetting, ReviewerVersion]],
    reference: ReviewerVersion,
    matcher: Matcher,
    only: frozenset[str] | None,
) -> Calibration:
    """Compare the settings on the papers that all of them and the reference have reviewed.

    Raises UserError when there is none, or when the reference has no aspects.
    """
    reviews, of_reference, hashes = _shared_reviews(
        database, [version for _, version in tried], reference, only
    )
    aspects = tried[0][0].config.aspect_set
    human = read_fill_statistics(database, reference.name, sorted(of_reference.values()), aspects)
    if human.mean_items == 0:
        raise UserError(
            f"The reviews of {reference.name} are not divided into aspects: calibrate against "
            "merged reviews."
        )
    scores = _scores(database, list(reviews.values()), of_reference, hashes, matcher)
    results = []
    for (setting, version), score in zip(tried, scores, strict=True):
        review_ids = sorted(reviews[version.id].values())
        shape = read_fill_statistics(database, setting.label, review_ids, aspects)
        distance = np.mean([abs(shape.empty[key] - human.empty[key]) for key in human.empty])
        results.append(SettingResult(setting, shape, float(distance), score))
    return Calibration(human, tuple(results), len(of_reference))


def _shared_reviews(
    database: Database,
    versions: Sequence[ReviewerVersion],
    reference: ReviewerVersion,
    only: frozenset[str] | None,
) -> tuple[dict[int, dict[int, int]], dict[int, int], dict[int, str]]:
    """({version: {paper: review}}, {paper: reference review}, {paper: SHA-256}) of the papers that
    all versions have reviewed."""
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
    counts = item_counts(database, review_ids)
    # (reviews, aspects)
    table = np.array([[counts.get(r, {}).get(key, 0) for key in aspects.keys] for r in review_ids])
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
        for index, generated in enumerate(written):
            kept = equal_cut(generated, n, hashes[paper])
            scores[index].append(_f1(matcher, reference, kept))
    return [float(np.mean(values)) for values in scores]


def _f1(
    matcher: Matcher, reference: Sequence[StoredPoint], generated: Sequence[StoredPoint]
) -> float:
    if not reference or not generated:
        return 0.0
    pairs = matcher.pairs([p.text for p in reference], [p.text for p in generated])
    matches = restrict(pairs, range(len(generated)), assign=matcher.assign)
    return f1(count(matches, len(reference), len(generated)))
