"""A training recipe: read from YAML and checked.

Base model, template, aspects and limits are those of a reviewer, so that an adapter is trained on
the prompts that it will be given.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from errors import UserError, first_problem
from models.text import reviewer
from models.text.bases import BaseModel
from models.text.reviewer import ReviewerConfig
from resources import package_folder
from trainer.data.pair_encoding import Limits

FOLDER = package_folder("configs") / "train"


@dataclass(frozen=True)
class Lora:
    """Rank, alpha, dropout, and whether it is DoRA."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    rank: int = 64
    alpha: float = 16
    dropout: float = 0.0
    dora: bool = False


@dataclass(frozen=True)
class Recipe:
    """One way to train. `batch` is the effective one, over all GPUs and accumulated samples."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    #: Name of the reviewer that will use the adapter, or path of its YAML file.
    reviewer: str
    #: Folder of the data set, absolute or below $REFEREE_HOME/datasets.
    dataset: str
    lora: Lora = field(default_factory=Lora)
    batch: int = 16
    learning_rate: float = 1e-4
    #: After the warm-up: constant, or down to a tenth along a half cosine.
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    #: Gradients with a larger norm are scaled down to this one.
    max_grad_norm: float = 1.0
    epochs: float = 3
    #: Ends the run early; 0 means after `epochs`.
    max_steps: int = 0
    #: Steps between two checkpoints, and between two validations.
    save_every: int = 100
    #: Number of newest checkpoints that are kept, beside the best one and `keep_steps`.
    keep: int = 3
    keep_steps: tuple[int, ...] = ()
    #: Validation pairs that are used; 0 means all.
    validation_pairs: int = 0
    seed: int = 42

    @property
    def reviewer_config(self) -> ReviewerConfig:
        """The reviewer; UserError when there is none of that name."""
        builtin = reviewer.builtin()
        return reviewer.load(builtin.get(self.reviewer, Path(self.reviewer)))

    @property
    def base(self) -> BaseModel:
        """The base model that the adapter is for."""
        base = self.reviewer_config.base
        if base is None:
            raise UserError(f"recipe {self.name}: reviewer {self.reviewer} has no base model")
        return base

    @property
    def limits(self) -> Limits:
        """The reviewer's own limits in tokens."""
        config = self.reviewer_config
        return Limits(config.max_prompt_tokens, config.max_new_tokens)

    @property
    def sha256(self) -> str:
        """Hash of all settings that change a step, so without those of saving."""
        free = ("name", "dataset", "save_every", "keep", "keep_steps", "max_steps", "epochs")
        fields = {name: value for name, value in self.to_json().items() if name not in free}
        if self.schedule == "cosine":
            fields |= {"epochs": self.epochs, "max_steps": self.max_steps}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        document: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return document

    def n_steps(self, n_pairs: int) -> int:
        """Optimiser steps of the whole run; the last one may have a smaller batch."""
        wanted = -(-round(self.epochs * n_pairs) // self.batch)
        return min(wanted, self.max_steps) if self.max_steps else wanted


def load(path: Path) -> Recipe:
    """Read a recipe, by path or by the name of one that comes with Referee.

    UserError, naming file and key, if it is invalid.
    """
    path = path if path.exists() else FOLDER / f"{path}.yaml"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(each.stem for each in FOLDER.glob("*.yaml")))
        raise UserError(
            f"There is no recipe {path.stem}: give a YAML file or one of {known}."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, Mapping):
        raise UserError(f"{path}: a recipe is a mapping of keys to values.")
    try:
        recipe = _recipe_type().validate_python(dict(document))
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}.") from error
    for key, problem in _problems(recipe):
        raise UserError(f"{path}: {key}: {problem}.")
    return recipe


@lru_cache(maxsize=1)
def _recipe_type() -> TypeAdapter[Recipe]:
    return TypeAdapter(Recipe)


def _problems(recipe: Recipe) -> list[tuple[str, str]]:
    """Rules that types cannot express."""
    positive = ("batch", "learning_rate", "epochs", "save_every", "keep", "max_grad_norm")
    rules = [
        *((key, getattr(recipe, key) > 0, "must be above 0") for key in positive),
        ("lora.rank", recipe.lora.rank > 0, "must be above 0"),
        ("lora.dropout", 0 <= recipe.lora.dropout < 1, "must be at least 0 and below 1"),
        (
            "lora.dropout",
            not (recipe.lora.dora and recipe.lora.dropout),
            "DoRA is trained without dropout here",
        ),
        ("warmup_steps", recipe.warmup_steps >= 0, "must not be negative"),
        ("name", recipe.name == Path(recipe.name).name != "", "must be a plain name"),
    ]
    return [(key, sentence) for key, holds, sentence in rules if not holds]
