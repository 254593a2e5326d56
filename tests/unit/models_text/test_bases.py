"""A base model is one file, and reviewers, listings and training find it by its name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models.text import bases, reviewer
from models.text.bases import BaseModel
from trainer.qlora import recipe as recipes


def test_a_base_is_added_by_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given one more file beside those that come with Referee
    folder = Path(shutil.copytree(bases.FOLDER, tmp_path / "bases"))
    (folder / "llama32-3b.yaml").write_text(
        "hub: meta-llama/Llama-3.2-3B-Instruct\nrevision: main\nmax_context: 131072\n"
        "template: llama3\n"
    )
    monkeypatch.setattr(bases, "FOLDER", folder)
    # When a reviewer names it, and a recipe that reviewer
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\nkind: local\naspects: '4'\nbase: llama32-3b\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"name: mine\nreviewer: {mine}\ndataset: mine\n")
    # Then all of them mean the same
    base = BaseModel("llama32-3b", "meta-llama/Llama-3.2-3B-Instruct", "main", 131072)
    config = reviewer.load(mine)
    assert (config.base, config.template) == (base, "llama3")
    assert config.queue == "reviews.llama32-3b"
    assert recipes.load(recipe).base == bases.builtin()["llama32-3b"] == base


def test_no_shipped_reviewer_describes_its_base() -> None:
    for path in reviewer.builtin().values():
        assert "hub:" not in path.read_text(), path
