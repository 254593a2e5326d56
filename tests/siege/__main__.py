"""`python -m tests.siege`: run sieges by seed, write JSON, exit 1 when an invariant fails.

Four worker processes on two hosts review papers while workers are killed and frozen, servers
restart and connections break; afterwards every paper must have ended exactly once.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from db.schema import BatchRow, Job, ReviewerRow, ReviewRow
from db.session import DatabaseUnavailable
from settings import Settings
from tests.siege import books, judging, plan
from tests.siege.cluster import Cluster, prepare

BATCH = "siege"
#: Seconds without any ended paper after which the remaining ones count as stuck.
STALL_SECONDS = 60.0
_POLL_SECONDS = 0.2
#: A batch's states that no longer change.
_OVER = ("completed", "expired", "cancelled", "failed")


def run_siege(seed: int, size: plan.Size, dialect: str, folder: Path) -> dict[str, Any]:
    """Run one siege of reviews; returns its document."""
    started = time.monotonic()
    scripted = plan.scripts(seed, size)
    papers = plan.write(scripted, folder / "papers")
    with prepare(folder, dialect, seed, ("worker", "--reviewer", "demo-7")) as cluster:
        cluster.fleet.start()
        done = cluster.site.run("submit", str(papers), "--batch", BATCH, "--reviewer", "demo-7")
        assert done.code == 0, done
        faults = _inject_faults(cluster, plan.faults(seed, size))
        errors = [*cluster.wait(), *_open_batch(cluster), *_unexpected_exits(cluster, size)]
        errors += _other_versions(cluster)
        seconds = time.monotonic() - started
        balance = books.check_invariants(_read(cluster, scripted))
        errors += _stop(cluster)
    return _document("review", seed, size, dialect, seconds, balance, errors, faults, cluster)


def run_judge_siege(seed: int, size: plan.Size, dialect: str, folder: Path) -> dict[str, Any]:
    """Run one siege of a judge's questions; returns its document."""
    started = time.monotonic()
    with (
        judging.slow_judge(seed) as (judge, server),
        prepare(folder, dialect, seed, ("worker", "--cpu")) as cluster,
    ):
        settings = Settings(home=cluster.site.home, broker_url=cluster.broker.url)
        cluster.batch, n_jobs = judging.submit(cluster.database, settings, server.url, size)
        cluster.fleet.start()
        # Faults are due after a number of ended jobs.
        faults = _inject_faults(cluster, plan.faults(seed, replace(size, papers=n_jobs)))
        errors = [*cluster.wait(), *_open_batch(cluster), *_unexpected_exits(cluster, size)]
        seconds = time.monotonic() - started
        record = judging.read_record(cluster.database, n_jobs, judge.asked, cluster.interrupted)
        balance = judging.check_verdicts(record)
        errors += _stop(cluster)
    return _document("judge", seed, size, dialect, seconds, balance, errors, faults, cluster)


def _stop(cluster: Cluster) -> list[str]:
    codes = cluster.fleet.stop(60)
    return [f"a worker ended with {code} when told to stop" for code in codes if code]


def _document(
    work: str,
    seed: int,
    size: plan.Size,
    dialect: str,
    seconds: float,
    balance: books.InvariantReport,
    errors: list[str],
    faults: list[dict[str, Any]],
    cluster: Cluster,
) -> dict[str, Any]:
    violations = [*balance.violations, *errors]
    return {
        "work": work,
        "seed": seed,
        "database": dialect,
        "kept": not violations,
        "seconds": round(seconds, 1),
        **asdict(balance),
        "violations": violations,
        "deaths_by_deadly_papers": len(cluster.fleet.exits),
        "size": asdict(size),
        "strikes": faults,
    }


def _inject_faults(cluster: Cluster, faults: list[plan.Fault]) -> list[dict[str, Any]]:
    """Inject each fault when it is due, until every paper has ended or none has for too long."""
    told: list[dict[str, Any]] = []
    due = list(faults)
    begin = changed = time.monotonic()
    before = -1
    while time.monotonic() - changed < STALL_SECONDS:
        cluster.record_exits()
        ended, over = _progress(cluster)
        if ended != before:
            before, changed = ended, time.monotonic()
        if due and ended >= due[0].after:
            at, kind = round(time.monotonic() - begin, 1), due.pop(0).kind
            told.append({"at": at, "ended": ended, "kind": kind, "what": cluster.inject(kind)})
            _say(told[-1])
        elif over and not due:
            break
        else:
            time.sleep(_POLL_SECONDS)
    return told


