"""Many workers on one PostgreSQL: connections, and the load of an idle worker.

    python -m benchmarks.fleet --workers 40 --slots 90 --json benchmarks/results/fleet.json

40 worker processes take about 8 GiB of memory and a minute or two to start on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import redis

from benchmarks.scale import submit
from benchmarks.scripted_fleet import ScriptedFleet, fleet
from db import batch_progress

#: PostgreSQL's limit during the measurement.
MAX_CONNECTIONS = 200
#: Connections of the measurement itself, which are not counted.
_OWN = "application_name = 'referee' AND pid <> pg_backend_pid()"


def measure(workers: int, slots: int, papers: int, idle_s: float) -> dict[str, Any]:
    """Fill every slot, wait until all papers are done, then measure the idle workers."""
    with fleet("postgresql") as running:
        _limit_connections(running)
        with running.working(workers, slots, seconds=2.0):
            seconds = submit(running, papers)
            busy = list(_watch(running, papers))
            idle = _idle(running, idle_s)
        status = batch_progress.status(running.database, "scale")
    return {
        "workers": workers,
        "slots": slots,
        "papers": papers,
        "succeeded": status.counts["succeeded"],
        "submit_s": round(seconds, 1),
        "papers_per_hour": status.papers_per_hour,
        "most_running": max(b["running"] for b in busy),
        "max_connections": MAX_CONNECTIONS,
        "most_database_connections": max(b["database"] for b in busy),
        "most_broker_connections": max(b["broker"] for b in busy),
        "idle": idle,
    }


def _limit_connections(running: ScriptedFleet) -> None:
    """Set the server's connection limit; it refuses connections beyond it."""
    assert running.server is not None
    with psycopg.connect(running.server.url, autocommit=True) as on:
        on.execute(f"ALTER SYSTEM SET max_connections = {MAX_CONNECTIONS}".encode())
    running.database.engine.dispose()
    running.server.kill_and_start()


def _watch(running: ScriptedFleet, papers: int) -> Iterator[dict[str, int]]:
    done = 0
    begun = time.monotonic()
    while done < papers and time.monotonic() - begun < 1800:
        counts = batch_progress.status(running.database, "scale").counts
        done = counts["succeeded"] + counts["failed"]
        yield {"running": counts["running"], **_connections(running)}
        time.sleep(0.5)


def _connections(running: ScriptedFleet) -> dict[str, int]:
    query = f"SELECT count(*) FROM pg_stat_activity WHERE {_OWN}"
    with redis.Redis.from_url(running.broker.url) as client:
        broker = int(client.info("clients")["connected_clients"]) - 1
    return {"database": int(_ask(running, query)) - _own_pool(running), "broker": broker}


def _own_pool(running: ScriptedFleet) -> int:
    pool: Any = running.database.engine.pool
    return int(pool.checkedin() + pool.checkedout())


def _idle(running: ScriptedFleet, seconds: float) -> dict[str, Any]:
    """CPU time, transactions and statements per idle worker."""
    time.sleep(5.0)  # until the work after the last papers has ended
    n_workers = len(running.workers)
    cpu, transactions = running.cpu_seconds(), _transactions(running)
    time.sleep(seconds)
    used, ran = running.cpu_seconds() - cpu, _transactions(running) - transactions
    a_minute = 60 / seconds / n_workers
    return {
        "seconds": seconds,
        "percent_of_a_core": round(100 * used / seconds / n_workers, 2),
        "transactions_a_minute": round(ran * a_minute, 1),
        **_connections(running),
    }


def _transactions(running: ScriptedFleet) -> int:
    # Statistics are sent when a session is idle, at most once a second.
    query = (
        "SELECT xact_commit + xact_rollback FROM pg_stat_database "
        "WHERE datname = current_database()"
    )
    return int(_ask(running, query))


def _ask(running: ScriptedFleet, query: str) -> Any:
    assert running.server is not None
    with psycopg.connect(running.server.url, autocommit=True) as on:
        row = on.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet")
    parser.add_argument("--workers", type=int, default=40)
    parser.add_argument("--slots", type=int, default=90)
    parser.add_argument("--papers", type=int, help="default: three for each slot")
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": round(os.getloadavg()[0], 1),
    }
    papers = asked.papers or 3 * asked.workers * asked.slots
    document = about | measure(asked.workers, asked.slots, papers, asked.idle_seconds)
    text = json.dumps(document, indent=1)
    print(text)
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
