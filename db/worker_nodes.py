"""Worker processes as they describe themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import delete, func, select, text, update

from db.column_types import insert_into, now
from db.schema import Job, NodeState
from db.schema import WorkerNodeRow as Row
from db.session import Database


@dataclass(frozen=True)
class WorkerNode:
    """A worker process. `seen_at` in epoch seconds and `age_s` since then are the database's."""

    name: str
    host: str
    pid: int
    gpu: str
    queue: str
    queues: tuple[str, ...]
    base: str
    slots: int
    reviewer: str
    #: Which attention its engine uses; None if the engine does not say.
    attention: str | None
    #: GPU memory that it may take, in GiB; 0 for all, None if its version does not say.
    gpu_memory_gib: float | None
    code_version: str
    state: NodeState
    seen_at: float
    age_s: float
    #: Why it stopped claiming by itself; None when it did not.
    complaint: str | None
    #: Papers that it holds at this moment.
    running: int


@dataclass(frozen=True)
class GateCounts:
    """Papers that were answered, and those whose first answer failed the gate."""

    answers: int
    rejections: int


@dataclass(frozen=True)
class DesiredState:
    """What is asked of a worker. `give_back_in_s` is when it should give back what it still runs,
    negative when that time has passed; None lets it finish everything."""

    state: NodeState
    give_back_in_s: float | None


def register_worker(
    database: Database,
    *,
    name: str,
    host: str,
    pid: int,
    gpu: str,
    queues: Sequence[str],
    base: str,
    slots: int,
    code_version: str,
    reviewer: str = "",
    weights_sha256: str | None = None,
    attention: str | None = None,
    gpu_memory_gib: float = 0.0,
    replaced_pid: int | None = None,
) -> bool:
    """Enter a worker that has just started, in place of an earlier one of its name.

    `replaced_pid` is that one's process id; what was asked of it is asked of this one. False, and
    nothing done, when another has the name.
    """
    values = {
        "host": host,
        "pid": pid,
        "gpu": gpu,
        "queue": queues[0],
        "queues": list(queues),
        "base": base,
        "slots": slots,
        "code_version": code_version,
        "reviewer": reviewer,
        "weights_sha256": weights_sha256,
        "attention": attention,
        "gpu_memory_gib": gpu_memory_gib,
    }
    anew = {"started_at": now(), "seen_at": now(), "answers": None, "rejections": None}
    with database.write() as on:
        entered = insert_into(on, Row).values(name=name, **values)
        # A drain and a complaint stay: the process ended, the reason did not.
        entered = entered.on_conflict_do_update(
            index_elements=[Row.name], set_=values | anew, where=Row.pid == replaced_pid
        )
        return on.execute(entered.returning(Row.name)).first() is not None


def heartbeat(
    database: Database, name: str, *, reviewer: str, gate: GateCounts | None = None
) -> DesiredState | None:
    """Note that the worker lives, what it has loaded and how it fares; return what is asked of it.

    None: the worker is not entered (any more) and should sign on.
    """
    with database.write() as on:
        row = on.execute(
            update(Row)
            .where(Row.name == name)
            .values(seen_at=now(), reviewer=reviewer, **(vars(gate) if gate else {}))
            .returning(Row.state, Row.give_back_at - now())
        ).first()
    return None if row is None else DesiredState(cast(NodeState, row[0]), row[1])


def unregister_worker(database: Database, name: str) -> None:
    """Strike a worker that stops as it was told to, and with it what was asked of it."""
    with database.write() as on:
        on.execute(delete(Row).where(Row.name == name))


def set_state(
    database: Database, name_or_host: str, state: NodeState, *, give_back_after: float | None = None
) -> int:
    """Let a worker, or all of a host, drain or be active again; return how many there are.

    A draining worker gives back what it still runs `give_back_after` seconds from now, if given.
    """
    give_back_at = None if give_back_after is None else now() + give_back_after
    with database.write() as on:
        return on.execute(
            update(Row)
            .where((Row.name == name_or_host) | (Row.host == name_or_host))
            .values(state=state, give_back_at=give_back_at, complaint=None)
        ).rowcount


def drain_with_complaint(database: Database, name: str, complaint: str) -> None:
    """Let a worker drain for a reason of its own, until an operator resumes it."""
    with database.write() as on:
        on.execute(
            update(Row).where(Row.name == name).values(state="draining", complaint=complaint)
        )


def gate_counts_of_others(database: Database, name: str, queue: str) -> GateCounts:
    """Sum up how the other workers of a queue fare, without those that complain."""
    others = (Row.queue == queue, Row.name != name, Row.complaint.is_(None))
    sums = (
        func.coalesce(func.sum(Row.answers), 0),
        func.coalesce(func.sum(Row.rejections), 0),
    )
    with database.read() as on:
        answers, rejections = on.execute(select(*sums).where(*others)).one()
    return GateCounts(answers or 0, rejections or 0)


#: A worker's papers, found through the index of leases.
_RUNNING = (
    select(func.count())
    .where(text("state = 'running'"), Job.worker == Row.name)
    .correlate(Row)
    .scalar_subquery()
)


def listing(database: Database) -> list[WorkerNode]:
    """Give all workers that signed on and not off, by name; dead ones show by their age."""
    columns = (
        *(Row.name, Row.host, Row.pid, Row.gpu, Row.queue, Row.queues),
        *(Row.base, Row.slots, Row.reviewer, Row.attention, Row.gpu_memory_gib),
        *(Row.code_version, Row.state, Row.seen_at, Row.complaint),
        func.round(now() - Row.seen_at).label("age_s"),
        _RUNNING.label("running"),
    )
    with database.read() as on:
        rows = on.execute(select(*columns).order_by(Row.name)).mappings()
        return [
            WorkerNode(**{**row, "queues": tuple(row["queues"] or [row["queue"]])}) for row in rows
        ]
