"""Cost of the whole path: the engine behind command line, broker, database and worker processes,
compared with the engine alone on the same papers; with several GPUs also their combined rate.

Rates run from the first paper's start to the last one's end and include filling and emptying the
slots. All answers have the same length, so papers run in waves of one per slot. The number of
papers is a multiple of the slots: the papers of a partial wave would go to whichever card is free
first.

Results of other systems in the --json file are kept. Needs a GPU for Llama 3.1 8B's shape; --tiny
runs on a CPU to try the script.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.installation import Installation, add_options, installation
from benchmarks.measured import earlier, report

SYSTEMS = ("queue", "engine", "gpus")
#: Times that all slots are filled.
WAVES = 3
#: Worker, papers, and when the first was claimed and the last was done.
_BY_WORKER = (
    "SELECT e.worker, count(*), min(e.created_at), max(job.finished_at) "
    "FROM job_event e JOIN job ON job.id = e.job_id JOIN batch ON batch.id = job.batch_id "
    "WHERE batch.name = '{batch}' AND e.kind = 'claimed' GROUP BY e.worker ORDER BY e.worker"
)


def main() -> None:
    """Exit 1 when a paper was not claimed and reviewed exactly once."""
    options = _options()
    if options.engine_alone:
        print(json.dumps(engine_alone(options.engine_alone, options.slots)))
        return
    with (
        tempfile.TemporaryDirectory() as scratch,
        installation(Path(scratch), options) as site,
    ):
        results = earlier(options.json) | measure(site, options)
    report(results, options.json)
    print(summary(results))
    sys.exit(not all(r["once_each"] for r in results.values() if isinstance(r, dict)))


def measure(site: Installation, options: argparse.Namespace) -> dict[str, Any]:
    """The systems that --only names, in one run."""
    gpus = options.gpus.split(",") if options.gpus else []
    results: dict[str, Any] = {"database": site.database_url.split(":")[0]}
    if "queue" in options.only:
        first = gpus[0] if gpus else ""
        results["queue"] = queue(site, options, "queue", first, options.papers)
    if "gpus" in options.only and len(gpus) > 1:
        n_papers = options.papers * len(gpus)
        results["gpus"] = queue(site, options, "gpus", options.gpus, n_papers)
        results["gpus"]["gpus"] = len(gpus)
    if "engine" in options.only:
        chosen = ("--slots", str(options.slots)) if options.slots else ()
        results["engine"] = site.python(
            "benchmarks.whole_path", "--engine-alone", "queue", *chosen
        ) | {"once_each": True}
    return results


def queue(
    site: Installation,
    options: argparse.Namespace,
    batch: str,
    gpus: str,
    n_papers: int,
) -> dict[str, Any]:
    """Start workers, submit what fills their slots, let all begin at once, wait for the end."""
    site.submit(site.papers(f"{batch}-first", 1), batch)
    site.run("pause", batch)
    slots = ("--slots", str(options.slots)) if options.slots else ()
    with site.worker(gpus, *slots) as seconds_until_ready:
        ((n_slots,),) = site.rows("SELECT sum(slots) FROM worker_node")
        rest = site.papers(batch, (n_papers or WAVES * n_slots) - 1, first=1)
        started = time.monotonic()
        site.submit(rest, batch)
        submitting = time.monotonic() - started
        site.run("resume", batch)
        site.finish(batch)
    rate = site.rate(batch)
    return {
        **asdict(rate),
        "once_each": rate.once_each,
        "slots": n_slots,
        "by_worker": by_worker(site, batch),
        "seconds_submitting": round(submitting, 1),
        "seconds_until_ready": round(seconds_until_ready, 1),
    }


def by_worker(site: Installation, batch: str) -> dict[str, dict[str, float]]:
    """Papers of each worker, and seconds from the batch's first claim to its own first and last."""
    rows = site.rows(_BY_WORKER.format(batch=batch))
    began = min(first for _, _, first, _ in rows)
    return {
        worker: {"papers": n, "from": round(first - began, 1), "to": round(last - began, 1)}
        for worker, n, first, last in rows
    }


def engine_alone(batch: str, slots: int | None) -> dict[str, Any]:
    """The same papers as a batch of the installation, given to the worker's engine at once."""
    from sqlalchemy import text

    from db.session import open_database
    from dispatch import roster
    from dispatch.kinds import ModelUse
    from models.text import reviewer
    from models.text.generation import Generation
    from settings import get_settings
    from worker.engines import load_local

    settings = get_settings()
    database = open_database(settings.database)
    _, config = roster.resolve(database, "bench")
    with database.read() as on:
        papers = on.execute(
            text(
                "SELECT job.custom_id, job.seed, paper.body FROM job "
                "JOIN batch ON batch.id = job.batch_id JOIN paper ON paper.id = job.paper_id "
                "WHERE batch.name = :batch ORDER BY job.id"
            ),
            {"batch": batch},
        ).all()
    config = reviewer.from_json(config.to_json())
    pool = load_local(config, settings, lambda sha256: Path(), config.weights, slots)
    engine = pool.engine_for(ModelUse.of(config.sha256, config), False)
    started = time.monotonic()
    futures: list[Future[Generation]] = [
        engine.submit(config.request(name, body, seed)) for name, seed, body in papers
    ]
    generations = [future.result() for future in futures]
    seconds = time.monotonic() - started
    pool.close()
    return {
        "papers": len(papers),
        "seconds": seconds,
        "papers_per_hour": 3600 * len(papers) / seconds,
        "slots": engine.slots,
        "mean_prompt_tokens": sum(g.n_prompt_tokens for g in generations) / len(papers),
        "mean_output_tokens": sum(g.n_output_tokens for g in generations) / len(papers),
        "versions": dict(engine.versions),
    }


def summary(results: dict[str, Any]) -> str:
    """A line a system, and the ratios."""
    lines = [
        f"{name:8} {each['papers_per_hour']:8.0f} papers an hour ({each['papers']} papers)"
        for name, each in results.items()
        if isinstance(each, dict)
    ]
    rate = {n: each["papers_per_hour"] for n, each in results.items() if isinstance(each, dict)}
    if {"queue", "engine"} <= rate.keys():
        lines.append(f"the whole path reaches {rate['queue'] / rate['engine']:.1%} of the engine")
    if {"queue", "gpus"} <= rate.keys():
        n_gpus = results["gpus"]["gpus"]
        lines.append(f"{n_gpus} GPUs reach {rate['gpus'] / rate['queue']:.2f} times one")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--papers", type=int, default=0, help="for each GPU; default: three waves")
    parser.add_argument(
        "--gpus", default="", metavar="0,1", help="which; default: the first or CPU"
    )
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    add_options(parser)
    parser.add_argument("--engine-alone", metavar="BATCH", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
