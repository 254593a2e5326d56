"""Start Python subprocesses without the working directory on their module search path.

`python -m` and `python -c` put it first, so that a folder named `models` there would be imported
instead of Referee's package.
"""

from __future__ import annotations

import os
import sys


def python_command(module: str, *arguments: str) -> list[str]:
    """Command line that runs a module in a Python of this environment."""
    return [sys.executable, "-P", "-m", module, *arguments]


def isolate_subprocesses() -> None:
    """Do the same for Python processes that libraries start, such as multiprocessing and torch."""
    os.environ["PYTHONSAFEPATH"] = "1"
