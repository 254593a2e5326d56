"""Checks of every part of an installation: what does not work, and how to fix it.

The checks change nothing.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from db import migrate, worker_nodes
from db.session import Database, database_time, open_database
from dispatch import broker, roster
from errors import RefereeError
from models.text.reviewer import ReviewerConfig
from models.weights import store
from papers.confinement import missing_mechanisms
from settings import Settings
from subprocesses import python_command
from worker.gpu_sharing import gpu_indices

#: Below this the next model or database growth fills the disk; in GiB.
MIN_FREE_GIB = 2.0
#: Weights on disk that a CPU still reviews with at a useful pace, in GiB.
MAX_CPU_MODEL_GIB = 4.0
_PCI_DEVICES = Path("/sys/bus/pci/devices")
#: What the check of GPUs touches.
_DEVICE = "cuda"
#: Clocks of one host and its database may differ by this much before leases look odd, in seconds.
MAX_CLOCK_SKEW_SECONDS = 5.0


@dataclass(frozen=True)
class DoctorCheck:
    """Result of one check: ok or not, what was found, and how to fix it."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def run_checks(settings: Settings, reviewer_name: str | None = None) -> list[DoctorCheck]:
    """Run all checks, each on its own, so that one failure does not hide another."""
    name = reviewer_name or settings.reviewer
    config = roster.shipped(name) or roster.stored(name, settings)
    return [
        _guard("python", _python),
        _guard("packages", _packages),
        _guard("home", lambda: _home(settings)),
        *_database_checks(settings),
        _guard("broker", lambda: _broker(settings)),
        _guard("reviewer", lambda: _reviewer(name, config)),
        _guard("model", lambda: _model(config, settings)),
        _guard("gpu", lambda: _gpu(config, settings)),
        _guard("readers", _readers),
    ]


def _guard(name: str, look: Callable[[], DoctorCheck]) -> DoctorCheck:
    try:
        return look()
    except RefereeError as error:
        return DoctorCheck(name, False, str(error), "See the sentence above.")
    except Exception as error:
        reason = str(error).split("\n", 1)[0]
        return DoctorCheck(
            name, False, f"{type(error).__name__}: {reason}", "See the sentence above."
        )


def _python() -> DoctorCheck:
    version = ".".join(map(str, sys.version_info[:3]))
    return DoctorCheck(
        "python", sys.version_info >= (3, 11), version, "Install Python 3.11 or later."
    )


def _packages() -> DoctorCheck:
    """The pinned packages whose other versions are known to break."""
    wanted = {"celery": "5.6.3", "transformers": "5.17.0"}
    found = {name: importlib.metadata.version(name) for name in wanted}
    wrong = [
        f"{name} {found[name]}, not {wanted[name]}"
        for name in wanted
        if found[name] != wanted[name]
    ]
    detail = "; ".join(wrong) or ", ".join(f"{name} {version}" for name, version in found.items())
    return DoctorCheck("packages", not wrong, detail, "Install Referee again.")


def _home(settings: Settings) -> DoctorCheck:
    settings.home.mkdir(parents=True, exist_ok=True)
    probe = settings.home / ".doctor"
    probe.write_text("writable")
    probe.unlink()
    free_gib = shutil.disk_usage(settings.home).free / 2**30
    return DoctorCheck(
        "home",
        free_gib >= MIN_FREE_GIB,
        f"{settings.home}, {free_gib:.1f} GiB free",
        f"Free some space: at least {MIN_FREE_GIB:.0f} GiB.",
    )


def _readers() -> DoctorCheck:
    """How far this system confines the processes that read submitted files."""
    missing = "; ".join(missing_mechanisms())
    confined = "confined by resource limits, Landlock and seccomp"
    detail = f"confined by resource limits; missing: {missing}" if missing else confined
    return DoctorCheck("readers", True, detail)


def _database_checks(settings: Settings) -> Iterator[DoctorCheck]:
    connected = _guard("database", lambda: _connect(settings))
    yield connected
    if connected.ok:
        yield _guard("schema", lambda: _schema(settings))
        yield _guard("clock", lambda: _clock(open_database(settings.database)))
        yield _guard("workers", lambda: _workers(open_database(settings.database), settings))


def _connect(settings: Settings) -> DoctorCheck:
    if settings.database.startswith("sqlite") and not (settings.home / "referee.db").exists():
        return DoctorCheck(
            "database", False, "not created yet", "Run `referee db upgrade` or `referee up`."
        )
    return DoctorCheck("database", True, open_database(settings.database).address)


