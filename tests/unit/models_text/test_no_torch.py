"""The text side of models/ works where no torch is wanted: the command line and the cpu worker."""

from __future__ import annotations

import subprocess
import sys

import pytest

from testing import ROOT

MODULES = [
    "text.templates",
    "text.prompt",
    "text.parsing",
    "text.headings",
    "text.gate",
    "text.reviewer",
    "engines.chat",
    "engines.api",
    "engines.sentence_embedding",
    "text.cost",
]


@pytest.mark.parametrize("module", MODULES)
def test_import_does_not_import_torch(module: str) -> None:
    program = f"import sys, models.{module}; sys.exit('torch' in sys.modules)"

    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60)

    assert finished.returncode == 0
