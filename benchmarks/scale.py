"""Time of submission, drain, status and export by the number of jobs, without a model.

    python benchmarks/scale.py --jobs 10000 --database sqlite --json benchmarks/results/scale.json

Papers count as read: what is timed begins with storing them. With a file, its run of the same
size and database is replaced.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sqlalchemy import func, select

from benchmarks.scripted_fleet import ScriptedFleet, fleet, wait_for
from commands.review_text import review_text
from db import batch_papers, batch_progress, batch_records
from db.batch_papers import NewPaper
from db.batch_records import BatchOptions
from db.exporting import layout, write
from db.paper_contents import PaperContent
from db.schema import Job
from dispatch import roster
from dispatch.submission import doorbell_for
from subprocesses import python_command

BATCH = "scale"
#: A conference paper's text, in characters.
PAPER_CHARS = 36_000
_SENTENCE = "We compare the proposed method with strong baselines on three public data sets. "
_BODY = (_SENTENCE * (PAPER_CHARS // len(_SENTENCE) + 1))[:PAPER_CHARS]
#: Mean seconds per job above which a run counts as hung.
_SLOWEST_JOB = 0.1


def measure(kind: Any, jobs: int, workers: int, slots: int, seconds: float) -> dict[str, Any]:
    """Run all stages once."""
    with fleet(kind) as running:
        submit_s = submit(running, jobs)
        with running.working(workers, slots, seconds):
            cpu = running.cpu_seconds()
            wait_for(lambda: _done(running) >= jobs, 120 + jobs * _SLOWEST_JOB)
            workers_cpu_s = running.cpu_seconds() - cpu
        drain_s = _drain_seconds(running)
        status_s = _timed(lambda: batch_progress.statuses(running.database))
        command_s = _timed(lambda: _command(running, "status"))
        export_s = _timed(lambda: _export(running))
    return {
        "jobs": jobs,
        "database": kind,
        "workers": workers,
        "slots": slots,
        "paper_seconds": seconds,
        "submit_s": round(submit_s, 2),
        "drain_papers_per_s": round(jobs / drain_s, 1),
        "drain_ms_a_job": round(drain_s / jobs * 1000, 2),
        "workers_cpu_ms_a_job": round(workers_cpu_s / jobs * 1000, 2),
        "status_s": round(status_s, 3),
        "status_command_s": round(command_s, 2),
        "export_reviews_per_s": round(jobs / export_s, 1),
    }


def submit(running: ScriptedFleet, jobs: int) -> float:
    """Store papers as jobs and send their messages; returns the seconds that this takes."""
    version, _ = roster.resolve(running.database, "demo-7")
    settings = running.settings
    batch = batch_records.open_batch(running.database, BATCH, version, BatchOptions())
    ring = doorbell_for(settings, batch)

    def add(chunk: list[NewPaper]) -> None:
        added = batch_papers.add_papers(running.database, batch, chunk)
        assert ring(len(added.job_ids))

    chunks = _papers(jobs, settings.submit_chunk)
    seconds = sum(_timed(partial(add, chunk)) for chunk in chunks)
    return seconds + _timed(lambda: batch_records.finish_submit(running.database, batch))


def _papers(jobs: int, size: int) -> Iterator[list[NewPaper]]:
    for start in range(0, jobs, size):
        yield [_paper(number) for number in range(start, min(start + size, jobs))]


def _paper(number: int) -> NewPaper:
    body = f"Paper {number}. {_BODY}"
    content = PaperContent(
        sha256=hashlib.sha256(body.encode()).hexdigest(),
        title=f"A Study of Subject {number}",
        abstract=_SENTENCE * 10,
        body=body,
        sections=[{"heading": "Introduction", "n_chars": PAPER_CHARS}],
    )
    return NewPaper(f"p{number:06}", f"p{number:06}.pdf", content)


def _done(running: ScriptedFleet) -> int:
    # Served by the index of a batch's states, so that counting does not slow the run down.
    with running.database.read() as on:
        batch_id = on.scalar(select(func.min(Job.batch_id)))
        query = select(func.count()).where(Job.batch_id == batch_id, Job.state == "succeeded")
        done = on.scalar(query) or 0
    time.sleep(1.0)
    return done


def _drain_seconds(running: ScriptedFleet) -> float:
    with running.database.read() as on:
        first, last = on.execute(select(func.min(Job.started_at), func.max(Job.finished_at))).one()
    assert first is not None
    assert last is not None
    return float(last - first)


def _command(running: ScriptedFleet, *arguments: str) -> None:
    subprocess.run(
        python_command("cli", *arguments),
        env=os.environ | running.environment,
        cwd=Path(__file__).resolve().parent.parent,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _export(running: ScriptedFleet) -> None:
    def as_text(review: Any) -> str:
        return review_text(
            *("", review.items, review.empty_aspects, review.unplaced), aspects=review.aspects
        )

    write(running.database, BATCH, layout("jsonl", as_text), running.home / "reviews.jsonl")


def _timed(action: Any) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _machine() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        # Above the number of cores, other work was running and the figures are too low.
        "load_before": round(os.getloadavg()[0], 1),
    }


def _keep(run: dict[str, Any], path: Path) -> None:
    runs = json.loads(path.read_text())["runs"] if path.exists() else []
    key = (run["database"], run["jobs"])
    runs = [old for old in runs if (old["database"], old["jobs"]) != key] + [run]
    runs.sort(key=lambda each: (each["database"], each["jobs"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"runs": runs}, indent=1) + "\n")


def main() -> None:
    """Parse, measure, print one JSON document."""
    parser = argparse.ArgumentParser(prog="benchmarks/scale.py")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slots", type=int, default=40)
    parser.add_argument("--paper-seconds", type=float, default=0.05)
    parser.add_argument("--json", nargs="?", type=Path, const=None, help="keep the run in a file")
    asked = parser.parse_args()
    about = _machine()
    run = about | measure(
        asked.database, asked.jobs, asked.workers, asked.slots, asked.paper_seconds
    )
    print(json.dumps(run, indent=1))
    if asked.json:
        _keep(run, asked.json)


if __name__ == "__main__":
    main()
