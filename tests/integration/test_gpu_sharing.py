"""Two workers on one GPU, by the rows of the real database; no GPU is needed for the decision."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sqlalchemy import update

from db import worker_nodes
from db.column_types import now
from db.schema import WorkerNodeRow
from db.session import Database
from errors import UserError
from models.text.bases import BaseModel, builtin
from settings import Settings
from worker import gpu_sharing
from worker.gpu_sharing import require_unshared_gpu, used_gpu
from worker.identity import Identity

LLAMA3, LLAMA31 = builtin()["llama3-8b"], builtin()["llama31-8b"]
#: A living worker of llama3-8b on GPU 0 of this host: its process is the one that runs pytest.
HOLDER = Identity(
    name="llama3-8b-gpu0@here",
    host=socket.gethostname(),
    pid=os.getppid(),
    gpu="0",
    queues=("reviews.llama3-8b",),
    base=LLAMA3.name,
    slots=61,
    reviewer="llama3-7",
    code_version="1",
)


def refusal(
    database: Database,
    holder: Identity = HOLDER,
    gpu: str = "0",
    base: BaseModel = LLAMA31,
    memory_gib: float = 0.0,
) -> str:
    """Why a worker may not use the GPU beside the holder; empty if it may."""
    worker_nodes.register_worker(database, **asdict(holder))
    settings = Settings(home=Path(), gpu_memory_gib=memory_gib)
    try:
        require_unshared_gpu(database, gpu, base, settings)
    except UserError as error:
        return str(error)
    return ""


def test_a_gpu_held_by_a_worker_of_another_base_model_is_refused(database: Database) -> None:
    assert refusal(database) == (
        "Worker llama3-8b-gpu0@here holds GPU 0 of this host with llama3-8b: stop it, use another "
        "GPU, or set REFEREE_GPU_MEMORY_GIB for both workers."
    )


@pytest.mark.parametrize("limits", [(40.0, 0.0), (0.0, 40.0), (40.0, 40.0)])
def test_two_workers_share_a_gpu_if_the_memory_of_both_is_limited(
    limits: tuple[float, float], database: Database
) -> None:
    holder = replace(HOLDER, gpu_memory_gib=limits[0])
    assert bool(refusal(database, holder, memory_gib=limits[1])) == (0.0 in limits)


def test_another_gpu_host_or_the_same_base_model_is_not_refused(database: Database) -> None:
    assert not refusal(database, gpu="1")
    assert not refusal(database, gpu="")
    assert not refusal(database, base=LLAMA3)


def test_a_worker_of_another_host_holds_no_gpu_of_this_one(database: Database) -> None:
    assert not refusal(database, replace(HOLDER, host="elsewhere"))


def test_a_worker_that_has_died_holds_no_gpu(database: Database) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not refusal(database, replace(HOLDER, pid=ended.pid))


def test_a_process_with_the_number_of_a_dead_worker_holds_no_gpu(database: Database) -> None:
    assert refusal(database)
    with database.write() as on:
        on.execute(update(WorkerNodeRow).values(seen_at=now() - 3600))
    assert not refusal(database)


@pytest.mark.parametrize(
    ("visible", "listed", "used"),
    [
        (None, [], ""),
        (None, ["0", "1"], "0"),
        ("", ["0"], ""),
        ("-1", ["0"], ""),
        ("1,0", ["0", "1"], "1"),
        ("GPU-3f", ["0"], "GPU-3f"),
    ],
)
def test_a_model_is_loaded_on_the_first_visible_gpu(
    visible: str | None, listed: list[str], used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_sharing, "gpu_indices", lambda: listed)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert used_gpu() == used
