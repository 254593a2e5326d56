"""A calibration as a table, a plot in the terminal and rows for scripts."""

from __future__ import annotations

from typing import Any

from judge.calibration import Calibration, FillStatistics, SettingResult

#: Characters of a bar for a rate of 1.
_WIDTH = 40


def rows(found: Calibration) -> list[dict[str, Any]]:
    """A row a setting, the reference first."""
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


def table(found: Calibration) -> str:
    """A Markdown table, a line a setting."""
    keys = list(found.reference.empty)
    head = ["setting", *keys, "last three", "items", "variance", "distance", "F1 at equal counts"]
    lines = [head, ["---"] * len(head), _line(found.reference, "", "")]
    for each in found.tried:
        mark = " (closest)" if each is found.best else ""
        lines.append(_line(each.shape, f"{each.distance:.3f}{mark}", f"{each.f1:.3f}"))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _line(shape: FillStatistics, distance: str, score: str) -> list[str]:
    return [
        shape.label,
        *(f"{rate:.2f}" for rate in shape.empty.values()),
        f"{shape.last_three_empty:.2f}",
        f"{shape.mean_items:.1f}",
        f"{shape.variance_items:.1f}",
        distance,
        score,
    ]


def plot(found: Calibration) -> str:
    """Empty rates by aspect as bars, the reference's above each setting's."""
    shapes = [found.reference, *(each.shape for each in found.tried)]
    width = max(len(shape.label) for shape in shapes)
    lines: list[str] = []
    for key in found.reference.empty:
        lines.append(f"{key}: share of reviews that leave it empty")
        for shape in shapes:
            bar = "█" * round(_WIDTH * shape.empty[key])
            lines.append(f"  {shape.label:{width}} {shape.empty[key]:.2f} {bar}")
    return "\n".join(lines)
