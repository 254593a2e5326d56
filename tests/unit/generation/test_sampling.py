"""Seeded sampling follows the softmax and depends only on seed, position and token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from models.grammar.sampling import (
    MAX_NUCLEUS,
    add_gumbel_noise,
    apply_temperature,
    apply_top_p,
    gumbel,
    sample_nucleus,
)

#: Smallest accepted p-value; the seeds are fixed, so the outcome never changes.
P_VALUE = 0.001
#: Of seeds 0, 42, 2**63 - 1 at positions 0, 7, 1149: the noise of tokens 0, 5230, 128255.
RECORDED = [
    [-0.177991, 1.156875, 0.029063],
    [4.828011, -0.293806, 2.395967],
    [0.676407, -0.160187, -0.007266],
]
SCORES = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -2.0, -4.0])


def draws(seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    scores = SCORES.expand(len(seeds), -1)
    return add_gumbel_noise(scores, seeds, positions, torch.ones(len(seeds))).argmax(-1)


@pytest.mark.parametrize("varied", ["seed", "position"])
def test_frequencies_match_the_softmax(varied: str) -> None:
    count = 200_000
    counting, fixed = torch.arange(count), torch.full((count,), 11)
    tokens = draws(counting, fixed) if varied == "seed" else draws(fixed, counting)
    observed = torch.bincount(tokens, minlength=len(SCORES)).numpy()
    expected = (SCORES.double().softmax(-1) * count).numpy()
    assert stats.chisquare(observed, expected).pvalue > P_VALUE


@pytest.mark.parametrize(("seed_step", "position_step"), [(0, 1), (1, 0), (1, -1), (1 << 32, 0)])
def test_neighbouring_seeds_and_positions_are_independent(
    seed_step: int, position_step: int
) -> None:
    # Given draws, and those of the next seed or position
    count = 100_000
    seeds, positions = torch.arange(count) * 3 + 5, torch.arange(count) % 1000 + 1
    first, second = draws(seeds, positions), draws(seeds + seed_step, positions + position_step)
    # Then they are independent
    table = torch.bincount(first * 7 + second, minlength=49).view(7, 7)[:5, :5]
    assert stats.chi2_contingency(table.numpy()).pvalue > P_VALUE


def test_the_noise_is_standard_gumbel() -> None:
    noise = gumbel(torch.arange(4), torch.arange(4) + 9, torch.arange(50_000))
    assert stats.kstest(noise.flatten().numpy(), "gumbel_r").pvalue > P_VALUE
    assert noise.isfinite().all()


def test_the_noise_is_the_same_on_every_machine() -> None:
    # Given recorded values: a change would make stored reviews irreproducible
    tokens = torch.tensor([0, 5230, 128_255])
    noise = gumbel(torch.tensor([0, 42, (1 << 63) - 1]), torch.tensor([0, 7, 1149]), tokens)
    assert torch.allclose(noise, torch.tensor(RECORDED), atol=1e-5)


def test_noise_of_a_token_is_independent_of_other_tokens() -> None:
    seeds, positions = torch.tensor([3, 4]), torch.tensor([0, 9])
    whole = gumbel(seeds, positions, torch.arange(1000))
    some = torch.tensor([[7, 999, 0], [5, 5, 31]])
    assert torch.equal(gumbel(seeds, positions, some), whole.gather(1, some))


def test_single_row_draws_the_same_as_in_a_batch() -> None:
    seeds, positions = torch.tensor([3, 4, 5]), torch.tensor([0, 9, 2])
    batch = gumbel(seeds, positions, torch.arange(1000))
    for row in range(3):
        alone = gumbel(seeds[row : row + 1], positions[row : row + 1], torch.arange(1000))
        assert torch.equal(batch[row : row + 1], alone)


def test_greedy_rows_get_no_noise() -> None:
    scores, zero = SCORES[None], torch.zeros(1)
    tempered = apply_temperature(scores, zero)
    assert torch.equal(
        add_gumbel_noise(tempered, torch.tensor([1]), torch.tensor([1]), zero), scores
    )


def test_a_flat_distribution_keeps_the_likeliest_tokens() -> None:
    scores = torch.linspace(0, 1, 3 * MAX_NUCLEUS)[None]
    kept = apply_top_p(scores, torch.tensor([0.99])) > float("-inf")
    assert kept[0].nonzero().flatten().tolist() == list(range(2 * MAX_NUCLEUS, 3 * MAX_NUCLEUS))


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999, 1.0])
def test_top_p_keeps_the_fewest_tokens_that_hold_it(top_p: float) -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(20, 500, generator=generator) * 3
    kept = apply_top_p(scores, torch.full((20,), top_p)) > float("-inf")
    probability = scores.double().softmax(-1)
    mass = (probability * kept).sum(-1)
    smallest = torch.where(kept, probability, 1.0).amin(-1)
    assert (mass >= top_p - 1e-6).all()
    assert (top_p == 1.0) or (mass - smallest < top_p + 1e-6).all()
    assert (top_p < 1.0) or kept.all()


@settings(max_examples=60)
@given(
    st.floats(0.01, 0.9999),
    st.floats(0.1, 20.0),
    st.integers(1, 2 * MAX_NUCLEUS),
    st.integers(0, 99),
)
def test_noise_for_the_nucleus_alone_draws_the_same_tokens(
    top_p: float, spread: float, width: int, seed: int
) -> None:
    # Given rows of any shape, some of whose tokens the grammar forbids
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(8, width, generator=generator) * spread
    scores[:, 1::3] = float("-inf")
    seeds, positions, keep = torch.arange(8) + seed, torch.arange(8), torch.full((8,), top_p)
    noisy = add_gumbel_noise(apply_top_p(scores, keep), seeds, positions, torch.ones(8))
    assert torch.equal(sample_nucleus(scores, keep, seeds, positions), noisy.argmax(-1))
