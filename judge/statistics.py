"""Confidence intervals and tests for counts of wins, hits and agreements.

`judge.bootstrap` has resampling over papers, `judge.agreement` agreement and rank correlations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binom, binomtest, norm

#: Confidence level of all printed intervals.
LEVEL = 0.95
#: The largest p-value, after Holm's adjustment, at which a difference is significant.
ALPHA = 0.05
#: Papers that a comparison needs unless the user asks for fewer: the 95 % interval of a score of
#: 50 % is 36 to 64 % at 50 papers.
MIN_PAPERS = 50
#: Statistical power for which sample sizes are computed.
POWER = 0.8


@dataclass(frozen=True)
class Interval:
    """A confidence interval; `low <= high`."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval, over `n` papers."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class PairedTest:
    """Two-sided p-values of a paired comparison by McNemar's test, exact and mid-p."""

    exact: float
    mid_p: float


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share; [0, 1] for n = 0."""
    if n == 0:
        return Interval(0.0, 1.0)
    found = binomtest(successes, n).proportion_ci(level, method="wilson")
    return Interval(float(found.low), float(found.high))


def share(successes: int, n: int) -> Estimate:
    """A share with Wilson's interval; NaN for n = 0."""
    interval = wilson(successes, n)
    return Estimate(successes / n if n else math.nan, interval.low, interval.high, n)


def mcnemar(only_a: int, only_b: int) -> PairedTest:
    """Test whether two contestants succeed on equally many papers.

    `only_a` counts the papers where a succeeded and b did not. With wins and losses of a PK, ties
    left out, this is the sign test. The mid-p form is Fagerland, Lydersen and Laake's (BMC Medical
    Research Methodology 13:91, 2013): the exact test is conservative, its mid-p is not.
    """
    discordant = only_a + only_b
    if discordant == 0:
        return PairedTest(1.0, 1.0)
    exact = float(binomtest(only_a, discordant).pvalue)
    if only_a == only_b:
        # Doubling one tail would count the central term twice.
        return PairedTest(1.0, 1.0 - 0.5 * float(binom.pmf(only_a, discordant, 0.5)))
    return PairedTest(exact, exact - float(binom.pmf(only_a, discordant, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple comparisons (Holm 1979), in the order given."""
    count = len(p_values)
    order = sorted(range(count), key=p_values.__getitem__)
    adjusted, highest = [0.0] * count, 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def papers_to_decide(
    score: float, deviation: float, gate: float, *, rows: int = 1, power: float = POWER
) -> int:
    """The number of papers at which the lower bound would pass the gate, if the score were exact.

    `deviation` is the standard deviation of the papers' scores; the bound is one of `rows`, each
    at its share of ALPHA. Raises ValueError unless the score is above the gate.
    """
    if score <= gate:
        raise ValueError("a score at or below the gate never passes it")
    z = float(norm.isf(ALPHA / rows / 2)) + float(norm.ppf(power))
    return max(2, math.ceil((z * deviation / (score - gate)) ** 2))
