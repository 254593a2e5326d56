"""Latency of one urgent paper, in an idle worker and in a full one.

From `submit` storing it to its review's commit, by the database's clock. --tiny runs on a
CPU to try the script; its figures are meaningless.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.installation import (
    BATCH_SECONDS,
    Installation,
    add_options,
    installation,
    wait,
)
from benchmarks.measured import report


def main() -> None:
    """Measure both and print them."""
    options = _options()
    with (
        tempfile.TemporaryDirectory() as scratch,
        installation(Path(scratch), options) as site,
    ):
        results = measure(site, options)
    report(results, options.json)
    for name in ("idle", "full"):
        print(
            f"{name:5} {results[name]['seconds']:.1f} s, claimed after "
            f"{results[name]['seconds_until_claimed']:.1f} s"
        )


def measure(site: Installation, options: argparse.Namespace) -> dict[str, Any]:
    """One paper in an idle worker, then one when all slots are busy and as many papers wait."""
    slots = ("--slots", str(options.slots)) if options.slots else ()
    with site.worker("", *slots):
        ((n_slots,),) = site.rows("SELECT slots FROM worker_node")
        _urgent(site, "warm", 0)
        idle = _urgent(site, "idle", 1)
        crowd = site.papers("crowd", 2 * n_slots, first=100)
        site.submit(crowd, "crowd")
        running = "SELECT count(*) FROM job WHERE state = 'running'"
        wait(lambda: site.rows(running)[0][0] >= n_slots, BATCH_SECONDS)
        full = _urgent(site, "full", 2)
    return {"slots": n_slots, "idle": idle, "full": full}


def _urgent(site: Installation, batch: str, number: int) -> dict[str, float]:
    file = site.papers(batch, 1, first=number)
    site.submit(file, batch, "--priority", "high")
    site.finish(batch)
    ((whole, claimed),) = site.rows(
        "SELECT job.finished_at - job.created_at, job.started_at - job.created_at FROM job "
        f"JOIN batch ON batch.id = job.batch_id WHERE batch.name = '{batch}'"
    )
    return {"seconds": whole, "seconds_until_claimed": claimed}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
