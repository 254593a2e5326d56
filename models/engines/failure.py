"""What an engine keeps of an error: words, since an error keeps its frames' tensors alive."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from traceback import format_exception

import torch

from errors import EngineLost, RefereeError
from models.engines.request_queue import QueuedRequest

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepFailure:
    """What is left of an error of a step."""

    reason: str
    device_lost: bool
    out_of_memory: bool

    @classmethod
    def of(cls, error: Exception) -> StepFailure:
        """Write the error down in the log, as text: a log may keep what it is given."""
        _log.warning("a step failed\n%s", "".join(format_exception(error)))
        return cls(
            describe_error(error),
            device_lost=isinstance(error, torch.AcceleratorError),
            out_of_memory=isinstance(error, torch.OutOfMemoryError),
        )


def request_failure(work: QueuedRequest, error: Exception) -> RefereeError:
    """A failure of one request."""
    _log.warning("request %s failed\n%s", work.request.id, "".join(format_exception(error)))
    return EngineLost(f"generation failed: {describe_error(error)}")


def describe_error(error: Exception) -> str:
    """The error's kind and the first line of what it says."""
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]
