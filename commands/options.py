"""Options that several commands share, and their types."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

#: Seconds of the units that a duration may be given in.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[float]):
    """A time span such as 90s, 15m, 24h or 2d; seconds in Python."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration such as 90s, 15m, 24h or 2d", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


def json_option(command: F) -> F:
    """Add --json: one JSON document on stdout and nothing else."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def reviewer_option(command: F) -> F:
    """Add --reviewer NAME."""
    text = "Reviewer that writes the reviews (default: REFEREE_REVIEWER, else llama31-7)."
    return click.option("--reviewer", "reviewer_name", metavar="NAME", help=text)(command)