def _schema(settings: Settings) -> DoctorCheck:
    current, head = migrate.current(settings.database), migrate.head()
    fix = "Run `referee db upgrade`."
    if current != head:
        return DoctorCheck(
            "schema", False, f"at revision {current}, this version needs {head}", fix
        )
    differences = migrate.check(settings.database)
    return DoctorCheck("schema", not differences, "; ".join(differences) or f"revision {head}", fix)


def _clock(database: Database) -> DoctorCheck:
    skew = abs(database_time(database) - time.time())
    return DoctorCheck(
        "clock",
        skew <= MAX_CLOCK_SKEW_SECONDS,
        f"{skew:.1f} s between this host and the database",
        "Leases use the database's clock, so nothing breaks; synchronise the clocks with NTP.",
    )


def _workers(database: Database, settings: Settings) -> DoctorCheck:
    alive = [node for node in worker_nodes.listing(database) if node.age_s < settings.lease_seconds]
    complaints = [f"{node.name}: {node.complaint}" for node in alive if node.complaint]
    if complaints:
        fix = "Mend what it complains of, then `referee workers resume NAME`."
        return DoctorCheck("workers", False, "; ".join(complaints), fix)
    names = ", ".join(node.name for node in alive)
    return DoctorCheck(
        "workers", bool(alive), names or "none alive", "Start `referee up` or `referee worker`."
    )


def _broker(settings: Settings) -> DoctorCheck:
    found = broker.find(settings)
    if found is None:
        return DoctorCheck(
            "broker", False, "none is running here", "Start `referee up` or set REFEREE_BROKER_URL."
        )
    reason = broker.fault(found.url)
    host = found.url.rsplit("@", 1)[-1]
    return DoctorCheck(
        "broker",
        reason is None,
        reason or host,
        "Check REFEREE_BROKER_URL, its password and the server.",
    )


def _reviewer(name: str, config: ReviewerConfig | None) -> DoctorCheck:
    detail = f"{name}, {config.kind}" if config else f"there is no reviewer {name!r}"
    return DoctorCheck("reviewer", config is not None, detail, roster.known())


def _model(config: ReviewerConfig | None, settings: Settings) -> DoctorCheck:
    if config is None or config.base is None:
        return DoctorCheck("model", True, "this reviewer needs none here")
    try:
        folder = store.resolve(config.base, settings.home)
    except RefereeError as error:
        return DoctorCheck(
            "model", False, str(error), f"Run `referee model fetch {config.base.name}`."
        )
    return DoctorCheck("model", True, f"{config.base.name} in {folder}")


def _gpu(config: ReviewerConfig | None, settings: Settings) -> DoctorCheck:
    """No GPU is fine for a small model; a GPU that torch cannot use is a failure."""
    gpus = gpu_indices()
    if not gpus and _has_nvidia_card():
        fix = "Install NVIDIA's driver; `nvidia-smi` must list the card."
        return DoctorCheck("gpu", False, "an NVIDIA card is here, but the driver lists none", fix)
    if not gpus and (large := _too_large_for_cpu(config, settings)):
        fix = "Run `referee worker` where a GPU is; commands and `referee worker --cpu` run here."
        return DoctorCheck("gpu", False, f"no NVIDIA GPU here, and {large} needs one", fix)
    if not gpus and config is not None and config.base is None:
        return DoctorCheck("gpu", True, "no NVIDIA GPU here, and this reviewer needs none")
    if not gpus:
        return DoctorCheck("gpu", True, "no NVIDIA GPU here: models run on the CPU, slowly")
    # In a child process: a CUDA context made here would stay, and a broken driver may abort.
    answer = subprocess.run(
        python_command("models.kernels.gpu_check", _DEVICE, settings.kv_cache, settings.attention),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = (answer.stdout if answer.returncode == 0 else answer.stderr).strip().splitlines()
    detail = f"{len(gpus)} GPUs: {lines[-1] if lines else 'no answer'}"
    fix = "Install the driver and the torch build that belong together; `nvidia-smi` must work."
    return DoctorCheck("gpu", answer.returncode == 0, detail, fix)


def _has_nvidia_card() -> bool:
    """Whether the PCI bus has a display device of NVIDIA's, whatever drives it (Linux)."""
    for device in _PCI_DEVICES.glob("*"):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def _too_large_for_cpu(config: ReviewerConfig | None, settings: Settings) -> str | None:
    """The base model's name when its files are more than a CPU is useful for."""
    if config is None or config.base is None:
        return None
    try:
        folder = store.resolve(config.base, settings.home)
    except RefereeError:
        # Not on this machine. The small ones are those that come as packages; nobody is told
        # to fetch a model that a CPU cannot use.
        return None if config.base.name in store.PACKAGED else config.base.name
    size_gib = sum(file.stat().st_size for file in folder.glob("*") if file.is_file()) / 2**30
    return config.base.name if size_gib > MAX_CPU_MODEL_GIB else None
