"""Writes docs/cli.md from the program's own --help, so that it cannot rot; `make docs` runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

import cli

PAGE = Path(__file__).with_name("cli.md")
_HEAD = "# The command line\n\nWritten by `make docs` from the program; a test compares them.\n"


def page() -> str:
    """The whole page."""
    blocks = [f"## {path}\n\n```\n{text}\n```\n" for path, text in _helps(cli.referee, "referee")]
    return "\n".join([_HEAD, *blocks])


def _helps(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    settings = cli.referee.context_settings | {"terminal_width": 100, "max_content_width": 100}
    with click.Context(command, info_name=path, **settings) as ctx:
        yield path, command.get_help(ctx)
        if isinstance(command, click.Group):
            for name in command.list_commands(ctx):
                child = command.get_command(ctx, name)
                assert child is not None
                yield from _helps(child, f"{path} {name}")


if __name__ == "__main__":
    PAGE.write_text(page())
