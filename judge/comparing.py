"""Running a comparison: choose its papers, extract points, match them, and store the matches.

Papers are stored a few at a time; a repeated run continues where the last one stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from db import comparisons, points, training_papers
from db.comparisons import Comparison, ComparisonPaper, Side
from db.matches import MatchedPaper, store_matched
from db.reviewers import ReviewerVersion
from db.session import Database
from dispatch.progress import Progress
from errors import GiveUp, RetryLater, UserError
from judge.exclusion import exclude
from judge.matchers import Matcher
from judge.paper_matching import MatchingInput, match_paper
from judge.point_extraction import PARSED, Extractor
from judge.statistics import MIN_PAPERS
from models.text.aspects import find_aspect_set

T = TypeVar("T")

#: Papers that are stored in one transaction when matching is quick.
_CHUNK = 20
#: Reviews whose points are stored in one transaction when extraction is quick.
_QUICK_REVIEWS = 200


@dataclass(frozen=True)
class PaperSelection:
    """The papers to compare, by SHA-256, or all when `hashes` is None; and their split's name."""

    hashes: frozenset[str] | None = None
    split: str | None = None

    @property
    def sha256(self) -> str | None:
        """Identifies the selection in a comparison's configuration."""
        if self.hashes is None:
            return None
        return hashlib.sha256("\n".join(sorted(self.hashes)).encode()).hexdigest()


@dataclass(frozen=True)
class ComparisonPlan:
    """The sides of a comparison, its papers, matcher and extractor.

    `levels`: the levels of chance and of people are counted too. `learnt_by`: SHA-256 of adapters
    that generated imported reviews, whose version does not name them. `validation`: the papers are
    the rivals' validation papers, and none is excluded.
    """

    a: Side
    b: Side
    reference: ReviewerVersion
    matcher: Matcher
    extractor: Extractor
    selection: PaperSelection = PaperSelection()
    levels: bool = True
    min_papers: int = MIN_PAPERS
    learnt_by: tuple[str, ...] = ()
    validation: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """What distinguishes this comparison from others of the same versions."""
        return {
            "extractor": self.extractor.name,
            "matcher": dict(self.matcher.config),
            "assign": self.matcher.assign,
            "equal_counts": "every cut",
            "levels": self.levels,
            "a_batch": self.a.batch,
            "b_batch": self.b.batch,
            "split": self.selection.split,
            "papers": self.selection.sha256,
            "min_papers": self.min_papers,
            "learnt_by": list(self.learnt_by),
            **({"validation": True} if self.validation else {}),
        }


@dataclass(frozen=True)
class PreparedComparison:
    """A comparison with its papers. `split_uses` counts the comparisons that used its split."""

    comparison: Comparison
    n_papers: int
    n_excluded: int
    split_uses: int | None


def prepare(database: Database, plan: ComparisonPlan) -> PreparedComparison:
    """Open the comparison and choose its papers; mark those that a rival was trained on.

    Raises UserError when fewer than `min_papers` are left.
    """
    config = plan.config
    found = comparisons.candidates(database, plan.a, plan.b, plan.reference, plan.selection.hashes)
    a, b = plan.a.reviewer, plan.b.reviewer
    adapters = [str(sha) for rival in (a, b) if (sha := rival.config.get("adapter_sha256"))]
    learnt = () if plan.validation else (*adapters, *plan.learnt_by)
    seen = training_papers.training_papers(database, learnt)
    names = training_papers.source_ids(database, [paper.paper_id for paper in found])
    marked = exclude(found, seen, names)
    n_left = sum(paper.excluded is None for paper in marked)
    _refuse_few(plan, n_left, len(marked) - n_left)
    comparison = comparisons.open_comparison(database, a, b, plan.reference, config)
    comparisons.add_papers(database, comparison, with_nulls(marked))
    split = plan.selection.split
    uses = None if split is None else comparisons.record_split_use(database, comparison.id, split)
    return PreparedComparison(comparison, n_left, len(marked) - n_left, uses)


def _refuse_few(plan: ComparisonPlan, n_left: int, n_excluded: int) -> None:
    if n_left >= max(plan.min_papers, 1):
        return
    learnt = f" ({n_excluded} more were left out: a rival was trained on them)" * bool(n_excluded)
    raise UserError(
        f"{plan.a.reviewer.name}, {plan.b.reviewer.name} and {plan.reference.name} have reviewed "
        f"{n_left} papers in common{learnt}; a comparison needs {max(plan.min_papers, 1)}. "
        "Submit more papers, or lower --min-papers, which the report then says."
    )


