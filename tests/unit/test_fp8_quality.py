"""What the measurement of FP8 packs, counts and compares."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import fp8_papers
from benchmarks.fp8_layers import (
    KINDS,
    measure_large,
    round_rows,
    rounded_to_fp8,
    token_errors,
    variants,
)
from benchmarks.fp8_loss import (
    EXACT,
    REFERENCE,
    Scored,
    changed_share,
    comparisons,
    make_sample,
    with_next_prompts,
)
from benchmarks.fp8_papers import ReviewedPaper, first_tokens, read, write
from benchmarks.fp8_pk import mean_worth, pooled_score
from benchmarks.llama_shape import TINY
from db.comparison_records import (
    ComparedReviewer,
    ComparisonRecord,
    PaperRecord,
    VerdictRecord,
)
from db.schema_judging import HEADLINE, MATCH, Outcome
from errors import UserError
from models.text.aspects import SEVEN
from models.text.parsing import render
from models.text.review import Item
from testing import ROOT
from testing.teacher_forcing import Reference
from testing.tokenizers import smollm2
from trainer.data.dataset import TrainingPair

PROSE = (ROOT / "LICENSE").read_text()
REVIEW = render([Item(SEVEN.keys[0], 0, "Clear", "It is well written.")], SEVEN)


@pytest.mark.parametrize("length", [5, 100, 1_000])
def test_a_packed_paper_has_the_tokens_of_the_whole_one(length: int) -> None:
    tokenizer = smollm2().tokenizer
    start = first_tokens(tokenizer, PROSE, length)
    assert PROSE.startswith(start)
    assert len(start) < len(PROSE)
    wanted = tokenizer.encode(PROSE, add_special_tokens=False).ids[:length]
    assert tokenizer.encode(start, add_special_tokens=False).ids[:length] == wanted


def test_a_paper_that_fits_is_packed_whole() -> None:
    assert first_tokens(smollm2().tokenizer, "Short.", 100) == "Short."


def test_packed_papers_are_read_back_by_split(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "papers.xz"
    papers = [
        ReviewedPaper(split, split * 2, f"Text\u2028of a {split} paper", REVIEW)
        for split in ("train", "validation", "test")
    ]
    write(papers, file)
    assert read(file) == papers
    assert read(file, fp8_papers.HELD_OUT) == papers[1:]
    pair = papers[0].pair
    assert pair == TrainingPair("traintrain", "traintrain", papers[0].paper, REVIEW)


def test_a_file_too_large_to_carry_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fp8_papers, "MAX_BYTES", 1000)
    noise = random.Random(0).randbytes(1000).hex()
    with pytest.raises(UserError, match="can be carried"):
        write([ReviewedPaper("test", "a", noise, "b")], tmp_path / "papers.xz")
    assert not list(tmp_path.iterdir())


def test_the_packed_file_is_ignored_by_git() -> None:
    from benchmarks.fp8_quality import PACKED

    assert f"{PACKED.parent}/" in (ROOT / ".gitignore").read_text().splitlines()


def test_only_the_text_of_items_is_counted() -> None:
    tokenizer = smollm2().tokenizer
    sample = make_sample(tokenizer, ReviewedPaper("test", "a", PROSE, REVIEW))
    assert len(sample.counted) == len(sample.reference.answer)
    counted = np.array(sample.reference.answer)[sample.counted].tolist()
    assert tokenizer.decode(counted).strip() == "Clear> It is well written."
    tiny = make_sample(tokenizer, ReviewedPaper("test", "a", PROSE, REVIEW), tiny=True)
    assert len(tiny.counted) == len(tiny.reference.answer) < len(sample.counted)


def test_every_review_is_read_after_another_papers_prompt() -> None:
    references = [Reference((n,), (n,)) for n in range(3)]
    assert with_next_prompts(references) == [Reference(((n + 1) % 3,), (n,)) for n in range(3)]


def scored(shift: float, *, changed: int = 0) -> Scored:
    """Losses of 40 papers, all `shift` higher, with another best token at some positions."""
    draw = np.random.default_rng(1)
    sizes = draw.integers(50, 150, 40)
    losses = [draw.normal(3.0, 0.2, size) + shift for size in sizes]
    best = [np.arange(size) for size in sizes]
    best[0][:changed] += 1
    return Scored(losses, best)


def test_difference_from_exact_is_given_in_percent_with_its_interval() -> None:
    results = comparisons({REFERENCE: scored(0.0), EXACT: scored(0.0), "both": scored(0.03)})
    exact = results[EXACT]["loss"]
    assert results[REFERENCE]["difference"] == [0.0] * 3
    assert results["both"]["difference"] == [pytest.approx(0.03)] * 3
    assert results["both"]["difference_in_percent"] == [pytest.approx(3 / exact)] * 3
    assert len(results["both"]["losses_of_papers"]) == results["papers"] == 40


def test_interval_is_over_papers_and_contains_the_difference() -> None:
    exact = scored(0.0)
    draw = np.random.default_rng(2)
    shifts = draw.normal(0.01, 0.05, 40)
    losses = [loss + shift for loss, shift in zip(exact.losses, shifts, strict=True)]
    scores = {REFERENCE: exact, EXACT: exact, "both": Scored(losses, exact.best)}
    result = comparisons(scores)["both"]
    value, low, high = result["difference"]
    assert low < value < high
    # Of 40 papers: two standard errors to each side
    assert (high - low) / 2 == pytest.approx(1.96 * shifts.std() / 40**0.5, rel=0.2)


def test_share_of_changed_tokens_counts_positions() -> None:
    a, b = scored(0.0), scored(0.0, changed=10)
    n_positions = sum(map(len, a.best))
    assert changed_share(a, b) == pytest.approx(10 / n_positions)
    assert changed_share(a, a) == 0


def comparison(outcomes: Mapping[str, Outcome]) -> ComparisonRecord:
    """A comparison with these outcomes at equal counts, and others by counted hits."""
    reviewer = ComparedReviewer("r", 1, "imported")
    papers = tuple(
        PaperRecord(n, "", sha256, None, None, 1, 2, (3,), None, True)
        for n, sha256 in enumerate(outcomes)
    )
    verdicts = tuple(
        VerdictRecord(n, method, aspect, 0, "neither", outcome, 1.0, 1.0, 1, 1, "")
        for n, real in enumerate(outcomes.values())
        for method, aspect, outcome in _verdicts(real)
    )
    return ComparisonRecord(1, reviewer, reviewer, reviewer, {}, 0.0, papers, verdicts, (), {}, {})


def _verdicts(real: Outcome) -> Sequence[tuple[str, str | None, Outcome]]:
    return (HEADLINE, None, real), (HEADLINE, "significance", "lose"), (MATCH, None, "lose")


def drawn_outcomes(draw: random.Random) -> dict[str, Outcome]:
    wins: list[Outcome] = ["win", "lose"]
    return {f"{n:064x}": draw.choice(wins) for n in range(100)}


def test_samples_of_a_paper_are_averaged_before_papers_are_resampled() -> None:
    draw = random.Random(0)
    # All samples of a paper agree: they are worth no more than one
    outcomes = drawn_outcomes(draw)
    one, four = (pooled_score([comparison(outcomes)] * n) for n in (1, 4))
    assert one["score"] == four["score"]
    assert (four["papers"], four["samples"]) == (100, 4)
    assert four["win"] == 4 * one["win"]
    # And independent samples narrow the interval
    others = [comparison(drawn_outcomes(draw)) for _ in range(4)]
    _, low, high = pooled_score(others)["score"]
    assert high - low < 0.7 * (one["score"][2] - one["score"][1])


def test_only_papers_of_all_comparisons_are_counted() -> None:
    found = pooled_score([comparison({"a": "win", "b": "lose"}), comparison({"b": "tie"})])
    assert (found["papers"], found["score"][0]) == (1, 25.0)
    assert found["scores_of_samples"] == [0.0, 50.0]


def test_a_tie_is_half_a_win() -> None:
    assert mean_worth(["win", "tie", "lose", "lose"]) == 0.375


def test_rounding_to_fp8_keeps_three_bits_of_mantissa() -> None:
    rows = torch.randn(20, 300) * torch.logspace(-5, 5, 20)[:, None]
    rows[3] = 0.0
    rounded = round_rows(rows)
    # Half a unit in the last of three places, or of the smallest step of a row's unit
    limit = rows.abs().amax(1, keepdim=True)
    assert ((rounded - rows).abs() <= torch.maximum(rows.abs() / 16, limit / 448 * 2**-10)).all()
    assert torch.equal(round_rows(rounded), rounded)


def test_rounded_layers_are_exact_again_afterwards() -> None:
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(
        {name: torch.nn.Linear(64, 64, bias=False) for kind in KINDS.values() for name in kind}
    )
    rows = torch.randn(5, 64)
    exact = {name: layer(rows) for name, layer in model.items()}
    with rounded_to_fp8(model, ["qkv", "down"]):
        changed = {name for name, layer in model.items() if not layer(rows).equal(exact[name])}
    assert changed == {"q_proj", "k_proj", "v_proj", "down_proj"}
    assert all(layer(rows).equal(exact[name]) for name, layer in model.items())


def test_a_tokens_error_is_relative_to_its_own_norm() -> None:
    wanted = torch.tensor([[1000.0, 0.0], [1.0, 0.0]])
    assert token_errors(wanted + torch.tensor([[0.0, 0.1]]), wanted).tolist() == pytest.approx(
        [1e-4, 0.1]
    )


def test_errors_of_layers_come_from_nf4_and_from_fp8() -> None:
    results = measure_large(TINY | {"vocab_size": 1024, "max_position_embeddings": 4096})
    errors = {name: results[name]["layers"][-1] for name in ("NF4 in float32", *variants())}
    added = {name: results[f"{name}, against NF4 in float32"]["layers"][-1] for name in variants()}
    # Two layers and the last norm
    assert all(len(results[name]["layers"]) == 3 for name in errors)
    # On a CPU NF4 is computed in float32, so only FP8 adds to it
    assert added["exact"] < 1e-4
    assert errors["exact"] == pytest.approx(errors["NF4 in float32"], rel=1e-3)
    assert added["exact"] < min(added[f"fp8 but {kind}"] for kind in KINDS)
    assert max(added[f"fp8 but {kind}"] for kind in KINDS) < 1.05 * added["fp8"]
    # The first token's massive activations exceed the median value by far
    assert max(results["largest_over_median"]) > 500
