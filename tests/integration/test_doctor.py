"""`referee doctor` reports each broken part, and no other."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from db import migrate, worker_nodes
from db.session import open_database
from dispatch.broker import serve
from settings import Settings
from tests.conftest import PostgresServer
from worker import doctor

#: Needs neither a model nor a GPU.
REVIEWER = "gpt4-1106-7"


@pytest.fixture
def settings(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Settings]:
    """A working installation."""
    shutil.copy(migrated_sqlite, tmp_path / "referee.db")
    settings = Settings(home=tmp_path, database_url="", broker_url="")
    database = open_database(settings.database)
    about: dict[str, Any] = {"host": "h", "pid": 1, "gpu": "", "queues": ["cpu"], "base": ""}
    worker_nodes.register_worker(database, name="w1", slots=1, code_version="1", **about)
    database.close()
    with serve(settings) as served:
        yield settings.model_copy(update={"broker_url": served.url})


def broken(settings: Settings, reviewer: str = REVIEWER) -> dict[str, doctor.DoctorCheck]:
    checks = doctor.run_checks(settings, reviewer)
    assert all(check.fix for check in checks if not check.ok)
    return {check.name: check for check in checks if not check.ok}


def test_nothing_is_broken_at_first(settings: Settings) -> None:
    assert broken(settings) == {}


def test_a_wrong_broker_password(settings: Settings) -> None:
    url = settings.broker_url.replace("redis://referee:", "redis://referee:wrong")
    found = broken(settings.model_copy(update={"broker_url": url}))
    assert found.keys() == {"broker"}
    assert found["broker"].detail.startswith("invalid username-password pair")


def test_database_that_refuses_connections(settings: Settings, postgres_server: Any) -> None:
    server: PostgresServer = postgres_server
    url = make_url(server.url("postgres")).set(username="nobody", password="secret")
    text = url.render_as_string(hide_password=False)
    found = broken(settings.model_copy(update={"database_url": text}))
    assert found.keys() == {"database"}
    assert "secret" not in found["database"].detail
    assert 'role "nobody" does not exist' in found["database"].detail


def test_an_old_schema(settings: Settings) -> None:
    migrate.downgrade(settings.database, "0004")
    found = broken(settings)
    assert "at revision 0004" in found["schema"].detail
    assert found["schema"].fix == "Run `referee db upgrade`."


def test_a_full_disk(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(free=2**20)
    monkeypatch.setattr(doctor, "shutil", SimpleNamespace(disk_usage=lambda _: full))
    found = broken(settings)
    assert found.keys() == {"home"}
    assert "0.0 GiB free" in found["home"].detail


def test_a_clock_that_is_wrong(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    late = SimpleNamespace(time=lambda: time.time() - 90)
    monkeypatch.setattr(doctor, "time", late)
    found = broken(settings)
    assert found.keys() == {"clock"}
    assert found["clock"].detail.startswith("90.")


def test_a_worker_that_complains(settings: Settings) -> None:
    database = open_database(settings.database)
    worker_nodes.drain_with_complaint(database, "w1", "its card is sick")
    database.close()
    found = broken(settings)
    assert found["workers"].detail == "w1: its card is sick"


@contextmanager
def without_gpu(monkeypatch: pytest.MonkeyPatch, devices: Path) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr(doctor, "gpu_indices", list)
        patched.setattr(doctor, "_PCI_DEVICES", devices)
        yield


def test_no_gpu_for_a_large_model_and_a_card_without_a_driver(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    devices = tmp_path / "pci"
    with without_gpu(monkeypatch, devices):
        assert broken(settings) == {}
        # Given the weights of an 8B model as a sparse file, which takes no disk space
        weights = tmp_path / "weights"
        weights.mkdir()
        with (weights / "model.safetensors").open("wb") as file:
            file.truncate(16 * 2**30)
        monkeypatch.setattr("models.weights.store.resolve", lambda base, home: weights)
        assert "llama31-8b needs one" in broken(settings, "llama31-7")["gpu"].detail
        # And a GPU without a driver
        card = devices / "0000:01:00.0"
        card.mkdir(parents=True)
        (card / "vendor").write_text("0x10de\n")
        (card / "class").write_text("0x030200\n")
        assert "driver lists none" in broken(settings, "llama31-7")["gpu"].detail


def test_large_model_without_a_gpu_is_reported_as_a_missing_gpu(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "gpu_indices", list)
    monkeypatch.setattr(doctor, "_has_nvidia_card", lambda: False)
    found = broken(settings, "llama31-7")
    assert found["gpu"].detail == "no NVIDIA GPU here, and llama31-8b needs one"
    assert broken(settings, "demo-7").keys() <= {"model"}


def test_working_gpu_reports_the_kernels_that_an_engine_uses(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The CPU replaces the GPU; program and output are the same
    monkeypatch.setattr(doctor, "gpu_indices", lambda: ["0", "1"])
    monkeypatch.setattr(doctor, "_DEVICE", "cpu")
    (found,) = [check for check in doctor.run_checks(settings) if check.name == "gpu"]
    assert found.ok
    assert found.detail.startswith("2 GPUs: CPU: attention sdpa (no GPU")
    assert "bitsandbytes' products (no GPU)" in found.detail


def test_a_driver_that_torch_cannot_use(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A driver lists a GPU, but torch finds none
    monkeypatch.setattr(doctor, "gpu_indices", lambda: ["0"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = broken(settings)
    assert found.keys() == {"gpu"}
    assert "driver and the torch build" in found["gpu"].fix
