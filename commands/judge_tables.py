"""Results of the judge as rows for scripts and as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from judge.calibration import Calibration, FillStatistics, SettingResult
from judge.checkpoint_choice import Checkpoint, CheckpointChoice, CheckpointComparison
from judge.evaluation import EvaluationResult
from judge.report.figures import ComparisonFigures, MethodFigures
from judge.report.words import p_is
from judge.win_rates import WinRates

#: Characters of a bar for a rate of 1.
_BAR_WIDTH = 40


def comparison_rows(found: ComparisonFigures, **more: Any) -> list[dict[str, Any]]:
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
            **win_rate_columns(win_rates),
            **_item_columns(method, aspect),
            **more,
        }
        for method in found.methods
        for aspect, win_rates in [(None, method.total), *method.aspects.items()]
    ]


def finite(value: float) -> float | None:
    """The number, or None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def win_rate_columns(win_rates: WinRates) -> dict[str, Any]:
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


def _item_columns(method: MethodFigures, aspect: str | None) -> dict[str, Any]:
    if aspect is not None:
        return {"a_items": None, "b_items": None, "a_hits": None, "b_hits": None}
    return {
        "a_items": method.a_items,
        "b_items": method.b_items,
        "a_hits": method.a_hits,
        "b_hits": method.b_hits,
    }


def comparison_sentences(found: ComparisonFigures) -> list[str]:
    """The outcome in lines of text: the sides, each method's total, and remarks."""
    record = found.record
    lines = [
        f"Comparison {record.id}: {record.a.label} against {record.b.label}, reference "
        f"{record.reference.label}, {found.n_papers} papers."
    ]
    lines += [method_line(method) for method in found.methods]
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


def method_line(method: MethodFigures) -> str:
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


def checkpoint_rows(found: CheckpointChoice) -> list[dict[str, Any]]:
    """A row for each checkpoint; the first has the lowest validation loss and no comparison."""
    rivals = {id(rival.checkpoint): rival for rival in found.rivals}
    checkpoints = [found.incumbent, *(rival.checkpoint for rival in found.rivals)]
    return [
        {
            "step": each.step,
            "validation_loss": finite(each.validation_loss),
            "adapter_sha256": each.adapter_sha256,
            "reviewer": each.version.name,
            "chosen": each is found.best,
            **_comparison_columns(rivals.get(id(each))),
        }
        for each in checkpoints
    ]


def _comparison_columns(rival: CheckpointComparison | None) -> dict[str, Any]:
    if rival is None or rival.figures is None:
        return {"comparison": rival and rival.comparison}
    figures = rival.figures
    hits = {"hits": figures.a_hits, "incumbents_hits": figures.b_hits}
    return {"comparison": rival.comparison, **win_rate_columns(figures.total), **hits}


def checkpoint_sentences(found: CheckpointChoice, name: str) -> list[str]:
    """A line for each checkpoint, and the command that promotes the chosen one for `name`."""
    best = found.best
    return [
        f"{_named(found.incumbent)}  the lowest validation loss; the others against it:",
        *(f"{_named(rival.checkpoint)}  {_against(rival)}" for rival in found.rivals),
        f"Chosen: step {best.step}. Use it: referee adapter promote {best.adapter_sha256[:12]} "
        f"--reviewer {name}",
    ]


def _named(checkpoint: Checkpoint) -> str:
    loss = checkpoint.validation_loss
    return f"step {checkpoint.step:<6}" + (f" loss {loss:.4f}" if math.isfinite(loss) else "")


def _against(rival: CheckpointComparison) -> str:
    return method_line(rival.figures) if rival.figures else "no paper could be matched"


def calibration_rows(found: Calibration) -> list[dict[str, Any]]:
    """A row for each setting, after the reference's."""
    best = found.best
    head = {"mode": None, "coefficient": None, "distance": 0.0, "f1_equal": None, "best": False}
    return [
        {**head, **_shape(found.reference)},
        *({**_setting(each), **_shape(each.shape), "best": each is best} for each in found.tried),
    ]


def _setting(each: SettingResult) -> dict[str, Any]:
    return {
        "mode": each.setting.mode,
        "coefficient": each.setting.coefficient,
        "distance": each.distance,
        "f1_equal": each.f1,
    }


def _shape(shape: FillStatistics) -> dict[str, Any]:
    return {
        "label": shape.label,
        "reviews": shape.n_reviews,
        "mean_items": shape.mean_items,
        "variance_items": shape.variance_items,
        "last_three_empty": shape.last_three_empty,
        "empty": dict(shape.empty),
    }


def calibration_table(found: Calibration) -> str:
    """A Markdown table with a line for each setting."""
    keys = list(found.reference.empty)
    head = ["setting", *keys, "last three", "items", "variance", "distance", "F1 at equal counts"]
    lines = [head, ["---"] * len(head), _table_cells(found.reference, "", "")]
    for each in found.tried:
        mark = " (closest)" if each is found.best else ""
        lines.append(_table_cells(each.shape, f"{each.distance:.3f}{mark}", f"{each.f1:.3f}"))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _table_cells(shape: FillStatistics, distance: str, score: str) -> list[str]:
    return [
        shape.label,
        *(f"{rate:.2f}" for rate in shape.empty.values()),
        f"{shape.last_three_empty:.2f}",
        f"{shape.mean_items:.1f}",
        f"{shape.variance_items:.1f}",
        distance,
        score,
    ]


def calibration_plot(found: Calibration) -> str:
    """Empty rates by aspect as bars, the reference's above each setting's."""
    shapes = [found.reference, *(each.shape for each in found.tried)]
    width = max(len(shape.label) for shape in shapes)
    lines: list[str] = []
    for key in found.reference.empty:
        lines.append(f"{key}: share of reviews that leave it empty")
        for shape in shapes:
            bar = "█" * round(_BAR_WIDTH * shape.empty[key])
            lines.append(f"  {shape.label:{width}} {shape.empty[key]:.2f} {bar}")
    return "\n".join(lines)


def evaluation_line(finding: EvaluationResult, gate: float) -> str:
    """The result against one reviewer, in one line."""
    if finding.method is None:
        return f"undecided against {finding.rival}: no paper could be matched"
    text = (
        f"{finding.direction} than {finding.rival}"
        if finding.direction != "undecided"
        else f"undecided against {finding.rival}"
    )
    text += (
        f": score {100 * finding.score:.1f} %, 95 % interval [{100 * finding.low:.1f}, "
        f"{100 * finding.high:.1f}], {p_is(finding.p_holm)} (Holm), n {finding.n}, "
        f"by {finding.method}, "
        f"{'passes' if finding.passed else 'does not pass'} the gate of {gate:g}"
    )
    if finding.papers_needed is not None:
        text += f"; about {finding.papers_needed} papers would decide"
    return text


def evaluation_rows(found: Sequence[EvaluationResult], gate: float) -> list[dict[str, Any]]:
    """A row for each reviewer compared with; every method's rows are under `methods`."""
    return [
        {
            "rival": f.rival,
            "method": f.method,
            "direction": f.direction,
            "score": finite(f.score),
            "low": finite(f.low),
            "high": finite(f.high),
            "n": f.n,
            "gate": gate,
            "passed": f.passed,
            "p_holm": finite(f.p_holm),
            "papers_needed": f.papers_needed,
            "comparison": f.figures.record.id,
            "excluded": dict(f.figures.excluded),
            "split_uses": dict(f.figures.record.split_uses),
            "methods": comparison_rows(f.figures),
        }
        for f in found
    ]
