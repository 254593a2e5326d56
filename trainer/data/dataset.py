"""A data set of papers and their reviews as a folder.

The folder holds train.jsonl, validation.jsonl and test.jsonl, a pair a line; card.json, which says
how the pairs were made and what the files hash to; and README.md, the card for people.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from errors import UserError, first_problem
from models.hashes import file_sha256
from trainer.data.atomic_folder import write_folder
from trainer.data.dataset_card import Card, render

SPLITS = ("train", "validation", "test")
CARD = "card.json"


@dataclass(frozen=True)
class TrainingPair:
    """A paper in the prompt's layout and the review to be learnt.

    `id` is the paper's name at its source. `review` is in the output grammar, with the blank line
    that ends its last aspect and without the end token.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    id: str
    paper_sha256: str
    paper: str
    review: str


@dataclass(frozen=True)
class Dataset:
    """A data set in memory."""

    folder: Path
    card: Card
    train: tuple[TrainingPair, ...]
    validation: tuple[TrainingPair, ...]
    test: tuple[TrainingPair, ...]


def read(folder: Path) -> Dataset:
    """Read and check a data set. UserError, with file and line, if it is invalid."""
    card = _read_card(folder / CARD)
    splits = {split: _read_split(folder, split) for split in SPLITS}
    for split in SPLITS:
        file = _file(folder, split)
        if file_sha256(file) != card.files.get(file.name):
            raise UserError(
                f"{file} is not the file that {CARD} describes: it was changed after the data set "
                "was built. Build it again."
            )
    if card.sha256 != combined_sha256(card.files):
        raise UserError(
            f"{folder / CARD}: sha256 does not match the files; build the data set again."
        )
    return Dataset(folder, card, **splits)


def write(
    folder: Path,
    card: Card,
    *,
    train: Sequence[TrainingPair],
    validation: Sequence[TrainingPair],
    test: Sequence[TrainingPair],
    replace: bool = False,
) -> Dataset:
    """Write a data set atomically.

    UserError if the folder exists (unless it is a data set and `replace` is given) or cannot be
    written.
    """
    pairs = {"train": tuple(train), "validation": tuple(validation), "test": tuple(test)}
    texts = {f"{split}.jsonl": _lines(pairs[split]) for split in SPLITS}
    files = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    card = dataclasses.replace(
        card,
        counts={split: len(pairs[split]) for split in SPLITS},
        files=files,
        sha256=combined_sha256(files),
    )
    document = json.dumps(dataclasses.asdict(card), ensure_ascii=False, indent=2) + "\n"
    write_folder(
        folder, {**texts, CARD: document, "README.md": render(card)}, marker=CARD, replace=replace
    )
    return Dataset(folder, card, **pairs)


def combined_sha256(files: Mapping[str, str]) -> str:
    """One hash for the three files, from theirs."""
    lines = (f"{files.get(f'{split}.jsonl', '')}  {split}.jsonl\n" for split in SPLITS)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _lines(pairs: Sequence[TrainingPair]) -> str:
    return "".join(json.dumps(dataclasses.asdict(p), ensure_ascii=False) + "\n" for p in pairs)


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}.jsonl"


def _read_card(path: Path) -> Card:
    try:
        return _card_type().validate_json(_bytes(path))
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}.") from error


def _read_split(folder: Path, split: str) -> tuple[TrainingPair, ...]:
    path = _file(folder, split)
    # Not splitlines: papers may hold U+2028, which JSON leaves as it is.
    lines = _bytes(path).split(b"\n")
    return tuple(_read_pair(path, number, line) for number, line in enumerate(lines, 1) if line)


def _read_pair(path: Path, number: int, line: bytes) -> TrainingPair:
    try:
        pair = _pair_type().validate_json(line)
    except ValidationError as error:
        raise UserError(f"{path}, line {number}: {first_problem(error, 'row')}.") from error
    empty = [name for name, value in vars(pair).items() if not value.strip()]
    if empty:
        raise UserError(f'{path}, line {number}: "{empty[0]}" is empty.')
    return pair


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error


@lru_cache(maxsize=1)
def _card_type() -> TypeAdapter[Card]:
    return TypeAdapter(Card)


@lru_cache(maxsize=1)
def _pair_type() -> TypeAdapter[TrainingPair]:
    return TypeAdapter(TrainingPair)
