"""The figures of a report, computed from a stored comparison."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from db.comparison_records import ComparisonRecord, CountRecord, PaperRecord, VerdictRecord
from db.schema_judging import HEADLINE, MATCH
from judge.agreement import cohen_kappa
from judge.bootstrap import bootstrap, mean
from judge.overlap import METRICS, Metric, Overlap, over_reviewers, some_reviewer_rate
from judge.statistics import Estimate, share
from judge.win_rates import (
    Ballot,
    Decision,
    PaperOutcome,
    PositionBias,
    WinRates,
    combine_orders,
    complete,
    count_wins,
    decide,
    position,
)
from models.text.aspects import find_aspect_set

#: Order of the methods in tables; those of language models come after these.
_METHODS = (HEADLINE, MATCH)
#: Roles of `MatchCount`, in the order of the tables.
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


@dataclass(frozen=True)
class MethodFigures:
    """Win rates by one method: `aspects` by key, `total` for whole reviews.

    `a_items` and `b_items` are the mean numbers of items judged; None where nothing is counted.
    `repeated` is the share of answers that were the same when the question was repeated.
    """

    method: str
    total: WinRates
    aspects: Mapping[str, WinRates]
    a_items: float | None
    b_items: float | None
    a_hits: float | None
    b_hits: float | None
    position: PositionBias | None
    repeated: Estimate | None


@dataclass(frozen=True)
class Agreement:
    """Cohen's kappa of two methods over the papers that are valid by both."""

    one: str
    other: str
    kappa: Estimate


@dataclass(frozen=True)
class ComparisonFigures:
    """All figures of a comparison. `outcomes` are {paper: {method: whole-review outcome}}."""

    record: ComparisonRecord
    n_papers: int
    n_unmatched: int
    #: Reason -> number of papers left out.
    excluded: Mapping[str, int]
    methods: tuple[MethodFigures, ...]
    overlaps: tuple[OverlapFigures, ...]
    sizes: tuple[SizeFigures, ...]
    agreements: tuple[Agreement, ...]
    outcomes: Mapping[int, Mapping[str, PaperOutcome]]

    @property
    def aspect_keys(self) -> tuple[str, ...]:
        """All aspects of any side's reviews, in the order of the aspect sets."""
        met = dict.fromkeys(key for size in self.sizes for key in size.aspects)
        known = list(self.aspect_labels)
        return tuple(sorted(met, key=lambda key: known.index(key) if key in known else len(known)))

    @cached_property
    def aspect_labels(self) -> Mapping[str, str]:
        """Short name by key of every aspect in the sets of a, b and the reference, in that order.

        Where two of them have the same key, the first one's name is used.
        """
        labels: dict[str, str] = {}
        for aspects in filter(None, map(find_aspect_set, self.record.aspect_sets)):
            for key, label in aspects.labels.items():
                labels.setdefault(key, label)
        return labels

    @property
    def headline(self) -> MethodFigures | None:
        """The method on which claims rest: hits at equal item counts, else the first method."""
        return next(iter(self.methods), None)

    @property
    def disagreements(self) -> tuple[str, ...]:
        """Methods whose whole-review score is on the other side of 0.5 than the headline's."""
        if self.headline is None:
            return ()
        side = self.headline.total.score.value - 0.5
        return tuple(
            other.method for other in self.methods[1:] if (other.total.score.value - 0.5) * side < 0
        )

    @property
    def bracketed(self) -> bool | None:
        """Whether each rival's recall is between the levels of chance and of people.

        None when one of these is missing.
        """
        found = {o.role: o.metrics["recall"].value for o in self.overlaps if o.cut == "full"}
        if not {"a", "b", "null_a", "null_b", "ceiling"} <= found.keys():
            return None
        return all(found[f"null_{x}"] < found[x] <= found["ceiling"] for x in ("a", "b"))


def figures(record: ComparisonRecord) -> ComparisonFigures:
    """Compute all figures of a comparison."""
    papers = [paper for paper in record.papers if paper.excluded is None and paper.matched]
    included = {paper.id: paper for paper in papers}
    verdicts = [v for v in record.verdicts if v.paper_id in included]
    counts = [c for c in record.counts if c.paper_id in included]
    methods = sorted({v.method for v in verdicts}, key=_method_order)
    outcomes = _outcomes(verdicts)
    return ComparisonFigures(
        record=record,
        n_papers=len(papers),
        n_unmatched=sum(not (paper.matched or paper.excluded) for paper in record.papers),
        excluded=_tally(paper.excluded for paper in record.papers if paper.excluded),
        methods=tuple(
            _method(method, [v for v in verdicts if v.method == method], included)
            for method in methods
        ),
        overlaps=tuple(_overlaps(counts)),
        sizes=tuple(_sizes(record, papers)),
        agreements=tuple(_agreements(outcomes, methods)),
        outcomes=outcomes,
    )


