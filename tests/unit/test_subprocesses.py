"""Python subprocesses do not import from the working directory."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from pathlib import Path

import pytest

from subprocesses import isolate_subprocesses, python_command


@pytest.fixture(autouse=True)
def hostile_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory, with modules that no child process may import."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    for name in ("json", "pickle"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('from the working directory')")


def test_a_module_is_run_from_the_environment() -> None:
    done = subprocess.run(python_command("json.tool", "--help"), capture_output=True, check=True)
    assert b"json" in done.stdout


def test_process_started_by_a_library_does_not_import_from_the_working_directory() -> None:
    isolate_subprocesses()
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    process.start()
    process.join()
    assert process.exitcode == 0
