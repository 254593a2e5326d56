"""A comparison's outcome as rows for a terminal and for scripts."""

from __future__ import annotations

import math
from typing import Any

from judge.report.figures import ComparisonFigures, MethodFigures
from judge.win_rates import WinRates


def rows(found: ComparisonFigures, **more: Any) -> list[dict[str, Any]]:
    """A row for each method's total and each of its aspects, the headline first."""
    record = found.record
    head = {
        "comparison": record.id,
        "a": record.a.label,
        "b": record.b.label,
        "reference": record.reference.label,
    }
    return [
        {
            **head,
            "method": method.method,
            "aspect": aspect,
            **standing_row(win_rates),
            **_items(method, aspect),
            **more,
        }
        for method in found.methods
        for aspect, win_rates in [(None, method.total), *method.aspects.items()]
    ]


def finite(value: float) -> float | None:
    """The number; None for what is none, as when every paper is invalid: JSON has no NaN."""
    return value if math.isfinite(value) else None


def standing_row(win_rates: WinRates) -> dict[str, Any]:
    """Counts, score and test as columns."""
    return {
        "n": win_rates.n,
        "win": win_rates.win,
        "tie": win_rates.tie,
        "lose": win_rates.lose,
        "inconsistent": win_rates.inconsistent,
        "invalid": win_rates.invalid,
        "score": finite(win_rates.score.value),
        "low": finite(win_rates.score.low),
        "high": finite(win_rates.score.high),
        "p_mcnemar": win_rates.test.exact,
    }


def _items(method: MethodFigures, aspect: str | None) -> dict[str, Any]:
    if aspect is not None:
        return {"a_items": None, "b_items": None, "a_hits": None, "b_hits": None}
    return {
        "a_items": method.a_items,
        "b_items": method.b_items,
        "a_hits": method.a_hits,
        "b_hits": method.b_hits,
    }


def sentences(found: ComparisonFigures) -> list[str]:
    """The outcome in plain lines: who, each method's total, what must be known of it."""
    record = found.record
    lines = [
        f"Comparison {record.id}: {record.a.label} against {record.b.label}, reference "
        f"{record.reference.label}, {found.n_papers} papers."
    ]
    lines += [line(method) for method in found.methods]
    if found.disagreements and found.headline is not None:
        others = ", ".join(found.disagreements)
        lines.append(f"{others} and {found.headline.method} disagree on who is ahead.")
    if found.excluded:
        reasons = ", ".join(f"{n} {reason}" for reason, n in found.excluded.items())
        lines.append(f"Left out because a rival was trained on them: {reasons}.")
    for split, uses in record.split_uses.items():
        lines.append(f"The {split} split has now been looked at by {uses} comparisons.")
    if found.n_unmatched:
        lines.append(f"{found.n_unmatched} papers are not matched yet: run the command again.")
    return lines


def line(method: MethodFigures) -> str:
    """A method's total in one line."""
    total = method.total
    text = (
        f"{method.method:16} win {total.win}, tie {total.tie}, lose {total.lose} of {total.n}; "
        f"score {100 * total.score.value:.1f} % "
        f"[{100 * total.score.low:.1f}, {100 * total.score.high:.1f}]"
    )
    if method.a_items is not None and method.b_items is not None:
        text += f"; items {method.a_items:.1f} : {method.b_items:.1f}"
    if method.a_hits is not None and method.b_hits is not None:
        text += f"; hits {method.a_hits:.2f} : {method.b_hits:.2f}"
    if total.invalid:
        text += f"; {total.invalid} invalid"
    return text
