"""`referee worker`: run worker processes in the foreground."""

from __future__ import annotations

import sys
import time
from typing import Literal

import click

from commands.options import Duration, reviewer_option
from commands.signals import interrupt_on_sigterm
from errors import UserError


@click.command(short_help="Run a worker.")
@click.option("--cpu", is_flag=True, help="Serve API reviewers and judges; load no model.")
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
    help="Exit with code 0 when the queue has had no job, queued or running, for this long, "
    "e.g. 10m.",
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
    from dispatch import roster
    from settings import get_settings
    from worker.gpu_sharing import require_unshared_gpus
    from worker.logs import configure
    from worker.process import WorkerOptions, run

    settings = get_settings()
    configure(settings.log_format)
    n_slots = _slots(slots)
    if cpu:
        sys.exit(run(WorkerOptions(None, n_slots, "nf4", exit_when_idle), settings))
    config = roster.find_config(reviewer_name or settings.reviewer, settings)
    if gpus:
        if config.base is not None:
            require_unshared_gpus(_gpus(gpus), config.base, settings)
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
    interrupt_on_sigterm()
    supervisor = Supervisor(stop_seconds=settings.drain_seconds + STOP_MARGIN_SECONDS)
    supervisor.start(gpu_specs(gpus, reviewer, slots, weights, exit_when_idle, settings))
    reported: set[str] = set()
    try:
        # The workers of other GPUs go on when one fails.
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


def _slots(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"--slots is auto or a number from 1 up, not {text!r}.")
    return int(text)


def _gpus(text: str) -> list[str]:
    """GPUs as CUDA_VISIBLE_DEVICES names them: by number or by UUID."""
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"--gpus is a list of different GPUs such as 0,1, not {text!r}.")
    return names
