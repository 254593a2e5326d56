"""Runs programs with Triton's interpreter, which needs no GPU."""

from __future__ import annotations

import os
import subprocess
import sys

from testing import ROOT


def interpreted(program: str) -> list[str]:
    """Run a program in a process of its own; gives the words that it printed.

    The interpreter is chosen when Triton's functions are defined, so not in this process.
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        check=True,
    )
    return done.stdout.split()
