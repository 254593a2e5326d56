"""`referee bench`: papers an hour of this very machine."""

from __future__ import annotations

from typing import Any

import click

from commands.database import ready_database
from commands.options import json_option, reviewer_option
from commands.output import echo_json

#: Keys of the result and their labels, in the order in which they are printed.
_LINES = (
    ("base", "base"),
    ("weights", "weights"),
    ("attention", "attention"),
    ("attention_selected_from", "selected from"),
    ("fused", "other kernels"),
    ("kv_cache", "KV cache"),
    ("arithmetic", "prompts"),
    ("adapter", "adapter"),
    ("mean_prompt_tokens", "prompt tokens, mean"),
    ("answer_tokens", "answer tokens"),
    ("slots", "slots"),
    ("seconds_until_ready", "seconds until ready"),
    ("peak_gib", "GPU memory, GiB"),
)


@click.command(short_help="Measure papers per hour on this machine, in about two minutes.")
@reviewer_option
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Time to measure, after loading the model and filling its slots.",
)
@click.option("--no-adapter", is_flag=True, help="Measure the base model without an adapter.")
@click.option("--force", is_flag=True, help="Measure although a worker of this machine is running.")
@json_option
def bench(
    reviewer_name: str | None, seconds: float, no_adapter: bool, force: bool, as_json: bool
) -> None:
    """Measure papers per hour of this machine at a reviewer's lengths, with an adapter of rank 16.

    Random weights of the base's shape are used where the base is not on this machine. Settings are
    those of workers: REFEREE_KV_CACHE, REFEREE_ATTENTION, REFEREE_GPU_MEMORY_GIB.
    """
    from dispatch import roster
    from settings import get_settings
    from worker.bench import measure, require_idle

    settings = get_settings()
    config = roster.find_config(reviewer_name or settings.reviewer, settings)
    if not force:
        require_idle(ready_database(), settings)
    result = measure(
        config,
        settings,
        seconds=seconds,
        with_adapter=not no_adapter,
        report=lambda line: click.echo(line, err=True),
    )
    if as_json:
        echo_json(result)
        return
    for line in _lines(result):
        click.echo(line)


def _lines(result: dict[str, Any]) -> list[str]:
    """The result for people, the rate last."""
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    versions = ", ".join(f"{k} {v}" for k, v in result["installation"].items() if v)
    lines = [f"machine: {machine}", f"installation: {versions}"]
    lines += [f"{label}: {result[key]}" for key, label in _LINES if result[key] is not None]
    papers = (
        "short papers (the length above, not a reviewer's)" if result["short_papers"] else "papers"
    )
    rate = f"{result['papers_per_hour']:,.0f} {papers} per hour ({result['papers']} measured)"
    if result["of_limit"] is not None:
        limit = f"{result['limit_papers_per_hour']:,} that this card's products and copies allow"
        rate += f", {result['of_limit']:.0%} of the {limit}"
    return [*lines, rate]
