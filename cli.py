"""The `referee` command: the root group, shared options, and the one place that turns errors into
sentences and exit codes. It knows nothing of what the commands do.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from errors import RefereeError

if TYPE_CHECKING:
    from db.session import Database

F = TypeVar("F", bound=Callable[..., Any])

#: Seconds of the units that a duration may be given in.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

#: name -> (module, one line of help). Commands are imported when they are called, so that
#: `referee --help` answers at once; a test keeps these lines equal to the commands' own.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("worker.commands", "Run everything on this machine: database, broker, workers."),
    "demo": ("worker.commands", "Review the example papers on this machine and print the reviews."),
    "submit": ("worker.submit_commands", "Submit papers to be reviewed."),
    "status": ("db.commands", "Show how far batches are."),
    "cancel": ("db.batch_commands", "Cancel a batch, or single papers of it."),
    "retry": ("db.batch_commands", "Queue failed, cancelled and expired papers again."),
    "pause": ("db.batch_commands", "Stop handing out a batch's papers; running ones finish."),
    "resume": ("db.batch_commands", "Hand out a paused batch's papers again."),
    "purge": (
        "db.batch_commands",
        "Delete what a batch's papers and reviews say, and keep what happened.",
    ),
    "requeue": ("worker.commands", "Give back what dead workers held and announce waiting work."),
    "show": ("db.commands", "Show the reviews of a paper."),
    "export": ("db.commands", "Write a batch's reviews to a file."),
    "sql": ("db.commands", "Ask the database a read-only question."),
    "worker": ("worker.commands", "Run a worker."),
    "workers": ("worker.node_commands", "List, drain and resume the workers."),
    "reviewer": ("models.commands", "List, show and add reviewers."),
    "adapter": ("models.adapter_commands", "Register, promote and merge adapters."),
    "model": ("models.commands", "List and fetch base models."),
    "train": ("trainer.train_commands", "Train an adapter."),
    "import": ("models.commands", "Import reviews that were written elsewhere."),
    "data": ("trainer.commands", "Make training data: import, clean, merge, build, stats."),
    "judge": ("judge.commands", "Match and judge reviews against human ones."),
    "eval": ("judge.commands", "Is NEW better than its rivals, held against human reviews?"),
    "report": (
        "judge.report_commands",
        "Write a report of comparisons: HTML, charts, Markdown, JSON.",
    ),
    "db": ("db.commands", "Create, upgrade and check the database."),
    "doctor": ("worker.commands", "Check every part and say how to mend what is broken."),
}


#: Commands whose names Python keeps for itself.
_FUNCTIONS = {"import": "import_", "eval": "eval_"}


class LazyGroup(click.Group):
    """A group whose commands live in other modules and are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, _FUNCTIONS.get(cmd_name, cmd_name))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="referee", message="referee %(version)s")
def referee() -> None:
    """Review a whole conference's papers on your own GPUs.

    \b
    A first session:
      referee demo                                  reviews of three papers, no GPU needed
      referee up                                    database, broker and workers on this machine
      referee submit papers/ --batch spring --wait  every paper once, whatever dies meanwhile
      referee show PAPER                            its review, by aspect
      referee sql "SELECT * FROM aspect_statistics"
    """


def main() -> None:
    """Run the command line; every expected error ends as one sentence and an exit code."""
    try:
        # Without its standalone mode click returns the code of an Exit instead of raising it.
        sys.exit(referee.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _stop("Interrupted.", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except RefereeError as error:
        _stop(str(error), error.exit_code)
    except Exception as error:
        _stop(f"This is a fault in Referee: {_log_traceback(error)}", 1)


def _stop(sentence: str, code: int) -> NoReturn:
    click.echo(f"referee: {sentence}", err=True)
    sys.exit(code)


def _log_traceback(error: Exception) -> str:
    """Keep the traceback in a file: a user gets a sentence, whoever mends it gets the rest."""
    import traceback

    from settings import get_settings

    log = get_settings().home / "logs" / "crash.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as stream:
        traceback.print_exception(error, file=stream)
    return f"{type(error).__name__}: {error} (details in {log})"


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
    """Add --json: one JSON document on stdout and nothing else there."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def reviewer_option(command: F) -> F:
    """Add --reviewer NAME."""
    text = "Who writes the reviews (default: REFEREE_REVIEWER, else llama31-7)."
    return click.option("--reviewer", "reviewer_name", metavar="NAME", help=text)(command)


def ready_database() -> Database:
    """Open the database in force; a local file that is not there yet is made."""
    from db.session import open_database, require_current, schema_revision
    from settings import get_settings

    database = open_database(get_settings().database)
    with database.read() as on:
        empty = schema_revision(on) is None
    if empty and database.dialect == "sqlite":
        from db import migrate

        migrate.upgrade(database.url)
    require_current(database)
    return database


def echo_json(document: object) -> None:
    """Print a JSON document on stdout."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress on stderr: a bar on a terminal, a plain line per tenth elsewhere.

    Yields a function of (done, total).
    """
    if sys.stderr.isatty():
        yield from _bar(label)
    else:
        yield _PlainProgress(label)


def _bar(label: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _PlainProgress:
    def __init__(self, label: str) -> None:
        self._label = label
        self._shown = 0

    def __call__(self, done: int, total: int) -> None:
        tenth = done * 10 // total if total else 0
        if tenth > self._shown:
            self._shown = tenth
            click.echo(f"{self._label}: {done}/{total}", err=True)


if __name__ == "__main__":
    main()
