"""Cleaning flags unsuitable training data with a reason and deletes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from db.corpus import CorpusPaper, HumanReview, NewFlag
from trainer.data.cleaning_rules import Thresholds, find_flags, kept_text
from trainer.data.merge_inputs import cut_parts
from trainer.data.rebuttals import late_additions

GOOD = (
    "The paper studies a relevant problem and the experiments are convincing. The writing is clear "
    "and the comparison with earlier work is fair, but the ablation of the second loss is missing."
)


def paper(number: int, **given: Any) -> CorpusPaper:
    values: dict[str, Any] = {
        "id": number,
        "sha256": f"{number:064x}",
        "source": "s",
        "source_id": f"p{number}",
        "licence": "none stated",
        "title": f"Paper {number}",
        "abstract": "",
        "venue": None,
        "decision": None,
        "version_choice": "last version before the first review",
        "n_chars": 30_000,
    }
    return CorpusPaper(**(values | given))


def review(number: int, text: str, kind: str = "review") -> HumanReview:
    fields = {"kind": kind, "parts": {"review": text}}
    return HumanReview(number, 1, f"r{number}", text, None, None, kind != "review", fields)


def rules(*reviews: HumanReview) -> list[tuple[str, int | None]]:
    """Rules that flag these reviews of one paper, with the review's number."""
    found = find_flags([paper(1)], {1: reviews}, Thresholds(min_reviews=0))
    return [(flag.rule, flag.review_id) for flag in found if flag.review_id is not None]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("empty_review", "Nice paper."),
        ("promised_review", "Putting the score for now, will post the full review tomorrow. " * 3),
        ("mangled_characters", GOOD + " The na\ufffdve Schr\ufffddinger \ufffd\ufffd problem."),
        ("wrong_language", "Der Ansatz wird in dieser Arbeit ausführlich untersucht und ist " * 4),
    ],
)
def test_useless_review_is_flagged_with_its_rule(rule: str, text: str) -> None:
    assert (rule, 7) in rules(review(1, GOOD), review(7, text))
    assert rules(review(1, GOOD)) == []


def test_the_second_of_two_equal_reviews_is_a_duplicate() -> None:
    found = rules(review(1, GOOD), review(2, GOOD.upper().replace(",", " ")))

    assert found == [("duplicate_review", 2)]


@pytest.mark.parametrize("kind", ["author_reply", "public_comment", "decision", "meta_review"])
def test_notes_that_are_not_reviews_are_flagged_by_kind(kind: str) -> None:
    assert rules(review(1, GOOD, kind)) == [(kind, 1)]


LATE = [
    f"{GOOD}\n\nWhat about the runtime?\n\nUPDATE: after reading the rebuttal I raise my score.",
    f"UPDATE: I have read the author response.\n\nThe new tables help.\n\n----------\n\n{GOOD}",
    f"{GOOD} UPDATE: The authors added the ablation. My concern is gone.",
    f"{GOOD}\n\nMinor: typos.\n\n**After rebuttal:**\nThank you for the clarifications.\n\nBest.",
    f"EDIT: the authors answered my questions and I increased the score. {GOOD}",
]


@pytest.mark.parametrize("text", LATE)
def test_text_written_after_the_rebuttal_is_removed(text: str) -> None:
    kept = kept_text(text, late_additions(text))

    assert GOOD in kept
    for word in ("rebuttal", "UPDATE", "score", "Thank you", "My concern", "new tables"):
        assert word not in kept


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "The update rule of equation 3 is not derived. The update: w = w - g is standard.",
        "The authors edit images well. Editing is fast.",
    ],
)
def test_ordinary_mentions_of_updates_are_kept(text: str) -> None:
    assert late_additions(text) == ()


def test_removed_span_applies_to_its_part_in_any_order_of_parts() -> None:
    weak = f"No ablation.\n\nUPDATE: it was added.\n\n{GOOD}"
    text = f"Summary: {GOOD}\n\nWeaknesses: {weak}"
    start = text.index("UPDATE")
    stored = {"weaknesses": weak, "summary": GOOD}  # as JSONB may return them
    found = HumanReview(1, 1, "r", text, None, None, False, {"parts": stored})

    parts = cut_parts(found, [(start, start + len("UPDATE: it was added."))])

    assert list(parts) == ["summary", "weaknesses"]
    assert parts["summary"] == GOOD
    assert "UPDATE" not in parts["weaknesses"]
    assert parts["weaknesses"].endswith(GOOD)


def test_papers_too_short_too_long_or_with_too_few_reviews_are_kept_out() -> None:
    papers = [paper(n, n_chars=10_000 + n) for n in range(1, 101)]
    papers.append(paper(101, n_chars=90_000, version_choice="unknown: perhaps revised"))

    found = find_flags(papers, {5: [review(1, GOOD), review(2, GOOD + " Yes.")]}, Thresholds())

    def flagged(rule: str) -> list[NewFlag]:
        return [flag for flag in found if flag.rule == rule]

    assert [flag.paper_id for flag in flagged("short_paper")] == [1]
    assert [flag.paper_id for flag in flagged("long_paper")] == [101]
    assert 5 not in {flag.paper_id for flag in flagged("few_reviews")}
    assert len(flagged("few_reviews")) == 100
    assert [flag.excludes for flag in flagged("unknown_version")] == [False]
