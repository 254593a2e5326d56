"""Validation of the embedding matcher against APE's and MARG's labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from judge.bootstrap import Floats, Statistic, bootstrap
from judge.cosine import Similarities, cosines
from judge.matching import embedding_pairs
from judge.overlap import Overlap, precision, pseudo_jaccard, recall
from judge.statistics import Estimate
from judge.validation.labels import Alignment, Passage
from judge.validation.pairs import LabelledPairs, PairFigures, pair_figures

#: From texts to unit vectors (n, d).
Embed = Callable[[Sequence[str]], Similarities]
#: MARG's systems differ in groups; this one holds all comments of a system.
ALL = "all"


@dataclass(frozen=True)
class SystemFigures:
    """A system's mean pseudo-Jaccard by the published alignments and by our matcher."""

    system: str
    published: float
    ours: float


@dataclass(frozen=True)
class AlignmentFigures:
    """MARG: pair figures, the difference of our metrics from the published ones, and the systems.

    `largest_difference` is over recall, precision and pseudo-Jaccard of every reference review.
    `order`: Spearman of the systems' means, ours against published.
    """

    pairs: PairFigures
    reviews: int
    largest_difference: float
    systems: tuple[SystemFigures, ...]
    order: Estimate


def check_passages(passages: Sequence[Passage], embed: Embed) -> PairFigures:
    """Score each review point against the replies of its passage: its own, and hard negatives."""
    texts = [text for p in passages for side in (p.review, p.reply) for text in side.values()]
    vector = _lookup(texts, embed)
    scores, same, papers = [], [], []
    for passage in passages:
        for key, point in passage.review.items():
            for other, reply in passage.reply.items():
                scores.append(float(vector[point] @ vector[reply]))
                same.append(key == other)
                papers.append(passage.paper)
    return pair_figures(LabelledPairs(np.array(scores), tuple(same), tuple(papers)))


def check_alignments(alignments: Sequence[Alignment], embed: Embed) -> AlignmentFigures:
    """Compare our metrics and our matcher with MARG's published alignments."""
    texts = [t for a in alignments for t in (*a.generated, *(t for r in a.references for t in r))]
    vector = _lookup(texts, embed)
    whole = [alignment for alignment in alignments if alignment.group == ALL]
    systems = sorted({alignment.system for alignment in whole})
    papers = sorted({alignment.paper for alignment in whole})
    published = _by_paper_and_system(
        whole, papers, systems, lambda a: [shipped.pseudo_jaccard for shipped in a.shipped]
    )
    ours = _by_paper_and_system(
        whole, papers, systems, lambda a: [_our_jaccard(r, a, vector) for r in a.references]
    )
    return AlignmentFigures(
        pairs=pair_figures(_alignment_pairs(whole, vector)),
        reviews=sum(len(alignment.references) for alignment in alignments),
        largest_difference=max(map(_difference, alignments), default=0.0),
        systems=tuple(
            SystemFigures(system, float(np.nanmean(published[:, i])), float(np.nanmean(ours[:, i])))
            for i, system in enumerate(systems)
        ),
        order=bootstrap(_order(published, ours), len(papers)),
    )


def published_overlap(alignment: Alignment, references: Sequence[str]) -> Overlap:
    """Count the published pairs of one reference review."""
    pairs = {pair for pair in alignment.pairs if pair[0] in references}
    hits_reference, hits_generated = ({pair[side] for pair in pairs} for side in (0, 1))
    return Overlap(
        *(len(references), len(alignment.generated), len(hits_reference), len(hits_generated)),
        # Not published, and not used by the compared metrics.
        n_pairs=0,
    )


def _difference(alignment: Alignment) -> float:
    """The largest difference between our metrics and the published ones."""
    worst = 0.0
    for references, shipped in zip(alignment.references, alignment.shipped, strict=True):
        overlap = published_overlap(alignment, references)
        for ours, theirs in (
            (recall(overlap), shipped.recall),
            (precision(overlap), shipped.precision),
            (pseudo_jaccard(overlap), shipped.pseudo_jaccard),
        ):
            worst = max(worst, abs(ours - theirs))
    return worst


def _alignment_pairs(
    alignments: Sequence[Alignment], vector: dict[str, Similarities]
) -> LabelledPairs:
    scores, same, papers = [], [], []
    for alignment in alignments:
        for reference, generated in _every_pair(alignment):
            scores.append(float(vector[reference] @ vector[generated]))
            same.append((reference, generated) in alignment.pairs)
            papers.append(alignment.paper)
    return LabelledPairs(np.array(scores), tuple(same), tuple(papers))


def _every_pair(alignment: Alignment) -> Iterator[tuple[str, str]]:
    for references in alignment.references:
        for reference in references:
            for generated in alignment.generated:
                yield reference, generated


def _our_jaccard(
    references: Sequence[str], alignment: Alignment, vector: dict[str, Similarities]
) -> float:
    if not references or not alignment.generated:
        return 0.0
    rows, columns = (
        np.stack([vector[t] for t in side]) for side in (references, alignment.generated)
    )
    matched = [pair for pair in embedding_pairs(cosines(rows, columns)) if pair.matched]
    hits = len(matched)
    return pseudo_jaccard(Overlap(len(references), len(alignment.generated), hits, hits, hits))


def _by_paper_and_system(
    alignments: Sequence[Alignment],
    papers: Sequence[str],
    systems: Sequence[str],
    values: Callable[[Alignment], Sequence[float]],
) -> Floats:
    """The mean of an alignment's values over its reference reviews, as (papers, systems)."""
    table = np.full((len(papers), len(systems)), np.nan)
    for alignment in alignments:
        cell = papers.index(alignment.paper), systems.index(alignment.system)
        table[cell] = np.mean(values(alignment))
    return table


def _order(published: Floats, ours: Floats) -> Statistic:
    """Spearman over systems of their means over (resampled) papers."""
    kept = ~(np.isnan(published) | np.isnan(ours)).any(axis=1)

    def value(weights: Floats) -> Floats:
        means = [weights[:, kept] @ table[kept] for table in (published, ours)]
        x, y = (rankdata(each, axis=1) for each in means)
        x, y = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (x, y))
        spread = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
        found: Floats = np.divide(
            (x * y).sum(axis=1), spread, out=np.full(len(x), np.nan), where=spread > 0
        )
        return found

    return value


def _lookup(texts: Sequence[str], embed: Embed) -> dict[str, Similarities]:
    different = list(dict.fromkeys(texts))
    return dict(zip(different, embed(different), strict=True))
