"""Runnable measurements; their dated results are in results/."""

from __future__ import annotations

from pathlib import Path

#: The checkout: measurements run from one.
PROJECT_ROOT = Path(__file__).resolve().parent.parent
