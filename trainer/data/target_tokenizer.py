"""Finds the tokenizer of the model that a data set is for; no torch, no weights are read."""

from __future__ import annotations

from errors import UserError
from models.text.reviewer import ReviewerConfig
from models.text.templates import TEMPLATES
from models.weights import store
from settings import Settings
from trainer.data.dataset_build import TargetModel


def target_of(config: ReviewerConfig, settings: Settings) -> TargetModel:
    """A local reviewer with its tokenizer. MissingPart when its model is not on this machine."""
    if config.base is None or config.template is None:
        raise UserError(f"{config.name} has no local model that could learn from a data set.")
    tokenizer = store.load_tokenizer(store.resolve(config.base, settings.home))
    TEMPLATES[config.template].check(tokenizer)
    return TargetModel(config, tokenizer, config.base.name)
