"""What the tests and the benchmarks share: servers, small models, tokenizers, a scripted engine."""

from __future__ import annotations

from pathlib import Path

#: The checkout that this file is in.
ROOT = Path(__file__).resolve().parent.parent
