"""Draw the corpus' statistics as one SVG picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.data.corpus_cleaning import Statistics

#: Pixels.
_WIDTH, _LABEL, _ROW, _BAR = 860, 210, 22, 520
_BINS = 30
_KEPT, _OUT, _LENGTH = "#2b6cb0", "#c05621", "#4a5568"


def draw(found: Statistics) -> str:
    """Counts by source, flags by rule, and lengths of texts."""
    blocks = [
        _bars("Papers and reviews kept", list(_kept(found)), _KEPT),
        _bars("Flagged by rule", [(rule, n, n) for rule, n in found.rules.items()], _OUT),
        _histogram("Papers by length in characters", found.paper_chars),
        _histogram("Reviews by length in characters", found.review_chars),
    ]
    height = sum(size for size, _ in blocks)
    parts, top = [], 0
    for size, block in blocks:
        parts.append(f'<g transform="translate(0 {top})">{block}</g>')
        top += size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="#fff"/>'
        + "".join(parts)
        + "</svg>\n"
    )


def _kept(found: Statistics) -> Iterator[tuple[str, int, int]]:
    for source in found.sources:
        yield f"{source.source} papers", source.papers_kept, source.papers
        yield f"{source.source} reviews", source.reviews_kept, source.reviews


def _bars(title: str, rows: Sequence[tuple[str, int, int]], colour: str) -> tuple[int, str]:
    """Bars of (name, part, whole), the whole drawn pale behind its part."""
    most = max((whole for _, _, whole in rows), default=0) or 1
    lines = [_title(title)]
    for number, (name, part, whole) in enumerate(rows):
        y = 34 + number * _ROW
        label = str(part) if part == whole else f"{part} of {whole}"
        lines += [
            f'<text x="{_LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            _rect(_LABEL, y, _BAR * whole / most, _ROW - 5, colour, opacity=0.25),
            _rect(_LABEL, y, _BAR * part / most, _ROW - 5, colour),
            f'<text x="{_LABEL + _BAR * whole / most + 6:.1f}" y="{y + 14}">{label}</text>',
        ]
    return 50 + len(rows) * _ROW, "".join(lines)


def _histogram(title: str, values: Sequence[int]) -> tuple[int, str]:
    if not values:
        return 0, ""
    width = max(1, (values[-1] + _BINS) // _BINS)
    bins = [0] * _BINS
    for value in values:
        bins[min(_BINS - 1, value // width)] += 1
    most, step, base = max(bins), _BAR / _BINS, 130
    lines = [_title(title)]
    for number, count in enumerate(bins):
        height = 90 * count / most
        lines.append(_rect(_LABEL + number * step, base - height, step - 2, height, _LENGTH))
    median = values[len(values) // 2]
    for value, anchor in ((0, "start"), (median, "middle"), (width * _BINS, "end")):
        x = _LABEL + _BAR * value / (width * _BINS)
        name = f"median {value:,}" if anchor == "middle" else f"{value:,}"
        lines.append(f'<text x="{x:.1f}" y="{base + 16}" text-anchor="{anchor}">{name}</text>')
    return 165, "".join(lines)


def _title(text: str) -> str:
    return f'<text x="12" y="22" font-weight="bold">{escape(text)}</text>'


def _rect(
    x: float, y: float, width: float, height: float, colour: str, *, opacity: float = 1
) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{colour}" fill-opacity="{opacity}"/>'
    )
