"""Splits are by paper, repeatable and even, and keep near-duplicates together."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from errors import UserError
from trainer.data.splitting import (
    SplitCandidate,
    SplitShares,
    read_splits,
    similarity,
    sketch,
    split,
    split_by_lists,
)

WORDS = [f"word{n}" for n in range(3000)]


def text(seed: int, n_words: int = 1500) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=n_words))


def candidate(number: int, body: str | None = None, title: str = "") -> SplitCandidate:
    stratum = "accept" if number % 3 == 0 else "reject"
    return SplitCandidate(
        f"p{number:03}", title or f"T{number}", stratum, sketch(body or text(number))
    )


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_estimated_similarity_is_near_the_true_one(share: float) -> None:
    words = text(1, 4000).split()
    kept = int(len(words) * share)
    other = [*words[:kept], *text(2, 4000 - kept).split()]

    found = similarity(sketch(" ".join(words)), sketch(" ".join(other)))

    true = kept / (2 * len(words) - kept)
    assert abs(found - true) < 0.12


def test_a_split_is_even_in_each_stratum_and_the_same_each_time() -> None:
    papers = [candidate(n) for n in range(90)]

    placed = split(papers, SplitShares(0.1, 0.2), seed=1).split_of

    assert split(papers[::-1], SplitShares(0.1, 0.2), seed=1).split_of == placed
    assert split(papers, SplitShares(0.1, 0.2), seed=2).split_of != placed
    assert Counter(placed.values()) == {"train": 63, "test": 18, "validation": 9}
    tested = Counter(p.stratum for p in papers if placed[p.id] == "test")
    assert tested == {"accept": 6, "reject": 12}


def test_near_duplicates_and_equal_titles_stay_in_one_split() -> None:
    papers = [candidate(n) for n in range(60)]
    copies = [
        candidate(100 + n, text(n).replace("word7 ", "changed ") + " one more sentence here")
        for n in range(30)
    ]
    namesakes = [candidate(200 + n, title=f"t{n}!") for n in range(30)]

    placed = split([*papers, *copies, *namesakes], SplitShares(0.3, 0.3), seed=3).split_of

    for n in range(30):
        assert placed[f"p{n:03}"] == placed[f"p{100 + n}"] == placed[f"p{200 + n}"]


def test_a_training_paper_close_to_a_held_out_one_is_left_out() -> None:
    papers = [candidate(1), candidate(2, text(1) + " and a little more"), candidate(3)]

    placement = split_by_lists(papers, {"p001": "test", "p002": "train", "p003": "train"})

    assert placement.split_of == {"p001": "test", "p003": "train"}
    assert placement.left_out == {"p002": "near-duplicate of a held-out paper"}
    assert "p003" in split_by_lists(papers, {}).left_out


def test_split_files_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "splits.json"
    file.write_text(json.dumps({"train": ["a"], "dev": ["b"]}))
    assert read_splits([file]) == {"a": "train", "b": "validation"}

    file.write_text(json.dumps({"train": ["a"], "test": ["a"]}))
    with pytest.raises(UserError, match="a is in train and in test"):
        read_splits([file])

    file.write_text('{"train": "a"}')
    with pytest.raises(UserError, match="to lists of papers"):
        read_splits([file])
