"""The figures of a report, worked out from a stored comparison."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from judge.agreement import cohen_kappa
from judge.bootstrap import bootstrap
from judge.report.comparison_records import ComparisonRecord, PaperRecord, VerdictRecord
from judge.report.overlap_figures import OverlapFigures, SizeFigures, overlaps, sizes
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
from models.text.aspects import ASPECT_SETS

#: The headline, then raw hits, then language models.
HEADLINE = "match_equal"
RAW = "match"


@dataclass(frozen=True)
class MethodFigures:
    """Standing by one way of judging: `aspects` by key, `total` for whole reviews.

    `a_items` and `b_items` are the mean numbers of items judged; None where nothing is counted.
    `repeated`: share of answers that a second asking confirmed.
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
    """Cohen's kappa of two ways of judging over the papers that both decided or tied."""

    one: str
    other: str
    kappa: Estimate


@dataclass(frozen=True)
class ComparisonFigures:
    """All figures of a comparison. `outcomes` maps a paper to its settled whole-review verdicts."""

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
        """Every aspect that any side's reviews have, in the order of the prompts."""
        met = dict.fromkeys(key for size in self.sizes for key in size.aspects)
        known = [key for chosen in ASPECT_SETS.values() for key in chosen.keys]
        return tuple(sorted(met, key=lambda key: known.index(key) if key in known else len(known)))

    @property
    def headline(self) -> MethodFigures | None:
        """The method that the claim is made by: hits at equal item counts, else the first."""
        return next(iter(self.methods), None)

    @property
    def disagreements(self) -> tuple[str, ...]:
        """Methods whose whole-review score lies on the other side of a half than the headline's."""
        if self.headline is None:
            return ()
        side = self.headline.total.score.value - 0.5
        return tuple(
            other.method for other in self.methods[1:] if (other.total.score.value - 0.5) * side < 0
        )

    @property
    def bracketed(self) -> bool | None:
        """Whether each rival's recall lies between its own at chance and people's; None when one of
        these is missing."""
        found = {o.role: o.metrics["recall"].value for o in self.overlaps if o.cut == "full"}
        if not {"a", "b", "null_a", "null_b", "ceiling"} <= found.keys():
            return None
        return all(found[f"null_{x}"] < found[x] <= found["ceiling"] for x in ("a", "b"))


def figures(record: ComparisonRecord) -> ComparisonFigures:
    """Work out every figure of a comparison."""
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
        overlaps=tuple(overlaps(counts)),
        sizes=tuple(sizes(record, papers)),
        agreements=tuple(_agreements(outcomes, methods)),
        outcomes=outcomes,
    )


def decisions(comparisons: Sequence[ComparisonFigures]) -> dict[int, Decision]:
    """Decide the comparisons of one report by their headlines; those without one are left out."""
    totals = {each.record.id: each.headline.total for each in comparisons if each.headline}
    return dict(zip(totals, decide(list(totals.values())), strict=True))


def _method_order(method: str) -> tuple[int, str]:
    known = (HEADLINE, RAW)
    return (known.index(method) if method in known else len(known), method)


def _method(
    method: str, verdicts: Sequence[VerdictRecord], papers: Mapping[int, PaperRecord]
) -> MethodFigures:
    first = [v for v in verdicts if v.repetition == 0]
    whole = [v for v in first if v.aspect is None]
    # Where neither rival ever wrote an item, all papers are ties that say nothing.
    said = [v for v in first if (v.a_items, v.b_items) != (0, 0)]
    aspects = dict.fromkeys(v.aspect for v in said if v.aspect is not None)
    return MethodFigures(
        method=method,
        total=_standing(whole, papers),
        aspects={key: _standing([v for v in first if v.aspect == key], papers) for key in aspects},
        a_items=_average(v.a_items for v in whole),
        b_items=_average(v.b_items for v in whole),
        a_hits=_average(v.a_score for v in whole),
        b_hits=_average(v.b_score for v in whole),
        position=position(list(_ballots(whole).values())),
        repeated=_repeated(verdicts),
    )


def _standing(verdicts: Sequence[VerdictRecord], papers: Mapping[int, PaperRecord]) -> WinRates:
    ballots = _ballots(verdicts)
    strata = [(papers[paper_id].venue, papers[paper_id].decision) for paper_id in ballots]
    return count_wins([combine_orders(each) for each in ballots.values()], strata)


def _ballots(verdicts: Iterable[VerdictRecord]) -> dict[int, list[Ballot]]:
    """Ballots by paper; a paper that was asked about in one order only is not judged yet."""
    found: dict[int, list[Ballot]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.paper_id, []).append(verdict.ballot)
    return {paper_id: ballots for paper_id, ballots in found.items() if complete(ballots)}


def _repeated(verdicts: Sequence[VerdictRecord]) -> Estimate | None:
    """Compare second answers with the first ones to the same question."""
    first = {
        (v.paper_id, v.aspect, v.ballot.shown_first): v.ballot.outcome
        for v in verdicts
        if v.repetition == 0
    }
    again = [v for v in verdicts if v.repetition > 0]
    same = [
        first.get((v.paper_id, v.aspect, v.ballot.shown_first)) == v.ballot.outcome for v in again
    ]
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


def _average(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return sum(told) / len(told) if told else None


def _tally(values: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found


def config_text(record: ComparisonRecord) -> str:
    """The judging configuration, for people."""
    return json.dumps(record.config, indent=1, ensure_ascii=False, sort_keys=True)
