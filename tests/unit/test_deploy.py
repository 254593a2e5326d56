"""Files in deploy/ agree with the program."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY

from db.completion import Cost
from settings import Settings
from testing import ROOT
from worker.metrics import Metrics

DEPLOY = ROOT / "deploy"


def names(tmp_path: Path) -> set[str]:
    """Names of all series of a worker's endpoint."""
    metrics = Metrics(Settings(home=tmp_path), "0")
    metrics.claimed(1.0)
    metrics.ended("review", "lost")
    metrics.committed(Cost(1, 1, 0, 1.0))
    metrics.rejected()
    metrics.state(slots=1, in_use=0, draining=False)
    return {sample.name for family in metrics.registry.collect() for sample in family.samples}


def test_alerts_and_docs_name_existing_metrics(tmp_path: Path) -> None:
    known = names(tmp_path)
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        used = set(re.findall(r"referee_\w+", rule["expr"]))
        assert used <= known, rule["alert"]
        assert rule["annotations"]["summary"]
    page = (ROOT / "docs" / "operations.md").read_text()
    for name in set(re.findall(r"`(referee_\w+)", page)):
        assert any(each.startswith(name) for each in known), name
    assert not any(name.startswith("referee_") for name in REGISTRY._names_to_collectors)


@pytest.mark.parametrize("script", ["server/make-certs", "slurm/worker.sbatch"])
def test_scripts_can_be_read_by_their_shell(script: str) -> None:
    shell = (DEPLOY / script).read_text().splitlines()[0].removeprefix("#!")
    subprocess.run([shell, "-n", DEPLOY / script], check=True)


def test_settings_used_in_deployments_exist() -> None:
    known = {f"REFEREE_{name.upper()}" for name in Settings.model_fields}
    # Read by the compose files and systemd units.
    known |= {f"REFEREE_{name}" for name in ("GPUS", "PAPERS", "ENV", "PRIVATE_ADDRESS")}
    known |= {"REFEREE_BROKER_PASSWORD", "REFEREE_DATABASE_PASSWORD"}
    for file in [ROOT / "docker-compose.yml", *DEPLOY.rglob("*")]:
        if file.is_file() and "certs" not in file.parts:
            assert set(re.findall(r"REFEREE_[A-Z_]+", file.read_text())) <= known, file