def with_nulls(papers: Sequence[ComparisonPaper]) -> list[ComparisonPaper]:
    """Assign each paper another one for the level of chance: the next in the order of a hash."""
    ring = sorted(papers, key=lambda paper: hashlib.sha256(paper.sha256.encode()).digest())
    if len(ring) < 2:
        return list(papers)
    following = {p.paper_id: q.paper_id for p, q in zip(ring, [*ring[1:], ring[0]], strict=True)}
    return [replace(paper, null_paper_id=following[paper.paper_id]) for paper in papers]


def extract_points(database: Database, extractor: Extractor, review_ids: Collection[int]) -> None:
    """Store the points of the reviews that have none by this extractor, a few at a time."""
    known = points.read_points(database, extractor.name, sorted(review_ids))
    # A model's points cost money, so they are stored after each review.
    size = _QUICK_REVIEWS if extractor.name == PARSED else 1
    for some in _chunks(sorted(set(review_ids) - known.keys()), size):
        texts = points.read_reviews(database, some)
        found = {text.review_id: extractor.extract(text) for text in texts}
        points.store_points(database, extractor.name, found)


@dataclass(frozen=True)
class MatchingResult:
    """The number of newly matched papers, and a sentence for each that could not be matched."""

    new: int
    problems: tuple[str, ...]


def match(
    database: Database, prepared: PreparedComparison, plan: ComparisonPlan, progress: Progress
) -> MatchingResult:
    """Match every paper that is not matched yet."""
    listed = comparisons.papers_of(database, prepared.comparison.id)
    every = {paper.paper_id: paper for paper, _ in listed}
    pending = [paper for paper, done in listed if not done and paper.excluded is None]
    matching_inputs = _matching_inputs(database, plan, pending, every)
    plan.matcher.prepare(
        [
            p.text
            for matching_input in matching_inputs
            for some in matching_input.points.values()
            for p in some
        ]
    )
    new, problems = 0, list[str]()
    chunk = _CHUNK if plan.matcher.assign is not None else 1
    for done, some in enumerate(_chunks(matching_inputs, chunk)):
        found = _match_chunk(some, plan, problems)
        new += store_matched(database, prepared.comparison.id, found)
        progress(min((done + 1) * chunk, len(matching_inputs)), len(matching_inputs))
    return MatchingResult(new, tuple(problems))


def _match_chunk(
    matching_inputs: Iterable[MatchingInput], plan: ComparisonPlan, problems: list[str]
) -> list[MatchedPaper]:
    found = []
    for matching_input in matching_inputs:
        try:
            found.append(match_paper(matching_input, plan.matcher, shared_aspects(plan)))
        except (RetryLater, GiveUp) as error:
            problems.append(f"{matching_input.paper.title}: {error}")
    return found


def shared_aspects(plan: ComparisonPlan) -> tuple[str, ...]:
    """The aspects of both rivals; none when they differ."""
    names = {str(side.reviewer.config.get("aspects")) for side in (plan.a, plan.b)}
    aspects = find_aspect_set(names.pop()) if len(names) == 1 else None
    return aspects.keys if aspects else ()


def _matching_inputs(
    database: Database,
    plan: ComparisonPlan,
    pending: Sequence[ComparisonPaper],
    every: Mapping[int, ComparisonPaper],
) -> list[MatchingInput]:
    nulls = {
        paper.paper_id: every[paper.null_paper_id].reference_reviews
        for paper in pending
        if plan.levels and paper.null_paper_id in every and paper.null_paper_id is not None
    }
    needed = {r for paper in pending for r in _reviews(paper, nulls.get(paper.paper_id, ()))}
    extract_points(database, plan.extractor, needed)
    held = points.read_points(database, plan.extractor.name, sorted(needed))
    return [
        MatchingInput(
            paper,
            {r: held.get(r, ()) for r in _reviews(paper, nulls.get(paper.paper_id, ()))},
            nulls.get(paper.paper_id, ()),
            with_ceiling=plan.levels,
        )
        for paper in pending
    ]


def _chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _reviews(paper: ComparisonPaper, nulls: Sequence[int]) -> list[int]:
    return [paper.a_review, paper.b_review, *paper.reference_reviews, *nulls]