def decisions(comparisons: Sequence[ComparisonFigures]) -> dict[int, Decision]:
    """Decide the comparisons of one report by their headlines; skip those without one."""
    totals = {each.record.id: each.headline.total for each in comparisons if each.headline}
    return dict(zip(totals, decide(list(totals.values())), strict=True))


def _method_order(method: str) -> tuple[int, str]:
    return (_METHODS.index(method) if method in _METHODS else len(_METHODS), method)


def _method(
    method: str, verdicts: Sequence[VerdictRecord], papers: Mapping[int, PaperRecord]
) -> MethodFigures:
    first = [v for v in verdicts if v.repetition == 0]
    whole = [v for v in first if v.aspect is None]
    # Where neither rival has an item, all papers are meaningless ties.
    said = [v for v in first if (v.a_items, v.b_items) != (0, 0)]
    aspects = dict.fromkeys(v.aspect for v in said if v.aspect is not None)
    return MethodFigures(
        method=method,
        total=_win_rates(whole, papers),
        aspects={key: _win_rates([v for v in first if v.aspect == key], papers) for key in aspects},
        a_items=_average(v.a_items for v in whole),
        b_items=_average(v.b_items for v in whole),
        a_hits=_average(v.a_score for v in whole),
        b_hits=_average(v.b_score for v in whole),
        position=position(list(_ballots(whole).values())),
        repeated=_repeated(verdicts),
    )


def _win_rates(verdicts: Sequence[VerdictRecord], papers: Mapping[int, PaperRecord]) -> WinRates:
    ballots = _ballots(verdicts)
    strata = [(papers[paper_id].venue, papers[paper_id].decision) for paper_id in ballots]
    return count_wins([combine_orders(each) for each in ballots.values()], strata)


def _ballots(verdicts: Iterable[VerdictRecord]) -> dict[int, list[Ballot]]:
    """Ballots by paper, without papers that were judged in one order only."""
    found: dict[int, list[Ballot]] = {}
    for verdict in verdicts:
        ballot = Ballot(verdict.shown_first, verdict.outcome)
        found.setdefault(verdict.paper_id, []).append(ballot)
    return {paper_id: ballots for paper_id, ballots in found.items() if complete(ballots)}


def _repeated(verdicts: Sequence[VerdictRecord]) -> Estimate | None:
    """The share of repeated questions with the same answer as the first time."""
    first = {
        (v.paper_id, v.aspect, v.shown_first): v.outcome for v in verdicts if v.repetition == 0
    }
    again = [v for v in verdicts if v.repetition > 0]
    same = [first.get((v.paper_id, v.aspect, v.shown_first)) == v.outcome for v in again]
    return share(sum(same), len(same)) if same else None


def _outcomes(verdicts: Sequence[VerdictRecord]) -> dict[int, dict[str, PaperOutcome]]:
    whole = [v for v in verdicts if v.repetition == 0 and v.aspect is None]
    found: dict[int, dict[str, PaperOutcome]] = {}
    for method in dict.fromkeys(v.method for v in whole):
        for paper_id, ballots in _ballots(v for v in whole if v.method == method).items():
            found.setdefault(paper_id, {})[method] = combine_orders(ballots)
    return found


def _agreements(
    outcomes: Mapping[int, Mapping[str, PaperOutcome]], methods: Sequence[str]
) -> Iterable[Agreement]:
    for one, other in itertools.combinations(methods, 2):
        pairs = [
            (found[one].outcome, found[other].outcome)
            for found in outcomes.values()
            if one in found and other in found
        ]
        valid = [pair for pair in pairs if "invalid" not in pair]
        if valid:
            yield Agreement(
                one, other, bootstrap(cohen_kappa(*zip(*valid, strict=True)), len(valid))
            )


def _overlaps(counts: Sequence[CountRecord]) -> Iterable[OverlapFigures]:
    """The figures of every role at both cuts, where there are counts."""
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
    n_points = {(c.paper_id, c.generated_review_id): c.n_generated for c in counts}
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
    values = [over_reviewers(metric, list(map(_counted, each))) for each in by_paper.values()]
    known = [value for value in values if not math.isnan(value)]
    return bootstrap(mean(known), len(known))


def _counted(count: CountRecord) -> Overlap:
    return Overlap(
        n_reference=count.n_reference,
        n_generated=count.n_generated,
        hits_reference=count.hits_reference,
        hits_generated=count.hits_generated,
        n_pairs=count.n_pairs,
    )


def _sizes(record: ComparisonRecord, papers: Sequence[PaperRecord]) -> Iterable[SizeFigures]:
    """The sizes of each side whose reviews have items."""
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


def _average(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _tally(values: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found


def config_text(record: ComparisonRecord) -> str:
    """The judging configuration as indented JSON."""
    return json.dumps(record.config, indent=1, ensure_ascii=False, sort_keys=True)
