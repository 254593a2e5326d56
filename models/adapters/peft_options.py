"""Check that an adapter uses only those options of PEFT that the engines compute.

What an engine does not know it would leave out, and the reviews would be another model's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

#: Options that concern training, loading or PEFT itself, and none of the arithmetic. Which modules
#: have an adapter is told by the tensors and compared with `target_modules`.
_INERT = frozenset(
    {
        *("peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"),
        *("inference_mode", "lora_dropout", "megatron_core", "qalora_group_size"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        # Settings of initialisations, which `init_lora_weights` names.
        *("loftq_config", "eva_config", "corda_config", "lora_ga_config"),
        # Concerns modules_to_save and trainable tokens, both refused.
        "ensure_weight_tying",
        "runtime_config",
    }
)
#: Initialisations that leave the base weights as they are.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
#: Beginnings of the names of initialisations that subtract their start from the base weights.
_CHANGING_STARTS = {
    "pissa": "PiSSA",
    "olora": "OLoRA",
    "corda": "CorDA",
    "loftq": "LoftQ",
    "lora_ga": "LoRA-GA",
}
#: Options that change the arithmetic, and what they do. Null, false and empty are unset.
_UNSUPPORTED = {
    "modules_to_save": "it replaces whole modules",
    "alpha_pattern": "its rank or alpha differs from layer to layer",
    "rank_pattern": "its rank or alpha differs from layer to layer",
    "lora_bias": "its matrices have a bias (lora_bias), which no engine applies",
    "layer_replication": "it replicates layers of the base model",
    "alora_invocation_tokens": "it is an aLoRA, which acts only after certain tokens",
    "trainable_token_indices": "it has trained embeddings of tokens",
    "target_parameters": "it changes parameters that are not linear layers",
    "fan_in_fan_out": "its layers store their weights transposed (fan_in_fan_out)",
    "use_qalora": "it is a QALoRA, which pools its input",
    "use_bdlora": "it is a block-diagonal LoRA (use_bdlora)",
    "arrow_config": "it routes between several adapters (arrow_config)",
    "kasa_config": "it is a KaSA, which changes the base weights",
    "monteclora_config": "it samples its weights (monteclora_config)",
    "velora_config": "it was trained with VeLoRA, which no engine has been compared with",
    "megatron_config": "its layers are Megatron's",
}
_PROJECTIONS = (
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
)
#: The linear layers of a Llama, of which PEFT calls all but `lm_head` "all-linear".
_LINEAR = re.compile(
    r"model\.layers\.(?P<layer>\d+)\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)|lm_head"
)
_TENSOR = re.compile(
    r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>A\.weight|B\.weight|magnitude_vector)"
)


def unsupported_option(config: Mapping[str, Any]) -> str | None:
    """What an adapter_config.json asks for that no engine computes; None if there is nothing."""
    start = config.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        return _problem_of_start(start)
    for name, problem in _UNSUPPORTED.items():
        if _is_set(config.get(name)):
            return problem
    if config.get("bias", "none") != "none":
        return f"it trains biases of the base model (bias {config['bias']!r})"
    if config.get("task_type") not in ("CAUSAL_LM", None):
        return f"its task is {config['task_type']}, not CAUSAL_LM"
    for name in ("use_dora", "use_rslora"):
        if not isinstance(config.get(name, False), bool):
            return f"its {name} is {config[name]!r}, neither true nor false"
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not _is_number(rank) or not isinstance(rank, int) or rank < 1:
        return f"its rank (r) is {rank!r}"
    if not _is_number(alpha) or not alpha:
        return f"its lora_alpha is {alpha!r}"
    known = {*_INERT, *_UNSUPPORTED, "init_lora_weights", "bias", "task_type", "use_dora"}
    known |= {"use_rslora", "r", "lora_alpha"}
    unknown = sorted(name for name in config.keys() - known if _is_set(config[name]))
    return f"it sets {unknown[0]}, which no engine knows" if unknown else None


def unsupported_tensor(
    config: Mapping[str, Any], names: Iterable[str], n_layers: int | None = None
) -> str | None:
    """Why the tensors of these names are not those of the adapter; None if they are.

    `n_layers` is the base model's number of layers, where that is known.
    """
    parts: dict[str, set[str]] = {}
    for name in sorted(names):
        if "_orig_mod." in name:
            return (
                f"{name} is of a compiled model: save the adapter of the model inside "
                "(`_orig_mod`), or remove that prefix from the names"
            )
        found = _TENSOR.fullmatch(name)
        if found is None or not _LINEAR.fullmatch(found["module"]):
            return f"{name} is a tensor that no engine applies"
        parts.setdefault(found["module"], set()).add(found["part"])
    if not parts:
        return "it holds no tensors"
    wanted = {"A.weight", "B.weight"} | ({"magnitude_vector"} if config.get("use_dora") else set())
    for module, has in sorted(parts.items()):
        if missing := wanted - has:
            return f"it lacks {', '.join(sorted(missing))} of {module}"
        if extra := has - wanted:
            return f"it has {', '.join(sorted(extra))} of {module}, but use_dora is not set"
    return _problem_of_targets(config, parts.keys(), n_layers)


def _problem_of_start(start: object) -> str:
    for beginning, name in _CHANGING_STARTS.items():
        if isinstance(start, str) and start.lower().startswith(beginning):
            return (
                f"{name} trains against changed base weights: convert it to a plain LoRA first "
                "(`save_pretrained` with `path_initial_model_for_weight_conversion`)"
            )
    return f"it was initialised by {start!r}, which may have changed the base weights"


def _problem_of_targets(
    config: Mapping[str, Any], modules: Collection[str], n_layers: int | None
) -> str | None:
    """PEFT ignores tensors of modules that are no targets, and starts absent ones at random."""
    if config.get("target_modules") is None:
        return None
    stray = sorted(module for module in modules if not _is_target(config, module))
    if stray:
        return f"it has tensors of {stray[0]}, which its target_modules do not name"
    layers = {layer for module in modules if (layer := _layer(module)) is not None}
    if _layers_to_transform(config) is None and layers:
        layers = set(range(n_layers or max(layers) + 1))
    wanted = [f"model.layers.{layer}.{name}" for layer in layers for name in _PROJECTIONS]
    absent = sorted(m for m in wanted if m not in modules and _is_target(config, m))
    return f"it lacks {absent[0]}, which its target_modules name" if absent else None


def _is_target(config: Mapping[str, Any], module: str) -> bool:
    chosen, layer = _layers_to_transform(config), _layer(module)
    if chosen is not None and layer is not None and layer not in chosen:
        return False
    if _names(config.get("exclude_modules"), module):
        return False
    return _names(config.get("target_modules"), module)


def _names(targets: object, module: str) -> bool:
    """Whether a module is named as PEFT compares: by a whole name, its end, or an expression."""
    if targets == "all-linear":
        return module != "lm_head"
    if isinstance(targets, str):
        try:
            return re.fullmatch(targets, module) is not None
        except re.error:
            return False
    if isinstance(targets, list):
        ends = [each for each in targets if isinstance(each, str)]
        return any(module == each or module.endswith(f".{each}") for each in ends)
    return False


def _layers_to_transform(config: Mapping[str, Any]) -> set[int] | None:
    layers = config.get("layers_to_transform")
    if layers is None or layers == []:
        return None
    several = layers if isinstance(layers, list) else [layers]
    return {each for each in several if isinstance(each, int)}


def _layer(module: str) -> int | None:
    found = _LINEAR.fullmatch(module)
    return int(found["layer"]) if found and found["layer"] else None


def _is_set(value: object) -> bool:
    return value is not None and value is not False and value not in ("", [], {})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
