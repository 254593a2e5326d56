"""Tiny random models and adapters for the loading tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.weights.loading import LoadedModel, Weights, load
from testing.small_models import FAMILIES, write_tiny_llama

Load = Callable[..., LoadedModel]


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random model's folder for each Llama family."""
    return {
        family: write_tiny_llama(tmp_path_factory.mktemp(family), family) for family in FAMILIES
    }


@pytest.fixture
def load_tiny(tiny_folders: dict[str, Path]) -> Load:
    """Load a family's random model on the CPU."""

    def load_family(family: str, weights: Weights = "nf4") -> LoadedModel:
        settings = FAMILIES[family]
        return load(
            tiny_folders[family],
            settings.base,
            template=settings.template,
            weights=weights,
            device=torch.device("cpu"),
        )

    return load_family
