"""The commands that run things: parse, call, print. No logic here."""

from __future__ import annotations

import signal
import sys
import time
from typing import Any, Literal

import click

from commands.database import ready_database
from commands.options import Duration, json_option, reviewer_option
from commands.output import echo_json, progress
from errors import UserError


@click.command(short_help="Run everything on this machine: database, broker, workers.")
@reviewer_option
@click.option("--slots", type=click.IntRange(1), help="Papers in flight a worker (default: all).")
def up(reviewer_name: str | None, slots: int | None) -> None:
    """Run everything on this machine until Ctrl-C.

    The database is upgraded, a broker is started unless REFEREE_BROKER_URL names one, and there is
    a worker for each GPU (or one on the CPU) and one for API reviewers.
    """
    from settings import get_settings
    from worker.up import stack

    settings = get_settings()
    config = _local_or_api(reviewer_name or settings.reviewer)
    _treat_sigterm_as_ctrl_c()
    with stack(settings, config, slots=slots) as running:
        click.echo(f"Database {running.database.address}")
        click.echo(f"Logs     {settings.home / 'logs'}")
        for name, pid in running.supervisor.pids().items():
            click.echo(f"Worker   {name} (process {pid})")
        click.echo("Running. Submit papers from another terminal; Ctrl-C stops everything.")
        try:
            while True:
                running.check()
                time.sleep(1.0)
        except KeyboardInterrupt:
            click.echo("Stopping: running papers finish or go back to the queue ...")


@click.command(short_help="Review the example papers on this machine and print the reviews.")
@click.option(
    "--reviewer",
    "reviewer_name",
    default="demo-7",
    show_default=True,
    metavar="NAME",
    help="demo-7 or demo-4.",
)
def demo(reviewer_name: str) -> None:
    """Review the example papers on this machine, without a GPU, and print the reviews."""
    from commands.review_text import review_text
    from db.reviews import export
    from settings import get_settings
    from worker import demo as demonstration
    from worker.up import stack

    settings = get_settings()
    config = demonstration.reviewer(reviewer_name)
    demonstration.fetch_model(config, settings, lambda sentence: click.echo(sentence, err=True))
    _treat_sigterm_as_ctrl_c()
    with stack(settings, config) as running:
        click.echo(f"Starting a broker, a database and a worker in {settings.home} ...", err=True)
        running.wait_until_ready(config.queue)
        batch = demonstration.next_batch(running.database)
        with progress("reviewing") as advance:
            status = demonstration.run(running, config, batch, advance)
        for line in export(running.database, batch.name):
            click.echo(f"\n{line.paper_title}\n")
            click.echo(_review_or_error(line, review_text))
    _print_next_steps(batch.name, status.counts)


def _review_or_error(line: Any, review_text: Any) -> str:
    if line.review is None:
        return f"{line.custom_id} has no review: {line.error or line.state}"
    review = line.review
    caption = f"{line.custom_id}, reviewed by {review.reviewer} in {review.seconds:.0f} s"
    text: str = review_text(caption, review.items, review.empty_aspects, review.unplaced)
    return text


def _print_next_steps(batch: str, counts: Any) -> None:
    click.echo(
        f"{counts['succeeded']} of {counts['total']} papers reviewed in batch {batch}.\n"
        "These words come from a 135M-parameter model: what is real is everything around it.\n\n"
        "Where to look next:\n"
        "  referee show specter                      one paper's reviews\n"
        f"  referee export {batch} --format md          all of them as Markdown\n"
        '  referee sql "SELECT aspect, title FROM review_flat LIMIT 10"\n'
        "  referee up --reviewer demo-7              keep it running, then: referee submit ..."
    )
    if counts["succeeded"] != counts["total"]:
        sys.exit(1)


