"""How long-running functions report their progress to the caller."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

#: Called with the number of finished units and the total.
Progress = Callable[[int, int], None]
#: Opens a named step; its context manager gives the step's Progress.
Steps = Callable[[str], AbstractContextManager[Progress]]
