"""Layout of the win/tie/lose bar charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from judge.statistics import Estimate
from judge.win_rates import WinRates


@dataclass(frozen=True)
class ChartLayout:
    """Dimensions of a chart in SVG units; labels are beside the bars, or above them."""

    width: int
    label_width: int
    row_height: int

    @property
    def stacked(self) -> bool:
        """Whether labels are above their bars."""
        return self.label_width == 0


#: For desktop screens and for phones, on which the text must not shrink with the drawing.
WIDE = ChartLayout(width=860, label_width=230, row_height=54)
NARROW = ChartLayout(width=344, label_width=0, row_height=76)
#: Space on the right for the figures, in the wide layout.
_FIGURES = 150
_BAR_HEIGHT = 22


@dataclass(frozen=True)
class Segment:
    """One colour of a bar; `kind` is win, tie or lose."""

    kind: str
    x: float
    width: float
    count: int


@dataclass(frozen=True)
class Bar:
    """A row: its segments, and its score with the interval, on the same axis."""

    label: str
    y: float
    segments: tuple[Segment, ...]
    score: Estimate
    score_x: float
    low_x: float
    high_x: float
    emphasised: bool


@dataclass(frozen=True)
class Chart:
    """A chart of bars; neither rival is better at the middle of the axis."""

    layout: ChartLayout
    height: int
    left: float
    right: float
    bar_height: int
    bars: tuple[Bar, ...]

    @property
    def middle(self) -> float:
        """The position of 50 %."""
        return (self.left + self.right) / 2


def chart(rows: Sequence[tuple[str, WinRates]], layout: ChartLayout) -> Chart:
    """Lay out one bar per row, the last one being the total; skip rows without papers."""
    left = float(layout.label_width)
    right = float(layout.width - (0 if layout.stacked else _FIGURES))
    shown = [(label, each) for label, each in rows if each.n]
    return Chart(
        layout=layout,
        height=len(shown) * layout.row_height + 24,
        left=left,
        right=right,
        bar_height=_BAR_HEIGHT,
        bars=tuple(
            _bar(label, each, left, right, row * layout.row_height, row == len(shown) - 1)
            for row, (label, each) in enumerate(shown)
        ),
    )


def _bar(
    label: str, win_rates: WinRates, left: float, right: float, y: float, emphasised: bool
) -> Bar:
    length, x, segments = right - left, left, []
    for kind, count in (("win", win_rates.win), ("tie", win_rates.tie), ("lose", win_rates.lose)):
        width = length * count / win_rates.n
        segments.append(Segment(kind, x, width, count))
        x += width
    score, low, high = (
        left + length * share
        for share in (win_rates.score.value, win_rates.score.low, win_rates.score.high)
    )
    return Bar(label, y, tuple(segments), win_rates.score, score, low, high, emphasised)
