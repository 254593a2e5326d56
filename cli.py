"""The `referee` command: the root group, and the mapping of errors to sentences and exit codes."""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

import click

from commands.output import protect_terminal
from errors import RefereeError
from subprocesses import isolate_subprocesses

#: name -> (module, one line of help). Commands are imported when they are called, so that
#: `referee --help` is fast; a test checks that these lines equal the commands' short help.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("commands.up", "Run everything on this machine: database, broker, workers."),
    "demo": ("commands.demo", "Review the example papers on this machine and print the reviews."),
    "submit": ("commands.submit", "Submit papers to be reviewed."),
    "status": ("commands.status", "Show the progress of batches."),
    "cancel": ("commands.batch", "Cancel a batch, or single papers of it."),
    "retry": ("commands.batch", "Queue failed, cancelled and expired papers again."),
    "pause": ("commands.batch", "Pause a batch; running papers finish."),
    "resume": ("commands.batch", "Resume a paused batch."),
    "purge": (
        "commands.batch",
        "Delete the texts of a batch's papers and reviews; keep its records.",
    ),
    "requeue": ("commands.requeue", "Requeue the jobs of dead workers and notify idle ones."),
    "show": ("commands.show", "Show the reviews of a paper."),
    "export": ("commands.export", "Write a batch's reviews to a file."),
    "sql": ("commands.sql", "Run a read-only query on the database."),
    "worker": ("commands.worker", "Run a worker."),
    "workers": ("commands.workers", "List, drain and resume the workers."),
    "reviewer": ("commands.reviewer", "List, show and add reviewers."),
    "adapter": ("commands.adapter", "Register, promote and merge adapters."),
    "model": ("commands.model", "List and fetch base models."),
    "train": ("commands.train", "Train an adapter."),
    "import": ("commands.import_", "Import reviews that were written elsewhere."),
    "data": ("commands.data", "Make training data: import, clean, merge, build, stats."),
    "judge": ("commands.judge", "Match and judge reviews against human ones."),
    "eval": (
        "commands.eval",
        "Test whether a new reviewer is better than others, by human reviews.",
    ),
    "report": (
        "commands.report",
        "Write a report of comparisons: HTML, charts, Markdown, JSON.",
    ),
    "db": ("commands.db", "Create, upgrade and check the database."),
    "bench": ("commands.bench", "Measure papers per hour on this machine, in about two minutes."),
    "doctor": (
        "commands.doctor",
        "Check every part of the installation and say how to fix what fails.",
    ),
}


#: Commands whose names are keywords or builtins of Python.
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
      referee submit papers/ --batch spring --wait  every paper once, even if workers die
      referee show PAPER                            its review, by aspect
      referee sql "SELECT * FROM aspect_statistics"
    """


def main() -> None:
    """Run the command line; every expected error ends as one sentence and an exit code."""
    isolate_subprocesses()
    protect_terminal()
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
    """Keep the traceback in a file: the user sees one sentence."""
    import traceback

    from settings import get_settings

    log = get_settings().home / "logs" / "crash.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as stream:
        traceback.print_exception(error, file=stream)
    return f"{type(error).__name__}: {error} (details in {log})"


if __name__ == "__main__":
    main()
