"""Intervals and tests compared with scipy and published figures, and their coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from judge import agreement, bootstrap, statistics
from judge.bootstrap import resample_weights
from judge.statistics import holm, mcnemar, wilson

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8)
ratings = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=3, max_size=30)


@given(counts)
@settings(max_examples=40)
def test_wilson_matches_the_published_formula_and_contains_the_share(
    count: tuple[int, int],
) -> None:
    k, n = count
    p, z = k / n, 1.959963984540054
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    found = wilson(k, n)
    assert found.low == pytest.approx(max(0.0, middle - half), abs=1e-9)
    assert found.high == pytest.approx(min(1.0, middle + half), abs=1e-9)
    assert found.low - 1e-12 <= p <= found.high + 1e-12


def test_wilson_gives_the_published_intervals_of_a_rivals_figures() -> None:
    assert _percent(wilson(240, 400)) == (55.1, 64.7)
    assert _percent(wilson(222, 400)) == (50.6, 60.3)


def test_mcnemar_gives_the_published_p_values() -> None:
    # Fagerland and others 2013: 1 against 7 discordant pairs.
    found = mcnemar(1, 7)
    assert found.exact == pytest.approx(0.0703, abs=5e-5)
    assert found.mid_p == pytest.approx(0.0391, abs=5e-5)
    assert mcnemar(0, 0).exact == 1


@given(st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=40)
def test_mcnemar_is_symmetric(a: int, b: int) -> None:
    assert mcnemar(a, b).exact == pytest.approx(mcnemar(b, a).exact)
    assert 0 <= mcnemar(a, b).mid_p <= mcnemar(a, b).exact <= 1
    if a + b:
        assert mcnemar(a, b).exact == pytest.approx(stats.binomtest(a, a + b).pvalue)


@given(p_values)
def test_holm_keeps_the_order_and_is_between_uncorrected_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    for one, mended in zip(p, adjusted, strict=True):
        assert one <= mended <= min(1.0, len(p) * one) or mended == max(adjusted)
    for (p1, a1), (p2, a2) in itertools.combinations(zip(p, adjusted, strict=True), 2):
        assert (p1 - p2) * (a1 - a2) >= 0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_sample_sizes_are_those_of_the_textbook() -> None:
    assert statistics.papers_to_decide(0.55, 0.5, 0.5) == 785
    # One of eight rows: z of 0.025 / 8 is 2.7344, of 80 % power 0.8416.
    assert statistics.papers_to_decide(0.55, 0.5, 0.5, rows=8) == 1279
    with pytest.raises(ValueError, match="never"):
        statistics.papers_to_decide(0.5, 0.5, 0.5)


@pytest.mark.parametrize("p", [0.1, 0.125, 0.5, 0.81])
def test_wilson_covers_a_true_share_in_93_to_97_percent(p: float) -> None:
    n = 100
    covered = [p in wilson(k, n) for k in range(n + 1)]
    assert 0.93 <= stats.binom.pmf(np.arange(n + 1), n, p)[covered].sum() <= 0.97


@pytest.mark.parametrize("p", [0.1, 0.5, 0.81])
def test_the_bootstrap_covers_a_true_share_in_93_to_97_percent(p: float) -> None:
    n, weights = 100, resample_weights(100)
    covered = []
    for k in range(n + 1):
        means = bootstrap.mean((np.arange(n) < k).astype(float))(weights)
        low, high = np.quantile(means, [0.025, 0.975])
        covered.append(low - 1e-9 <= p <= high + 1e-9)
    assert 0.93 <= stats.binom.pmf(np.arange(n + 1), n, p)[covered].sum() <= 0.97


def test_the_bootstrap_covers_a_true_score_with_ties_in_93_to_97_percent() -> None:
    generator, weights = np.random.default_rng(7), resample_weights(120)
    samples = generator.choice([1, 0.5, 0], p=[0.45, 0.3, 0.25], size=(2000, 120))
    low, high = np.quantile(weights @ samples.T / 120, [0.025, 0.975], axis=0)
    assert 0.93 <= ((low <= 0.6) & (high >= 0.6)).mean() <= 0.97


def test_a_bootstrap_is_repeatable_paired_and_agrees_with_scipys() -> None:
    values = np.random.default_rng(1).beta(2, 3, 80)
    ours = bootstrap.bootstrap(bootstrap.mean(values), 80)
    assert ours == bootstrap.bootstrap(bootstrap.mean(values), 80)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=2)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.005)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.005)
    # A constant difference of 0.1 is 0.1 in every resample.
    weights = resample_weights(80)
    ahead = bootstrap.mean(values)(weights) - bootstrap.mean(values - 0.1)(weights)
    assert ahead == pytest.approx(0.1)


def test_strata_keep_their_number_of_papers() -> None:
    strata = ["iclr"] * 30 + ["neurips"] * 10
    weights = resample_weights(40, resamples=50, strata=strata)
    assert (weights[:, :30].sum(axis=1) == 30).all()
    assert (weights[:, 30:].sum(axis=1) == 10).all()


def test_interval_of_all_wins_has_a_nonzero_width() -> None:
    assert bootstrap.mean_share([1.0] * 20).low == pytest.approx(wilson(20, 20).low)
    assert bootstrap.mean_share([0.5] * 20).low == 0.5
    assert math.isnan(bootstrap.mean_share([]).value)


@given(ratings)
@settings(max_examples=40)
def test_the_rank_correlation_is_scipys_on_the_data_and_on_every_resample(
    pairs: list[tuple[int, int]],
) -> None:
    x, y = np.array(pairs, dtype=float).T
    weights = np.vstack([np.ones(len(x)), resample_weights(len(x), resamples=3, seed=5)])
    ours = agreement.spearman(x, y)(weights)
    for value, drawn in zip(ours, weights.astype(int), strict=True):
        a, b = np.repeat(x, drawn), np.repeat(y, drawn)
        if len(set(a)) > 1 and len(set(b)) > 1:
            assert value == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)
        else:
            assert math.isnan(value)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
@settings(max_examples=40)
def test_auc_is_mann_whitneys_u(rows: list[tuple[int, bool]]) -> None:
    up, down = ([score for score, positive in rows if positive is kind] for kind in (True, False))
    found = agreement.auc(*zip(*rows, strict=True))(np.ones((1, len(rows))))[0]
    if not up or not down:
        assert math.isnan(found)
        return
    expected = stats.mannwhitneyu(up, down).statistic / (len(up) * len(down))
    assert found == pytest.approx(expected)


def test_rows_are_resampled_by_whole_papers() -> None:
    # Given one paper that the scores rank rightly and one that they rank wrongly
    rows = agreement.auc([1.0, 0.0, 0.0, 1.0], [True, False, True, False])
    papers = bootstrap.over_groups(rows, [0, 0, 1, 1])
    found = papers(np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
    assert found == pytest.approx([1.0, 0.0, 0.5])


def test_cohens_kappa_gives_the_published_value() -> None:
    a = ["yes"] * 25 + ["no"] * 25
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert _value(agreement.cohen_kappa(a, b), 50) == pytest.approx(0.4)


@given(st.lists(st.integers(0, 2), min_size=4, max_size=30))
def test_a_judge_agrees_with_itself(labels: list[int]) -> None:
    own = _value(agreement.cohen_kappa(labels, labels), len(labels))
    assert math.isnan(own) if len(set(labels)) == 1 else own == pytest.approx(1)


def _value(statistic: bootstrap.Statistic, n: int) -> float:
    return float(statistic(np.ones((1, n)))[0])


def _percent(interval: statistics.Interval) -> tuple[float, float]:
    return round(100 * interval.low, 1), round(100 * interval.high, 1)
