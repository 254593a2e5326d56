"""Papers that a reviewer was trained on are excluded from its comparison."""

from __future__ import annotations

import pytest

from db.comparisons import ComparisonPaper
from db.training_papers import TrainingPapers
from judge.comparing import with_nulls
from judge.exclusion import TitleIndex, exclude

SEEN = TrainingPapers(
    frozenset({"a" * 64}),
    frozenset({"H1xyz"}),
    frozenset({"Learning to Review Papers with Suppressed Sequences at Scale"}),
)


def paper(number: int, sha256: str = "b" * 64, title: str = "Something else") -> ComparisonPaper:
    return ComparisonPaper(number, sha256, title, 1, 2, (3,))


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (paper(1, sha256="a" * 64), "trained_hash"),
        (paper(2), "trained_source"),
        (
            paper(3, title="Learning to review papers, with suppressed sequences, at Scale!"),
            "trained_title",
        ),
        (paper(4, title="Learning to Rank Papers at Scale"), None),
    ],
)
def test_a_paper_seen_in_training_is_left_out_with_its_reason(
    candidate: ComparisonPaper, reason: str | None
) -> None:
    (marked,) = exclude([candidate], SEEN, {2: {"H1xyz", "other"}, 3: {"fresh"}})
    assert marked.excluded == reason


def test_short_titles_are_near_only_when_equal() -> None:
    titles = TitleIndex(["Deep Learning", ""])
    assert titles.has_near("Deep learning")
    assert not titles.has_near("Deep linking")
    assert not titles.has_near("")


def test_every_paper_is_paired_with_another_for_the_chance_level() -> None:
    papers = [paper(i, sha256=f"{i:064x}") for i in range(7)]
    given = {p.paper_id: p.null_paper_id for p in with_nulls(papers)}
    assert set(given) == set(given.values())
    assert all(null != paper_id for paper_id, null in given.items())
    assert with_nulls(papers[:1])[0].null_paper_id is None
