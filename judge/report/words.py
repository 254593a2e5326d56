"""Wording of reports: names of methods, roles and metrics, and sentences about the figures."""

from __future__ import annotations

import math

from db.schema_judging import HEADLINE, MATCH
from judge.report.figures import ComparisonFigures
from judge.statistics import MIN_PAPERS, Estimate
from judge.win_rates import Decision, WinRates, papers_needed

_METRICS = {
    "recall": "Recall",
    "precision": "Precision (hit rate)",
    "f1": "F1",
    "jaccard": "Jaccard",
    "dice": "Dice",
    "szymkiewicz_simpson": "Szymkiewicz-Simpson",
    "pseudo_jaccard": "Pseudo-Jaccard",
}
_EXCLUDED = {
    "trained_hash": "a rival was trained on the same text",
    "trained_source": "a rival was trained on the same source",
    "trained_title": "a rival was trained on a paper with nearly the same title",
}


def aspect_name(key: str, comparison: ComparisonFigures) -> str:
    """Short name of an aspect; the key itself when none of the sides' sets has it any more."""
    return comparison.aspect_labels.get(key, key)


def metric_name(key: str) -> str:
    """Usual name of a set metric."""
    return _METRICS[key]


def exclusion(key: str) -> str:
    """Reason why papers were excluded."""
    return _EXCLUDED.get(key, key)


def method_name(method: str) -> str:
    """Name of a method of judging."""
    if method == HEADLINE:
        return "Human points hit, equal item counts"
    if method == MATCH:
        return "Human points hit, all items"
    kind, _, rest = method.partition(":")
    model = rest.rpartition(":")[0] or rest
    length = ", equal length" if kind == "judge_equal" else ""
    return f"Judge {model}, both orders{length}" if rest else method


def role_name(role: str, comparison: ComparisonFigures) -> str:
    """What is compared in a row of the overlap table."""
    record = comparison.record
    return {
        "a": record.a.label,
        "b": record.b.label,
        "null_a": f"Chance: {record.a.label} against another paper",
        "null_b": f"Chance: {record.b.label} against another paper",
        "ceiling": "People: one human reviewer against another",
    }[role]


def number(value: float | None, digits: int = 1) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as a percentage."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def interval(estimate: Estimate) -> str:
    """An interval of a share, in percent."""
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return ""
    return f"[{100 * estimate.low:.1f},\N{NO-BREAK SPACE}{100 * estimate.high:.1f}]"


def bounds(estimate: Estimate) -> str:
    """An interval of a number."""
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return ""
    return f"[{estimate.low:.2f},\N{NO-BREAK SPACE}{estimate.high:.2f}]"


def p_value(p: float) -> str:
    """A p-value; "< 0.001" for smaller ones."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_is(p: float) -> str:
    """A p-value as part of a sentence."""
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def verdict(comparison: ComparisonFigures, decision: Decision | None) -> str:
    """The headline as one sentence."""
    a, b = comparison.record.a.label, comparison.record.b.label
    if decision is None or comparison.headline is None or not comparison.headline.total.n:
        return f"{a} and {b} have not been judged yet."
    total = comparison.headline.total
    claim = {
        "better": f"{a} is better than {b}",
        "worse": f"{a} is worse than {b}",
        "undecided": f"{a} against {b} is undecided",
    }[decision.direction]
    return (
        f"{claim}: score {percent(total.score.value)}, 95 % interval {interval(total.score)}, "
        f"over {total.n} papers; {_p_of(decision)}.{_what_would_decide(total, decision)}"
    )


def _p_of(decision: Decision) -> str:
    over = f" after Holm's adjustment over {decision.rows} comparisons"
    return p_is(decision.p_holm) + (over if decision.rows > 1 else "")


def _what_would_decide(total: WinRates, decision: Decision) -> str:
    if decision.direction != "undecided":
        return ""
    needed = papers_needed(total, 0.5, decision.rows)
    if needed is None:
        return ""
    return f" If this is the true score, about {needed} papers are needed to decide."


def lowered(comparison: ComparisonFigures) -> str | None:
    """Report that fewer papers than usual were allowed; None if not."""
    allowed = comparison.record.config.get("min_papers")
    if not isinstance(allowed, int) or allowed >= MIN_PAPERS:
        return None
    return f"fewer than {MIN_PAPERS} papers allowed (--min-papers {allowed})"


def disagreement(comparison: ComparisonFigures) -> str | None:
    """Name the methods whose direction is opposite to the headline's; None if there are none."""
    if not comparison.disagreements:
        return None
    others = "; ".join(method_name(method) for method in comparison.disagreements)
    return f"Not all methods agree. Opposite direction to the headline: {others}."


def bracket(comparison: ComparisonFigures) -> str | None:
    """Report whether chance and people bracket the rivals; None if that was not measured."""
    if comparison.bracketed is None:
        return None
    if comparison.bracketed:
        return "Both rivals are above chance and not above people, as expected."
    return "A rival is outside the range from chance to people: interpret the figures with caution."
