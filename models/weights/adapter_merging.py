"""Write a model with an adapter merged in, for servers that do not support such adapters."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch

from errors import UserError
from models.text.bases import BaseModel
from models.weights.loading import default_device, load

#: Files of the base's folder that are copied: its tokenizer and templates.
_COPIED = ("tokenizer*", "special_tokens_map.json", "chat_template*")


def merge(
    base_folder: Path, base: BaseModel, template: str, adapter: Path, sha256: str, output: Path
) -> None:
    """Merge the adapter into the base's NF4 weights, dequantised to bf16, and save the model.

    Those weights, and not the original ones, are what it was trained on. UserError when `output`
    exists; RequestRefused when the adapter does not fit.
    """
    if output.exists():
        raise UserError(f"{output} exists already: name a folder that does not.")
    device = default_device()
    loaded = load(base_folder, base, template=template, weights="bf16", device=device)
    loaded.adapters.attach(adapter, sha256)
    model = loaded.adapters.merged(sha256).to(torch.bfloat16)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Beside the output, so that a full disk leaves no partial folder under its name.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as scratch:
        made = Path(scratch) / "model"
        try:
            model.save_pretrained(made)
            for pattern in _COPIED:
                for path in base_folder.glob(pattern):
                    shutil.copyfile(path, made / path.name)
        except OSError as error:
            raise UserError(f"{output} cannot be written: {error}.") from error
        made.rename(output)
