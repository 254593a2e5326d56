"""The model architectures that Referee loads and trains.

transformers loads many more, but kernels, adapters, paged attention and training compute the
function of these only: for a model with other norms, biases or positions the result would be wrong
without an error. A checkpoint is compared with this list before its weights are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from errors import UserError


@dataclass(frozen=True)
class Architecture:
    """A class of transformers, and the configurations of it that are supported."""

    model_type: str
    class_name: str
    #: Models of this architecture by their usual names.
    models: str
    #: The supported values of keys in config.json; other keys may have any value.
    values: Mapping[str, Sequence[object]]
    #: Further restrictions for training.
    training_values: Mapping[str, Sequence[object]] = field(default_factory=dict)
    rope_types: Sequence[str] = ("default",)

    def __str__(self) -> str:
        return f"{self.class_name} ({self.models})"


ARCHITECTURES = (
    Architecture(
        model_type="llama",
        class_name="LlamaForCausalLM",
        models="Llama 2 to 3.2, SmolLM2",
        values={
            # DoRA scales a layer's output; a bias in it would be scaled too.
            "attention_bias": (False,),
            "mlp_bias": (False,),
            # The fused kernels and training compute SwiGLU.
            "hidden_act": ("silu",),
        },
        # transformers applies this dropout in training; trainer.qlora does not.
        training_values={"attention_dropout": (0, None)},
        # `dynamic` and `longrope` change the frequencies with the length of a sequence; cached
        # keys keep the frequencies that they were computed with.
        rope_types=("default", "linear", "llama3"),
    ),
)


def check_class(config: Mapping[str, Any], folder: Path) -> Architecture:
    """The architecture that the config.json in `folder` names. UserError if it is not supported."""
    names = config.get("architectures") or []
    for architecture in ARCHITECTURES:
        # With another head, as for classification, `lm_head` would be random.
        if config.get("model_type") == architecture.model_type and (
            not names or architecture.class_name in names
        ):
            return architecture
    name = ", ".join(map(str, names)) or f"model of type {config.get('model_type')}"
    supported = ", ".join(map(str, ARCHITECTURES))
    raise UserError(f"{folder} holds a {name}; supported architectures: {supported}.")


def check_values(
    config: Mapping[str, Any], folder: Path, architecture: Architecture, *, training: bool = False
) -> None:
    """Compare a whole configuration, with its defaults and the base's RoPE, with `architecture`.

    UserError, naming the key, for an unsupported value. `training` checks `training_values` too.
    """
    rope = config.get("rope_parameters") or {}
    supported = {**architecture.values, **(architecture.training_values if training else {})}
    found = {
        **{key: (config.get(key), values) for key, values in supported.items()},
        "rope_type": (rope.get("rope_type"), architecture.rope_types),
        # The rotary kernels rotate whole heads.
        "partial_rotary_factor": (rope.get("partial_rotary_factor"), (1, None)),
    }
    for key, (value, values) in found.items():
        if value not in values:
            purpose = "trained" if training and key in architecture.training_values else "loaded"
            allowed = " or ".join(str(each) for each in values if each is not None)
            raise UserError(
                f"{folder} holds a {architecture.class_name} with {key} {value}; "
                f"{architecture} can be {purpose} with {key} {allowed}."
            )
