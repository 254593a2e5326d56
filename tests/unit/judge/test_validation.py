"""Validation against published labels: reading, calculation, halves, a judge's verdicts."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import UserError
from judge.validation.labels import (
    RatedReview,
    read_alignments,
    read_passages,
    read_rated,
    read_reviewed,
)
from judge.validation.matcher import check_alignments, check_passages
from judge.validation.pairs import (
    LabelledPairs,
    best_threshold,
    is_reported,
    likelihood_curve,
    miscalibration,
    pair_figures,
)
from judge.validation.quality import quality_figures, quality_pairs
from judge.validation.strangers import check_strangers
from judge.win_rates import PaperOutcome
from subprocesses import python_command
from testing import ROOT

WORDS = ("noise", "proof", "speed", "memory", "figure", "baseline")


def embed(texts: Sequence[str]) -> Any:
    """Unit vectors of word counts: texts with common words are similar."""
    counts = np.array([[text.split().count(word) + 0.01 for word in WORDS] for text in texts])
    return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(lines)
    return path


def passage(paper: str) -> dict[str, Any]:
    texts = {str(k): f"{word} {word}" for k, word in enumerate(WORDS[:3])}
    return {"submission_id": paper, "review_args": texts, "reply_args": texts}


def alignment(paper: str, system: str, hits: int) -> dict[str, Any]:
    """One reference review of three comments, `hits` of them generated too."""
    references, generated = list(WORDS[:3]), [f"{word} {word}" for word in WORDS[:hits]]
    generated.append(f"{WORDS[5]} alone")
    pairs = [{"reference_comment": w, "predicted_comment": f"{w} {w}"} for w in WORDS[:hits]]
    metrics = {
        "recall": hits / 3,
        "precision": hits / (hits + 1),
        "pseudo_jaccard": hits / (3 + hits + 1 - hits),
    }
    return {
        "doc_id": paper,
        "setting": system,
        "reference_comments": [references],
        "generated_comments": {"all": generated},
        "alignments": {"all": pairs},
        "metrics_for_reviews": {"all": [metrics]},
    }


def test_pairs_that_share_words_are_told_from_hard_negatives(tmp_path: Path) -> None:
    file = write(tmp_path / "ape.jsonl.gz", [passage(f"p{i}") for i in range(12)])
    found = check_passages(read_passages(file), embed)
    assert found.auc.value == 1
    assert found.kappa.value == pytest.approx(1)
    reported = sum(is_reported(f"p{i}") for i in range(12))
    assert (found.papers, found.n, found.n_same) == (12, 9 * 12, 3 * 12)
    assert found.n_reported == 9 * reported


def test_threshold_does_not_depend_on_the_reported_half() -> None:
    papers = [f"p{i}" for i in range(40)]
    scores = np.linspace(0, 1, 80)
    same = [score > 0.6 for score in scores]
    owners = [paper for paper in papers for _ in range(2)]
    before = pair_figures(LabelledPairs(scores, tuple(same), tuple(owners)))
    turned = [not s if is_reported(o) else s for s, o in zip(same, owners, strict=True)]
    after = pair_figures(LabelledPairs(scores, tuple(turned), tuple(owners)))
    assert before.threshold == after.threshold
    assert after.kappa.value < 0 < before.kappa.value


def test_the_best_threshold_has_the_highest_f1() -> None:
    assert best_threshold(np.array([0.1, 0.5, 0.6, 0.9]), [False, False, True, True]) == 0.6


def test_the_curve_of_likelihood_is_found_again() -> None:
    draw = np.random.default_rng(1)
    scores = draw.uniform(0, 1, 20_000)
    likely = 1 / (1 + np.exp(-9 * (scores - 0.6)))
    same = (draw.uniform(size=len(scores)) < likely).tolist()
    assert likelihood_curve(scores, same) == pytest.approx((0.6, 9), rel=0.05)
    assert miscalibration(likely, same) < 0.01
    assert miscalibration(np.zeros(4), [True, True, False, False]) == 0.5


def test_the_curve_is_finite_where_labels_are_separable() -> None:
    midpoint, slope = likelihood_curve(np.array([0.1, 0.2, 0.8, 0.9]), [False, False, True, True])
    assert midpoint == pytest.approx(0.5, abs=0.01)
    assert 0 < slope < 100


def test_published_alignments_are_counted_as_their_authors_do(tmp_path: Path) -> None:
    rows = [
        alignment(f"p{i}", system, hits)
        for i in range(10)
        for system, hits in (("good", 3), ("fair", 2), ("poor", 0))
    ]
    found = check_alignments(read_alignments(write(tmp_path / "marg.jsonl", rows)), embed)
    assert found.largest_difference < 1e-6
    assert [system.system for system in found.systems] == ["fair", "good", "poor"]
    assert all(s.ours == pytest.approx(s.published) for s in found.systems)
    assert found.order.value == pytest.approx(1)
    assert found.pairs.auc.value == 1


def test_a_difference_from_the_published_figures_shows(tmp_path: Path) -> None:
    rows = [alignment(f"p{i}", "good", 2) for i in range(10)]
    rows[3]["metrics_for_reviews"]["all"][0]["recall"] += 0.25
    found = check_alignments(read_alignments(write(tmp_path / "marg.jsonl", rows)), embed)
    assert found.largest_difference == pytest.approx(0.25)


def rated(paper: str, *qualities: float) -> list[RatedReview]:
    return [RatedReview(paper, "T", "A", f"review {q}", q) for q in qualities]


def test_only_clear_differences_of_quality_within_a_paper_are_pairs() -> None:
    pairs = quality_pairs([*rated("p1", 80, 60, 50), *rated("p2", 10)])
    assert [pair.difference for pair in pairs] == [20, 30]


def test_ties_count_half_and_invalid_answers_are_left_out_and_counted() -> None:
    pairs = quality_pairs(
        [*rated("p1", 80, 60), *rated("p2", 20, 90), *rated("p3", 5, 50), *rated("p4", 9, 90)]
    )
    verdicts = [
        PaperOutcome("win"),
        PaperOutcome("lose"),
        PaperOutcome("tie", True),
        PaperOutcome("invalid"),
    ]
    found = quality_figures(pairs, verdicts)
    assert (found.n, found.invalid) == (3, 1)
    assert found.accuracy.value == pytest.approx(2.5 / 3)
    assert (found.decided.value, found.consistent.value) == (1, pytest.approx(2 / 3))
    assert found.kappa.value == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "not JSON"), ('{"a": 1}', "line 1: expected an object with paper_id"), ("[]", "line 1")],
)
def test_a_file_of_another_kind_is_refused_with_its_line(
    tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_rated(tmp_path / "x.jsonl")
    (tmp_path / "x.gz").write_text(text)
    with pytest.raises(UserError, match="cannot be read"):
        read_rated(tmp_path / "x.gz")


def test_without_a_large_model_rotten_exits_3(tmp_path: Path) -> None:
    rows = [
        {"paper_id": "1", "review_text": "r", "Human_Overall_Quality": q} for q in (20, 50, None)
    ]
    file = write(tmp_path / "rotten.jsonl", rows)
    command = python_command("judge.validate", "rotten", str(file), "--json")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "The 1 pairs of this set need a large model as judge" in done.stderr


def test_human_reviews_are_compared_with_those_of_other_papers(tmp_path: Path) -> None:
    # Given papers whose reviewers name the same subject, each paper its own, and a meta review
    papers = [f"p{i}" for i in range(8)]
    rows = [
        {"paper_id": paper, "comments": f"{WORDS[i % 6]} " * 7, "is_meta": meta}
        for i, paper in enumerate(papers)
        for meta in (False, False, False, True)
    ]
    write(tmp_path / "reviews.jsonl", rows)
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": [], "dev": papers[:6], "test": papers[6:7]}))
    reviewed = read_reviewed(splits, ("dev", "test"))
    assert [(p.paper, len(p.reviews)) for p in reviewed] == [(p, 3) for p in papers[:7]]
    # Then each review of the same paper wins, except against the other paper of the same subject
    found = check_strangers(reviewed[:6], reviewed, embed, in_use=1.0)
    assert (found.chosen.n, found.chosen.win, found.reported.papers) == (18, 18, 7)
    assert (found.training.n, found.training.win) == (18, 18)
    assert (found.repeated.n, found.every.n) == (35, 21)
    assert found.repeated.win + found.repeated.tie == 35
    assert found.repeated.win >= 33
    # And missing splits and too few papers are reported
    with pytest.raises(UserError, match="does not list the papers of the splits spare"):
        read_reviewed(splits, ("spare",))
    with pytest.raises(UserError, match="Too few papers have several reviews: 6 are needed"):
        check_strangers(reviewed[:3], reviewed[:3], embed, in_use=0.5)
