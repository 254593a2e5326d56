"""An adapter's files as they are stored and distributed.

A package is a folder with PEFT's two files. `provenance.json`, beside them where an adapter was
trained, records its base, data and prompt.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError, deserialize

from errors import UserError, first_problem
from models.adapters.peft_options import unsupported_option, unsupported_tensor
from models.text.aspects import aspect_sets
from models.text.templates import TEMPLATES

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
#: The files of a package, in the order in which their bytes are stored.
FILES = (CONFIG, WEIGHTS)
PROVENANCE = "provenance.json"
#: Pickles that PEFT and others write: unpickling can run arbitrary code.
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
#: Types of tensors, by their names in safetensors, as numpy reads them; it has no bf16.
_NUMBERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
#: Bytes read at once.
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Provenance:
    """What an adapter was trained on and for; hashes are SHA-256 in hexadecimal.

    `template_sha256` and `prompt_sha256` are those of training: an adapter must be used with
    exactly the prompt that it was trained with.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    name: str
    base: str
    aspects: str
    template: str
    template_sha256: str
    prompt_sha256: str
    dataset_sha256: str | None = None
    git_revision: str | None = None
    #: Of the training run that made it, if that is in the database.
    run: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    #: SHA-256 of every paper of the training and validation splits.
    papers: tuple[str, ...] = ()

    def check(self) -> None:
        """UserError unless the current template and prompt are those that it was trained with."""
        template, aspects = TEMPLATES.get(self.template), aspect_sets().get(self.aspects)
        if template is None or template.sha256 != self.template_sha256:
            raise UserError(
                f"{self.name} was trained with another {self.template} template than this "
                "version of Referee has: train it again, or use the version that it was made for."
            )
        if aspects is None or prompt_sha256(aspects.system_prompt) != self.prompt_sha256:
            raise UserError(
                f"{self.name} was trained with another prompt for {self.aspects} aspects than "
                "this version of Referee has: train it again, or use the version it was made for."
            )


def prompt_sha256(system_prompt: str) -> str:
    """Hash of a system prompt, as `Provenance` keeps it."""
    return hashlib.sha256(system_prompt.encode()).hexdigest()


def read_provenance(folder: Path) -> Provenance:
    """Read `provenance.json`. UserError if it is missing or incomplete."""
    path = folder / PROVENANCE
    try:
        return TypeAdapter(Provenance).validate_json(path.read_bytes())
    except OSError:
        raise UserError(
            f"{folder} has no {PROVENANCE}: the trainer writes it beside the weights; docs/gpu.md "
            "says what it holds, for an adapter that was trained elsewhere."
        ) from None
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}.") from error


def check_package(folder: Path) -> Mapping[str, Any]:
    """Check that a folder is a whole LoRA or DoRA adapter; return its PEFT configuration.

    UserError, in one sentence, for a pickle, a truncated file, tensors that do not match or
    non-finite values.
    """
    if not (folder / WEIGHTS).is_file():
        pickle = next((p for kind in _PICKLES for p in sorted(folder.glob(kind))), None)
        raise UserError(
            f"{folder} has no {WEIGHTS}."
            if pickle is None
            else f"{pickle} is a pickle, which could run anything when it is read: "
            "only safetensors are taken."
        )
    config = _read_config(folder / CONFIG)
    try:
        data = (folder / WEIGHTS).read_bytes()
        tensors = dict(deserialize(data))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{folder / WEIGHTS} cannot be read: {error}.") from error
    problem = _problem(config, {name: tuple(t["shape"]) for name, t in tensors.items()})
    problem = problem or _problem_with_numbers(tensors)
    if problem:
        raise UserError(f"{folder} is not an adapter that Referee can use: {problem}.")
    return config


def read_chunks(folder: Path) -> Iterator[bytes]:
    """The concatenated bytes of a package's files."""
    for name in FILES:
        with (folder / name).open("rb") as stream:
            while data := stream.read(_CHUNK_BYTES):
                yield data


def layout(folder: Path) -> list[list[Any]]:
    """Name and size of each file of a package, as `db.adapters` keeps them."""
    return [[name, (folder / name).stat().st_size] for name in FILES]


def _problem_with_numbers(tensors: Mapping[str, Mapping[str, Any]]) -> str | None:
    # Imported late: a worker starts without numpy.
    import numpy as np

    for name, tensor in tensors.items():
        if tensor["dtype"] not in _NUMBERS:
            return f"{name} is of type {tensor['dtype']}"
        numbers = np.frombuffer(tensor["data"], _NUMBERS[tensor["dtype"]])
        if tensor["dtype"] == "BF16":
            # The upper half of a float32.
            numbers = (numbers.astype("<u4") << 16).view("<f4")
        if not np.isfinite(numbers).all():
            return f"{name} holds numbers that are not finite"
    return None


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    if not isinstance(config, Mapping) or config.get("peft_type") != "LORA":
        raise UserError(f"{path} describes neither a LoRA nor a DoRA adapter.")
    return config


def _problem(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    problem = unsupported_option(config) or unsupported_tensor(config, shapes)
    if problem:
        return problem
    rank = config["r"]
    for name, shape in shapes.items():
        side = {"A.weight": 0, "B.weight": -1}.get(name.rpartition(".lora_")[2])
        wrong = len(shape) != (1 if side is None else 2) or not math.prod(shape)
        if wrong or (side is not None and shape[side] != rank):
            return f"{name} has shape {list(shape)} and its rank is {rank}"
    return None
