"""Draw a run's losses as an SVG picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _MARGIN = 720, 360, 48
_COLOURS = {"loss": "#4878a8", "validation_loss": "#c44e52"}
_NAMES = {"loss": "training loss", "validation_loss": "validation loss"}


def draw(history: Sequence[Mapping[str, float]], title: str, chosen_step: int) -> str:
    """Training and validation loss by step, the chosen step marked."""
    lines = {
        name: [(values["step"], values[name]) for values in history if name in values]
        for name in _COLOURS
    }
    points = [point for line in lines.values() for point in line]
    if not points:
        return _document([], title)
    right = max(step for step, _ in points)
    low, high = min(loss for _, loss in points), max(loss for _, loss in points)
    height = (high - low) or 1.0

    def place(step: float, loss: float) -> tuple[float, float]:
        x = _MARGIN + (_WIDTH - 2 * _MARGIN) * step / right
        return x, _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * (loss - low) / height

    parts = [_axis(right, low, high)]
    for number, (name, line) in enumerate(lines.items()):
        parts.append(_line([place(*point) for point in line], _COLOURS[name]))
        parts.append(_text(_WIDTH - 170, 40 + 16 * number, _NAMES[name], _COLOURS[name]))
    x, _ = place(chosen_step, low)
    parts.append(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_MARGIN}" y2="{_HEIGHT - _MARGIN}" '
        'stroke="#888" stroke-dasharray="4 3"/>'
    )
    parts.append(_text(x + 4, _MARGIN + 10, f"step {chosen_step}", "#666"))
    return _document(parts, title)


def _axis(right: float, low: float, high: float) -> str:
    bottom, left = _HEIGHT - _MARGIN, _MARGIN
    return "".join(
        (
            f'<path d="M{left} {_MARGIN}V{bottom}H{_WIDTH - _MARGIN}" fill="none" stroke="#444"/>',
            _text(left - 40, _MARGIN + 4, f"{high:.2f}"),
            _text(left - 40, bottom, f"{low:.2f}"),
            _text(left, bottom + 18, "0"),
            _text(_WIDTH - _MARGIN - 60, bottom + 18, f"step {right:.0f}"),
        )
    )


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
    marks = f'<g fill="{colour}">{dots}</g>' if len(points) < 60 else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>{marks}'


def _text(x: float, y: float, text: str, colour: str = "#444") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}">{escape(text)}</text>'


def _document(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
        f"{_text(_MARGIN, 24, title, '#222')}{''.join(parts)}</svg>\n"
    )
