"""Tables of figures, which commands print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows under column names; numbers are right-aligned."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
