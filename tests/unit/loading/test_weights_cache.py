"""Cached quantised weights are bitwise equal, and a broken cache never causes an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.weights import quantised_cache
from models.weights.loading import LoadedModel, Weights, load
from models.weights.quantised_cache import WeightsCache
from testing.small_models import FAMILIES, write_tiny_llama

FAMILY = FAMILIES["llama31"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("base"), "llama31")


def loaded(folder: Path, cache: WeightsCache | None, weights: Weights = "nf4") -> LoadedModel:
    cpu = torch.device("cpu")
    return load(
        folder, FAMILY.base, template=FAMILY.template, weights=weights, device=cpu, cache=cache
    )


@torch.no_grad()
def scores(model: LoadedModel) -> Tensor:
    found: Tensor = model.model(torch.arange(60)[None]).logits
    return found


@pytest.mark.parametrize("weights", ["nf4", "bf16"])
def test_kept_weights_give_the_same_scores_to_the_bit(
    folder: Path, tmp_path: Path, weights: Weights
) -> None:
    cache = WeightsCache(tmp_path / "cache")
    expected = scores(loaded(folder, None, weights))
    made = scores(loaded(folder, cache, weights))
    (entry,) = (path for path in cache.folder.iterdir() if path.is_dir())
    # When the base's own weights are no longer read
    kept = loaded(folder, cache, weights)
    assert torch.equal(made, expected)
    assert torch.equal(scores(kept), expected)
    assert kept.versions == loaded(folder, None, weights).versions
    # And a truncated entry is created again
    tensors = entry / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:999])
    assert torch.equal(scores(loaded(folder, cache, weights)), expected)
    assert torch.equal(scores(loaded(folder, cache, weights)), expected)


def test_only_the_entries_used_last_are_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantised_cache, "MAX_ENTRIES", 2)
    cache, model = WeightsCache(tmp_path), loaded(folder, None).model
    entries = [cache.entry({"number": number}) for number in range(3)]
    for age, entry in enumerate(entries[:2]):
        cache.save(model, entry)
        os.utime(entry, (age, age))
    cache.touch(entries[0])
    cache.save(model, entries[2])
    assert [entry.is_dir() for entry in entries] == [True, False, True]


def test_read_only_cache_folder_is_tolerated(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert scores(loaded(folder, WeightsCache(tmp_path / "file"))).shape[1] == 60
