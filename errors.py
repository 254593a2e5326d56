"""The errors of Referee, one class for each different reaction.

A class's docstring is its default message. `UserError` and `MissingPart` end a command with a
sentence; `RetryLater` and `GiveUp` decide whether a job is retried or fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import ValidationError


class RefereeError(Exception):
    """Something went wrong."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").split("\n", 1)[0])


class UserError(RefereeError):
    """The command cannot be carried out as it was given."""

    exit_code = 2


class MissingPart(RefereeError):
    """A part that this command needs is missing."""

    exit_code = 3


class RetryLater(RefereeError):
    """The job could not be done now and goes back to the queue, for `wait_s` seconds if given."""

    def __init__(self, message: str | None = None, *, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class EngineLost(RetryLater):
    """The engine stopped while the paper was in flight."""


class EngineCrashed(EngineLost):
    """The engine crashed with all papers in flight; any of them may be the cause."""


class NeverStarted(EngineLost):
    """The engine was lost before it started the paper: the paper is not the cause."""


class GiveUp(RefereeError):
    """The job cannot be done and fails; its error kind and message are stored."""

    def __init__(self, message: str | None = None, *, kind: str = "refused") -> None:
        super().__init__(message)
        #: Short machine-readable reason, stored as `job.error_kind`.
        self.kind = kind


class RequestRefused(GiveUp):
    """The engine refused the request."""


class PaperUnreadable(GiveUp):
    """The paper could not be read."""


def first_problem(error: ValidationError, whole: str = "file") -> str:
    """The first problem that pydantic found, as `key: problem` without a full stop.

    `whole` is used as the key of a problem that concerns the entire document.
    """
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"])) or whole
    unknown = first["type"] == "unexpected_keyword_argument"
    return f"{key}: {'this key is unknown' if unknown else first['msg'].lower().rstrip('.')}"
