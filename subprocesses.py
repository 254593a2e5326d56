"""How Python subprocesses are started: with the working directory off their module search path.

`python -m` and `python -c` put it first, so that a folder named `models` there would be imported
in place of Referee's own package.
"""

from __future__ import annotations

import os
import sys


def python_command(module: str, *arguments: str) -> list[str]:
    """Command line that runs a module in a Python of this environment."""
    return [sys.executable, "-P", "-m", module, *arguments]


def isolate_subprocesses() -> None:
    """Do the same for Python processes that libraries start: multiprocessing's, torch's."""
    os.environ["PYTHONSAFEPATH"] = "1"
