"""Which GPU a worker uses, and a refusal to share it with a worker of another base model.

A worker takes all of its GPU's memory that is free when it starts. A second one would find none, or
take what the first one needs later.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import closing, suppress

from db import worker_nodes
from db.session import Database, open_database, require_current
from errors import MissingPart, UserError
from models.text.bases import BaseModel
from settings import Settings
from worker.identity import is_running


def used_gpu() -> str:
    """The GPU that a model in this process is loaded on, as CUDA_VISIBLE_DEVICES names it.

    Empty if that is the CPU.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return "0" if gpu_indices() else ""
    first = visible.split(",")[0].strip()
    return "" if first == "-1" else first


def gpu_indices() -> list[str]:
    """The GPUs that the driver lists, in the form of CUDA_VISIBLE_DEVICES.

    Torch is not asked, because its CUDA context must be created in the worker only.
    """
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (subprocess.SubprocessError, OSError):
        return []
    return answer.stdout.split()


def require_unshared_gpu(database: Database, gpu: str, base: BaseModel, settings: Settings) -> None:
    """Raise UserError if a living worker of this host holds the GPU with another base model.

    Two workers whose memory is limited share it.
    """
    here = socket.gethostname()
    for node in worker_nodes.listing(database):
        on_it = gpu and (node.host, node.gpu) == (here, gpu) and node.base not in ("", base.name)
        living = node.age_s < settings.lease_seconds and is_running(node.pid)
        limited = settings.gpu_memory_gib and node.gpu_memory_gib
        if on_it and living and not limited:
            raise UserError(
                f"Worker {node.name} holds GPU {gpu} of this host with {node.base}: stop it, use "
                "another GPU, or set REFEREE_GPU_MEMORY_GIB for both workers."
            )


def require_unshared_gpus(gpus: Sequence[str], base: BaseModel, settings: Settings) -> None:
    """The same for several GPUs, before a process is started for each.

    Without a database nothing is refused: the processes wait for it and check again.
    """
    with suppress(MissingPart), closing(open_database(settings.database)) as database:
        require_current(database)
        for gpu in gpus:
            require_unshared_gpu(database, gpu, base, settings)
