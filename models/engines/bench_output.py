"""How the lines of the measuring program's standard error stream begin."""

from __future__ import annotations

PROGRESS, ERROR = "progress: ", "error: "
