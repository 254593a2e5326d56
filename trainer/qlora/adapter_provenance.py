"""Provenance of an adapter, written as provenance.json beside its weights."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.text.templates import TEMPLATES
from trainer.data.dataset import Dataset, TrainingPair
from trainer.qlora.recipe import Recipe

_ROOT = Path(__file__).resolve().parents[2]


def provenance(
    recipe: Recipe,
    dataset: Dataset,
    *,
    run: str,
    base_weights_sha256: str,
    versions: Mapping[str, str],
    metrics: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of an adapter: enough to reproduce it and to know its training papers.

    `papers` are the hashes of those; `sources` give each one's name at its source and its split.
    """
    config, base = recipe.reviewer_config, recipe.base
    template = config.template or ""
    splits = {"train": dataset.train, "validation": dataset.validation}
    return {
        "name": run,
        "run": run,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "base": base.name,
        "base_hub": base.hub,
        "base_revision": base.revision,
        "base_weights_sha256": base_weights_sha256,
        "aspects": config.aspects,
        "template": template,
        "template_sha256": TEMPLATES[template].sha256,
        "prompt_sha256": _sha256(config.aspect_set.system_prompt),
        "dataset": dataset.card.name,
        "dataset_sha256": dataset.card.sha256,
        "licences": sorted({source.licence for source in dataset.card.sources}),
        "recipe": recipe.to_json(),
        "recipe_sha256": recipe.sha256,
        "metrics": dict(metrics),
        "versions": dict(versions),
        "referee": version("referee"),
        "git_revision": git_revision(),
        "papers": sorted({pair.paper_sha256 for pairs in splits.values() for pair in pairs}),
        "sources": {split: list(map(_source, pairs)) for split, pairs in splits.items()},
    }


def git_revision() -> str | None:
    """The revision of the running code, with "+" if files changed; None outside a checkout."""
    if not (_ROOT / ".git").exists():
        return None  # installed; git would answer for a repository that holds the environment
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _source(pair: TrainingPair) -> dict[str, str]:
    return {"id": pair.id, "sha256": pair.paper_sha256}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