@click.command(short_help="Run a worker.")
@click.option("--cpu", is_flag=True, help="Serve API reviewers; loads no model.")
@click.option("--gpus", metavar="0,1", help="One worker process for each of these GPUs.")
@reviewer_option
@click.option(
    "--slots", metavar="auto|N", default="auto", show_default=True, help="Papers in flight."
)
@click.option(
    "--weights",
    type=click.Choice(["nf4", "bf16"]),
    help="Weights in 4 bits, or the same weights dequantised (default: the reviewer's).",
)
@click.option(
    "--exit-when-idle",
    type=Duration(),
    help="End, with exit code 0, when no paper has waited for this long, e.g. 10m.",
)
def worker(
    cpu: bool,
    gpus: str | None,
    reviewer_name: str | None,
    slots: str,
    weights: Literal["nf4", "bf16"] | None,
    exit_when_idle: float | None,
) -> None:
    """Run a worker in the foreground; SIGTERM and Ctrl-C drain it."""
    from settings import get_settings
    from worker.logs import configure
    from worker.process import WorkerOptions, run

    settings = get_settings()
    configure(settings.log_format)
    n_slots = _slots(slots)
    if cpu:
        sys.exit(run(WorkerOptions(None, n_slots, "nf4", exit_when_idle), settings))
    config = _local_or_api(reviewer_name or settings.reviewer)
    if gpus:
        sys.exit(_run_on_gpus(_gpus(gpus), config.name, slots, weights, exit_when_idle))
    options = WorkerOptions(config, n_slots, weights or config.weights, exit_when_idle)
    sys.exit(run(options, settings))


def _run_on_gpus(
    gpus: list[str], reviewer: str, slots: str, weights: str | None, exit_when_idle: float | None
) -> int:
    from settings import get_settings
    from worker.supervisor import Supervisor
    from worker.up import STOP_MARGIN_SECONDS, failure_message, gpu_specs

    settings = get_settings()
    _treat_sigterm_as_ctrl_c()
    supervisor = Supervisor(stop_seconds=settings.drain_seconds + STOP_MARGIN_SECONDS)
    supervisor.start(gpu_specs(gpus, reviewer, slots, weights, exit_when_idle, settings))
    reported: set[str] = set()
    try:
        # A card that fails does not take the others along.
        while True:
            for broken in supervisor.failed():
                if broken.name not in reported:
                    reported.add(broken.name)
                    click.echo(f"referee: {failure_message(broken)}", err=True)
            if supervisor.over():
                break
            time.sleep(1.0)
    except KeyboardInterrupt:
        return 0
    finally:
        supervisor.stop()
    return 3 if supervisor.failed() else 0


@click.command(short_help="Give back what dead workers held and announce waiting work.")
def requeue() -> None:
    """Free expired leases and ring for every paper that waits unannounced."""
    from db import reconcile
    from dispatch.app import make_app
    from dispatch.broker import require
    from dispatch.doorbell import announce
    from settings import get_settings

    settings = get_settings()
    app = make_app(require(settings).url, settings)
    due = reconcile.reconcile(ready_database(), max_attempts=settings.max_attempts)
    announce(app, due)
    for queue, n_due in sorted(due.items()):
        click.echo(f"{queue}: {n_due} papers wait")
    if not due:
        click.echo("Nothing waits.")


@click.command(short_help="Check every part and say how to mend what is broken.")
@reviewer_option
@json_option
def doctor(reviewer_name: str | None, as_json: bool) -> None:
    """Check every part and say how to mend what is broken; exit 3 when something is."""
    from dataclasses import asdict

    from settings import get_settings
    from worker.doctor import run_checks

    checks = run_checks(get_settings(), reviewer_name)
    ok = all(check.ok for check in checks)
    if as_json:
        echo_json({"ok": ok, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            click.echo(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
            if not check.ok:
                click.echo(f"     {check.fix}")
    sys.exit(0 if ok else 3)


def _local_or_api(name: str) -> Any:
    """A reviewer's configuration: shipped with Referee, or added to the database."""
    from dispatch import roster
    from settings import get_settings

    config = roster.shipped(name) or roster.stored(name, get_settings())
    if config is None:
        raise UserError(f"There is no reviewer {name!r}. {roster.known()}")
    return config


def _slots(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"--slots is auto or a number from 1 on, not {text!r}.")
    return int(text)


def _gpus(text: str) -> list[str]:
    """GPUs as CUDA_VISIBLE_DEVICES names them: by number or by UUID."""
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"--gpus is a list of different GPUs such as 0,1, not {text!r}.")
    return names


def _treat_sigterm_as_ctrl_c() -> None:
    """A service manager's SIGTERM stops us in the same order as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
