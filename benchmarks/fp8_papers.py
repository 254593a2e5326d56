"""Papers with people's merged reviews, packed into one file for a machine without the data sets.

The file holds texts of sets that state no licence: it must stay in an ignored folder.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from errors import UserError
from models.kernels.device_support import Precision
from models.text.reviewer import ReviewerConfig, builtin
from models.text.reviewer import load as load_reviewer
from models.weights.loading import LoadedModel, Weights, default_device, load
from models.weights.store import load_tokenizer
from testing.small_models import small_model_folder
from trainer.data import dataset as datasets
from trainer.data.dataset import SPLITS, TrainingPair
from trainer.data.pair_encoding import PairEncoder
from trainer.qlora import recipe as recipes
from trainer.qlora.run_setup import make_encoder

#: The reviewer whose settings, adapter and data set are used.
REVIEWER = "demo-7"
#: Splits on which no adapter was trained: validation papers only chose its best step.
HELD_OUT = ("validation", "test")
#: Largest file that is carried to the GPU machine, in bytes.
MAX_BYTES = 8 << 20
#: Tokens of a paper that are packed beyond those a prompt can hold: the last word may be cut.
_SPARE_TOKENS = 16


@dataclass(frozen=True)
class ReviewedPaper:
    """The start of a paper, as much as a prompt can hold, and people's merged review of it."""

    split: str
    sha256: str
    paper: str
    review: str

    @property
    def pair(self) -> TrainingPair:
        """As the training data's encoder reads it."""
        return TrainingPair(self.sha256, self.sha256, self.paper, self.review)


def reviewer() -> ReviewerConfig:
    """The demo reviewer, whose small model is tuned."""
    return load_reviewer(builtin()[REVIEWER])


def load_small(precision: Precision | None = None) -> LoadedModel:
    """The demo reviewer's model, as a worker loads it."""
    config, device = reviewer(), default_device()
    assert config.base is not None
    return load(
        small_model_folder(),
        config.base,
        template=config.template or "",
        weights=weights_on(device),
        device=device,
        attention="sdpa",
        precision=precision,
    )


def weights_on(device: torch.device) -> Weights:
    """NF4 on a GPU; its values on a CPU, which would dequantise all weights at every step."""
    return "nf4" if device.type == "cuda" else "bf16"


def pair_encoder(tokenizer: Tokenizer) -> PairEncoder:
    """The encoder with which the demo reviewer's adapter was trained."""
    return make_encoder(recipes.load(Path(REVIEWER)), tokenizer)


def pack_dataset(folder: Path, file: Path) -> int:
    """Pack all papers of a data set folder; return how many."""
    data = datasets.read(folder)
    tokenizer = load_tokenizer(small_model_folder())
    most = pair_encoder(tokenizer).limits.max_pair_tokens
    papers = [
        ReviewedPaper(
            split, pair.paper_sha256, first_tokens(tokenizer, pair.paper, most), pair.review
        )
        for split in SPLITS
        for pair in getattr(data, split)
    ]
    write(papers, file)
    return len(papers)


def first_tokens(tokenizer: Tokenizer, text: str, n_tokens: int) -> str:
    """The start of a text, whose first `n_tokens` tokens are those of the whole text."""
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    if len(offsets) <= n_tokens + _SPARE_TOKENS:
        return text
    return text[: offsets[n_tokens + _SPARE_TOKENS][0]]


def write(papers: Sequence[ReviewedPaper], file: Path) -> None:
    """Write papers, compressed; UserError if the file is too large to be carried."""
    lines = "".join(json.dumps(asdict(paper), ensure_ascii=False) + "\n" for paper in papers)
    content = lzma.compress(lines.encode(), preset=9)
    if len(content) > MAX_BYTES:
        raise UserError(
            f"{len(papers)} papers take {len(content):,} bytes, and {MAX_BYTES:,} can be carried."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def read(file: Path, splits: Sequence[str] = SPLITS) -> list[ReviewedPaper]:
    """Read the papers of some splits, in the order in which they were packed."""
    return [paper for paper in _lines(file) if paper.split in splits]


def _lines(file: Path) -> Iterator[ReviewedPaper]:
    # Not splitlines: papers may hold U+2028, which JSON leaves as it is.
    for line in lzma.decompress(file.read_bytes()).decode().split("\n"):
        if line:
            yield ReviewedPaper(**json.loads(line))
