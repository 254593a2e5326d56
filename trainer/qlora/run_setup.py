"""Create the parts of a run from its recipe: data set, samples, model with a new adapter."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from errors import UserError
from models.text.templates import TEMPLATES
from models.weights.loading import LoadedModel
from trainer.data import dataset as datasets
from trainer.data.dataset import Dataset, TrainingPair
from trainer.data.pair_encoding import PairEncoder, Sample
from trainer.qlora.causal_attention import choose_attention
from trainer.qlora.elementwise import choose_elementwise
from trainer.qlora.llama import TrainableLlama, head_shape
from trainer.qlora.lora import LoraSettings
from trainer.qlora.memory import fit, limit_memory
from trainer.qlora.recipe import Recipe


class LazySamples:
    """Samples of pairs, tokenised on access."""

    def __init__(self, pairs: tuple[TrainingPair, ...], encoder: PairEncoder) -> None:
        self._pairs, self._encoder = pairs, encoder
        self._encode = lru_cache(maxsize=512)(lambda index: encoder.encode(self._pairs[index]))

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        return self._encode(index)


def read_dataset(recipe: Recipe, home: Path) -> Dataset:
    """The recipe's data set. UserError if it is damaged or made for another kind of reviewer."""
    place = Path(recipe.dataset)
    folder = place if place.is_absolute() or place.is_dir() else home / "datasets" / place
    if not folder.is_dir():
        raise UserError(
            f"There is no data set {recipe.dataset}: make it with `referee data build`, or name "
            "its folder with --dataset."
        )
    data, config = datasets.read(folder), recipe.reviewer_config
    if data.card.aspects != config.aspects:
        raise UserError(
            f"{folder} has reviews of the aspect set {data.card.aspects}, but reviewer "
            f"{config.name} writes {config.aspects}."
        )
    if data.card.cut.template != config.template:
        raise UserError(
            f"{folder} was made for template {data.card.cut.template}, but reviewer "
            f"{config.name} uses {config.template}."
        )
    if not data.train:
        raise UserError(f"{folder} has no pairs to train on.")
    return data


def make_encoder(recipe: Recipe, tokenizer: Tokenizer) -> PairEncoder:
    """The encoder of pairs, with the template and limits of the recipe's reviewer."""
    config = recipe.reviewer_config
    return PairEncoder(
        tokenizer, TEMPLATES[config.template or ""], config.aspect_set, recipe.limits
    )


def make_trainable(
    recipe: Recipe, loaded: LoadedModel, memory_gib: float = 0.0, n_tokens: int = 0
) -> tuple[TrainableLlama, str]:
    """The model with a new adapter, fitted into memory, and a sentence on the choices made.

    Samples have at most `n_tokens`, by default the recipe's own limit.
    """
    limit_memory(loaded.device, memory_gib)
    n_tokens = n_tokens or recipe.limits.max_pair_tokens
    attention = choose_attention(
        loaded.device, loaded.model.dtype, head_shape(loaded.model), n_tokens
    )
    elementwise = choose_elementwise(loaded.device)
    model = TrainableLlama(
        loaded.model,
        lora_settings(recipe),
        attention=attention,
        elementwise=elementwise,
        seed=recipe.seed,
    )
    plan = fit(model, n_tokens, recipe.limits.max_response_tokens, memory_gib)
    return model, (
        f"Attention: {attention.name} ({attention.reason}). Norms and gates: {elementwise.name}. "
        f"Memory: {plan}."
    )


def lora_settings(recipe: Recipe) -> LoraSettings:
    """The recipe's adapter settings."""
    lora = recipe.lora
    return LoraSettings(lora.rank, lora.alpha, lora.dropout, lora.dora)
