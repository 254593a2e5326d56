"""The model architectures that Referee loads and trains.

transformers loads many more, but kernels, adapters, paged attention and training compute the
function of these alone: on a model with other norms, biases or positions they would give wrong
numbers without an error. A checkpoint is compared with this list before its weights are read.
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
    #: Models of this architecture, as a user calls them.
    models: str
    #: The supported values of a key in config.json; keys that are not named may have any value.
    values: Mapping[str, Sequence[object]]
    #: What training supports of it, where that is less.
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
            # The fused gate and the training's are SwiGLU.
            "hidden_act": ("silu",),
        },
        # In training transformers would drop attention weights; ours does not.
        training_values={"attention_dropout": (0, None)},
        # `dynamic` and `longrope` change the frequencies with the length of a sequence, but the
        # keys in a cache keep those that they were written with.
        rope_types=("default", "linear", "llama3"),
    ),
)


def check_class(config: Mapping[str, Any], folder: Path) -> Architecture:
    """The architecture that the config.json in `folder` names. UserError if it is not supported."""
    names = config.get("architectures") or []
    for architecture in ARCHITECTURES:
        # Another head on a Llama, as for classification, would leave `lm_head` random.
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

    UserError, which names the key, if it computes another function. `training` asks for what
    training supports.
    """
    rope = config.get("rope_parameters") or {}
    supported = {**architecture.values, **(architecture.training_values if training else {})}
    found = {
        **{key: (config.get(key), values) for key, values in supported.items()},
        "rope_type": (rope.get("rope_type"), architecture.rope_types),
        # Part of a head without positions: the rotation covers whole heads.
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
