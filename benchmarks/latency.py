"""How long one urgent paper takes, in an idle worker and in a full one, by the real command line.

From `submit` storing it to its review's commit, by the database's clock. --tiny shows on a CPU that
it runs; its figures say nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.installation import (
    BATCH_SECONDS,
    Installation,
    Shape,
    installation,
    wait,
    write_papers,
)
from benchmarks.llama_shape import ANSWER_TOKENS
from benchmarks.measured import report


def main() -> None:
    """Measure both and print them."""
    options = _options()
    shape = Shape(options.tiny, options.scale, options.answer)
    with (
        tempfile.TemporaryDirectory() as scratch,
        installation(Path(scratch), shape, options.tokenizer) as site,
    ):
        results = measure(site, Path(scratch), options)
    report(results, options.json)
    for name in ("idle", "full"):
        print(
            f"{name:5} {results[name]['seconds']:.1f} s, claimed after "
            f"{results[name]['seconds_until_claimed']:.1f} s"
        )


def measure(site: Installation, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One paper in an idle worker, then one when all slots are busy and as many papers wait."""
    slots = ("--slots", str(options.slots)) if options.slots else ()
    with site.worker("", *slots):
        ((n_slots,),) = site.rows("SELECT slots FROM worker_node")
        _urgent(site, scratch, options, "warm", 0)
        idle = _urgent(site, scratch, options, "idle", 1)
        crowd = write_papers(
            scratch / "crowd.jsonl", scratch / "model", 2 * n_slots, options.scale, first=100
        )
        site.submit(crowd, "crowd")
        running = "SELECT count(*) FROM job WHERE state = 'running'"
        wait(lambda: site.rows(running)[0][0] >= n_slots, BATCH_SECONDS)
        full = _urgent(site, scratch, options, "full", 2)
    return {"slots": n_slots, "idle": idle, "full": full}


def _urgent(
    site: Installation, scratch: Path, options: argparse.Namespace, batch: str, number: int
) -> dict[str, float]:
    file = write_papers(
        scratch / f"{batch}.jsonl", scratch / "model", 1, options.scale, first=number
    )
    site.submit(file, batch, "--priority", "high")
    site.finish(batch)
    ((whole, claimed),) = site.rows(
        "SELECT job.finished_at - job.created_at, job.started_at - job.created_at FROM job "
        f"JOIN batch ON batch.id = job.batch_id WHERE batch.name = '{batch}'"
    )
    return {"seconds": whole, "seconds_until_claimed": claimed}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--scale", type=float, default=1.0, help="of the papers' lengths")
    parser.add_argument("--answer", type=int, default=ANSWER_TOKENS)
    parser.add_argument("--tokenizer", type=Path, help="Llama 3's tokenizer.json, or .json.xz")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try it on a CPU")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
