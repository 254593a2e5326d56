"""Homes with what matching needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from testing.small_models import install_embedding_model


@pytest.fixture(scope="session")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that keeps vectors of texts: the model is asked for each text once a session."""
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture
def home(tmp_path: Path, vectors: Path) -> Path:
    """A home for one test, with the embedding model and the vectors that are kept."""
    install_embedding_model(tmp_path)
    (tmp_path / "cache").symlink_to(vectors)
    return tmp_path