def _say(fault: dict[str, Any]) -> None:
    print("{at:7.1f} s  {ended:5} ended  {kind:9} {what}".format(**fault), file=sys.stderr)


def _progress(cluster: Cluster) -> tuple[int, bool]:
    """How many jobs have ended, and whether the batch is over."""
    live = Job.state.in_(("queued", "running"))
    try:
        with cluster.database.read() as on:
            ended = on.scalar(select(func.count()).where(~live)) or 0
            return ended, on.scalar(select(BatchRow.state)) in _OVER
    except DatabaseUnavailable:
        return -1, False


def _open_batch(cluster: Cluster) -> list[str]:
    with cluster.database.read() as on:
        state = on.scalar(select(BatchRow.state))
    return [] if state in _OVER else [f"the batch is still {state}"]


def _other_versions(cluster: Cluster) -> list[str]:
    """Check that the new reviewer version exists and no review used it."""
    with cluster.database.read() as on:
        newest = on.scalar(select(func.max(ReviewerRow.version)))
        others = select(func.count(ReviewRow.id)).join(ReviewerRow).where(ReviewerRow.version != 1)
        strange = on.scalar(others) or 0
    missing = [] if newest == 2 else ["the reviewer has no second version"]
    return missing + [f"{strange} reviews by another version"] * bool(strange)


def _unexpected_exits(cluster: Cluster, size: plan.Size) -> list[str]:
    """Exits without an injected fault, a deadly paper, or an unreachable server at start (exit
    code 3)."""
    exits = cluster.fleet.exits
    strange = [f"worker {d.pid} ended with {d.code}" for d in exits if d.code not in (-9, 3)]
    # Each deadly paper has three attempts.
    too_many = sum(death.code == -9 for death in exits) > size.deadly * 3
    return strange + ["workers died without a strike"] * too_many


def _read(cluster: Cluster, scripted: dict[str, str]) -> books.SiegeRecord:
    return books.SiegeRecord(
        submitted=frozenset(scripted),
        bad=frozenset(name for name, script in scripted.items() if plan.cannot_succeed(script)),
        jobs=books.read_jobs(cluster.database),
        reviews=books.read_reviews(cluster.database),
        exported=cluster.site.exported(BATCH),
        starts=books.read_starts(cluster.ledger),
        interrupted=cluster.interrupted,
    )


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.siege", description=__doc__)
    parser.add_argument("--seeds", default="1", metavar="1,2,3")
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--work", choices=["review", "judge"], default="review")
    parser.add_argument(
        "--short",
        action="store_true",
        help="300 papers instead of 1,000, or a judge's 40 instead of 150",
    )
    parser.add_argument("--json", type=Path, help="write the documents here")
    parser.add_argument("--keep", action="store_true", help="keep logs and data of each siege")
    asked = parser.parse_args()
    sizes = judging if asked.work == "judge" else plan
    size = sizes.SHORT if asked.short else sizes.FULL
    hold = run_judge_siege if asked.work == "judge" else run_siege
    sieges = []
    for dialect in asked.databases.split(","):
        for seed in map(int, asked.seeds.split(",")):
            sieges.append(_one(hold, seed, size, dialect, keep=asked.keep))
            _summary(sieges[-1])
    document = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "sieges": sieges}
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(siege["kept"] for siege in sieges) else 1


def _one(
    hold: Callable[[int, plan.Size, str, Path], dict[str, Any]],
    seed: int,
    size: plan.Size,
    dialect: str,
    *,
    keep: bool,
) -> dict[str, Any]:
    print(f"siege: seed {seed}, {dialect}, {size.papers} papers", file=sys.stderr)
    folder = Path(tempfile.mkdtemp(prefix=f"referee-siege-{dialect}-{seed}-"))
    document = hold(seed, size, dialect, folder)
    if keep or not document["kept"]:
        print(f"logs and data are in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return document


def _summary(siege: dict[str, Any]) -> None:
    keys: tuple[str, ...] = (
        "work",
        "seed",
        "database",
        "kept",
        "seconds",
        "states",
        "reviews",
        "lost",
        "doubled",
        "stuck",
    )
    keys += ("starts", "wasted", "in_flight_when_struck")
    print(json.dumps({key: siege[key] for key in keys}))
    for sentence in siege["violations"][:20]:
        print(f"  VIOLATION {sentence}")


if __name__ == "__main__":
    sys.exit(main())
