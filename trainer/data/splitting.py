"""Split papers into train, validation and test.

Near-duplicates stay together. Similarity is the Jaccard similarity of five-word shingles, estimated
from each paper's smallest hashes (bottom-k sketches, Broder 1997).
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from errors import UserError
from trainer.data.dataset import SPLITS

#: Words of a shingle: longer than stock phrases, short enough to survive small edits.
SHINGLE_WORDS = 5
#: Hashes stored for a paper; the estimate's standard error is below 0.04.
SKETCH_SIZE = 200
#: Papers that share at least this much of their shingles count as one paper.
NEAR_DUPLICATE_SIMILARITY = 0.5
#: Hashes that two papers must share before they are compared in full.
MIN_HASHES = 10

_WORD = re.compile(r"\w+")
_NAMES = {"train": "train", "dev": "validation", "validation": "validation", "test": "test"}


class SplitShares(NamedTuple):
    """Shares of the papers; the rest is for training."""

    validation: float = 0.1
    test: float = 0.1


@dataclass(frozen=True)
class SplitCandidate:
    """A paper to be placed. Every split should have the same share of each `stratum`."""

    id: str
    title: str
    stratum: str
    sketch: frozenset[int]


@dataclass(frozen=True)
class Placement:
    """Split of each paper; those in `left_out` are in none, with the reason."""

    split_of: Mapping[str, str]
    left_out: Mapping[str, str]


def sketch(text: str) -> frozenset[int]:
    """The smallest hashes of a text's shingles, ignoring case and punctuation."""
    words = _WORD.findall(text.casefold())
    shingles = zip(*(words[i:] for i in range(SHINGLE_WORDS)), strict=False)
    hashes = np.fromiter((zlib.crc32(" ".join(s).encode()) for s in shingles), dtype=np.int64)
    # Multiplied by an odd number, so that "smallest" does not favour low CRC-32 values.
    mixed = np.unique((hashes * 2654435761) % (1 << 32))
    return frozenset(mixed[:SKETCH_SIZE].tolist())


def similarity(one: frozenset[int], other: frozenset[int]) -> float:
    """The estimated Jaccard similarity of two sketched texts."""
    smallest = sorted(one | other)[:SKETCH_SIZE]
    return sum(h in one and h in other for h in smallest) / max(1, len(smallest))


def duplicate_groups(papers: Sequence[SplitCandidate]) -> list[list[SplitCandidate]]:
    """Papers grouped with their near-duplicates, and with those of the same title."""
    parent = list(range(len(papers)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for one, other in _near_pairs(papers):
        parent[root(other)] = root(one)
    found: dict[int, list[SplitCandidate]] = {}
    for number, paper in enumerate(papers):
        found.setdefault(root(number), []).append(paper)
    return list(found.values())


def _near_pairs(papers: Sequence[SplitCandidate]) -> Iterable[tuple[int, int]]:
    titles: dict[str, int] = {}
    holders: dict[int, list[int]] = {}
    for number, paper in enumerate(papers):
        title = " ".join(_WORD.findall(paper.title.casefold()))
        first = titles.setdefault(title, number) if title else number
        if first != number:
            yield first, number
        shared: dict[int, int] = {}
        for each in paper.sketch:
            for holder in holders.setdefault(each, []):
                shared[holder] = shared.get(holder, 0) + 1
            holders[each].append(number)
        for holder, count in shared.items():
            near = (
                count >= MIN_HASHES
                and similarity(papers[holder].sketch, paper.sketch) >= NEAR_DUPLICATE_SIMILARITY
            )
            if near:
                yield holder, number


def split(papers: Sequence[SplitCandidate], shares: SplitShares, seed: int) -> Placement:
    """Split groups of duplicates at random, with equal shares of each stratum.

    The result depends on papers and seed only.
    """
    placed: dict[str, str] = {}
    strata: dict[str, list[list[SplitCandidate]]] = {}
    for duplicates in duplicate_groups(sorted(papers, key=lambda paper: paper.id)):
        strata.setdefault(duplicates[0].stratum, []).append(duplicates)
    for stratum in sorted(strata):
        groups = strata[stratum]
        random.Random(f"{seed} {stratum}").shuffle(groups)
        total = sum(map(len, groups))
        wanted = {"test": shares.test * total, "validation": shares.validation * total}
        for duplicates in groups:
            name = next((s for s in wanted if round(wanted[s]) > 0), "train")
            if name != "train":
                wanted[name] -= len(duplicates)
            placed |= {paper.id: name for paper in duplicates}
    return Placement(placed, {})


def split_by_lists(papers: Sequence[SplitCandidate], named: Mapping[str, str]) -> Placement:
    """The split given by files, without papers that they do not name and training papers that are
    near-duplicates of held-out ones.
    """
    placed: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for duplicates in duplicate_groups(papers):
        names = {named[paper.id] for paper in duplicates if paper.id in named}
        for paper in duplicates:
            if paper.id not in named:
                left_out[paper.id] = "not in the split files"
            elif named[paper.id] == "train" and names != {"train"}:
                left_out[paper.id] = "near-duplicate of a held-out paper"
            else:
                placed[paper.id] = named[paper.id]
    return Placement(placed, left_out)


def read_splits(files: Sequence[Path]) -> dict[str, str]:
    """Paper -> split, from JSON files {"train": [ids], "dev" or "validation": [..], "test": [..]}.

    UserError for a file of another form, and for a paper that two splits hold.
    """
    found: dict[str, str] = {}
    for file in files:
        for name, ids in _read(file).items():
            for each in ids:
                split_name = _NAMES[name]
                if found.setdefault(each, split_name) != split_name:
                    raise UserError(f"{file}: {each} is in {found[each]} and in {split_name}.")
    return found


def _read(file: Path) -> dict[str, list[str]]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read {file}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{file}: not JSON: {error}.") from error
    good = isinstance(document, dict) and set(document) <= set(_NAMES)
    if not good or not all(isinstance(ids, list) for ids in document.values()):
        raise UserError(f"{file}: must map {', '.join(SPLITS)} to lists of papers.")
    return {name: [str(each) for each in ids] for name, ids in document.items()}
