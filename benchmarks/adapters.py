"""Throughput of two interleaved batches with different adapters, compared with a single batch.

Also whether either batch starves. The real queue and worker; adapters of random weights, rank 16.

--tiny runs on a CPU to try the script; its figures are meaningless.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.installation import REVIEWER, Installation, add_options, installation
from benchmarks.measured import report
from models.adapters.random_adapter import write_random_adapter
from models.text import reviewer

#: Papers of one batch that are submitted before the next papers of the other batch.
_CHUNK = 8


def main() -> None:
    """Measure one batch alone, then two interleaved."""
    options = _options()
    with (
        tempfile.TemporaryDirectory() as scratch,
        installation(Path(scratch), options) as site,
    ):
        results = measure(site, options)
    report(results, options.json)
    print(f"two adapters interleaved reach {results['ratio']:.1%} of one adapter's rate")
    for name, each in results["waits"].items():
        print(f"{name:12} waited {each['mean']:.1f} s on average, {each['longest']:.1f} at most")


def measure(site: Installation, options: argparse.Namespace) -> dict[str, Any]:
    """A worker serves the one batch, another the two, which wait for it when it starts."""
    for number in range(2):
        _add_reviewer(site, number)
    first = site.papers("one", options.papers)
    site.run("submit", str(first), "--batch", "one", "--reviewer", "bench-0")
    slots = ("--slots", str(options.slots)) if options.slots else ()
    with site.worker("", *slots):
        site.finish("one")
    _submit_interleaved(site, options.papers)
    with site.worker("", *slots):
        site.finish("turns-0", "turns-1")
    one, two = site.rate("one"), site.rate("turns-0", "turns-1")
    waits = {batch: _waits(site, batch, "turns-0", "turns-1") for batch in ("turns-0", "turns-1")}
    ratio = two.papers_per_hour / one.papers_per_hour
    return {"one": asdict(one), "two": asdict(two), "ratio": ratio, "waits": waits}


def _submit_interleaved(site: Installation, papers: int) -> None:
    for start in range(0, papers // 2, _CHUNK):
        n_papers = min(_CHUNK, papers // 2 - start)
        for number in range(2):
            batch = f"turns-{number}"
            offset = 1000 * (1 + number) + start
            file = site.papers(f"{batch}-{start}", n_papers, first=offset)
            site.run("submit", str(file), "--batch", batch, "--reviewer", f"bench-{number}")


def _waits(site: Installation, batch: str, *batches: str) -> dict[str, float]:
    """Seconds from the first start in any batch to the starts of one batch's papers."""
    names = ", ".join(f"'{name}'" for name in batches)
    jobs = "FROM job JOIN batch ON batch.id = job.batch_id WHERE batch.name"
    ((mean, longest),) = site.rows(
        "SELECT avg(job.started_at - t.began), max(job.started_at - t.began) FROM job "
        "JOIN batch ON batch.id = job.batch_id CROSS JOIN "
        f"(SELECT min(job.started_at) AS began {jobs} IN ({names})) AS t "
        f"WHERE batch.name = '{batch}'"
    )
    return {"mean": mean, "longest": longest}


def _add_reviewer(site: Installation, number: int) -> None:
    """Add a reviewer with its own registered adapter."""
    folder = write_random_adapter(site.scratch / f"adapter-{number}", site.model, number)
    sha256 = site.run("adapter", "register", str(folder)).split()[0]
    config = replace(
        reviewer.load(site.scratch / f"{REVIEWER}.yaml"),
        name=f"bench-{number}",
        adapter_sha256=sha256,
    )
    path = site.scratch / f"bench-{number}.yaml"
    path.write_text(yaml.safe_dump(config.to_json()))
    site.run("reviewer", "add", str(path))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--papers", type=int, default=192, help="of the one batch and of the two")
    add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
