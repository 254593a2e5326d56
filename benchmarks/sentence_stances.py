"""Accuracy of the word lists that classify a review's sentences, by human labels (DISAPERE).

The labels are CC BY-NC: they are used for this measurement only and never enter a data set. The
word lists were tuned on the train and dev splits; the test split is the one that counts.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measured import data_folder, report
from trainer.data.stance import stance_of
from trainer.data.topics import subject_of

STANCES = ("praise", "criticism", "request", "none")
#: DISAPERE's aspects as our topics.
TOPICS = {
    "asp_substance": "experiments",
    "asp_clarity": "clarity",
    "asp_soundness-correctness": "soundness",
    "asp_replicability": "soundness",
    "asp_originality": "novelty",
    "asp_meaningful-comparison": "novelty",
    "asp_motivation-impact": "idea",
}


def measure(split: str) -> dict[str, Any]:
    """Accuracy, and precision and recall of each stance, on the sentences of a split."""
    pairs: Counter[tuple[str, str]] = Counter()
    topics: Counter[bool] = Counter()
    for sentence in _sentences(split):
        pairs[_label(sentence), stance_of(sentence["text"])] += 1
        if topic := TOPICS.get(sentence["aspect"]):
            topics[subject_of(sentence["text"]).topic == topic] += 1
    return {
        "sentences": pairs.total(),
        "stance_accuracy": round(sum(pairs[s, s] for s in STANCES) / pairs.total(), 3),
        "always_none_accuracy": round(
            sum(n for (label, _), n in pairs.items() if label == "none") / pairs.total(), 3
        ),
        "stances": {stance: _rates(pairs, stance) for stance in STANCES},
        "topic_sentences": topics.total(),
        "topic_accuracy": round(topics[True] / topics.total(), 3),
    }


def _sentences(split: str) -> list[Mapping[str, str]]:
    with gzip.open(data_folder() / "judge" / "disapere.jsonl.gz", "rt") as lines:
        reviews = [json.loads(line) for line in lines]
    return [
        sentence
        for review in reviews
        if review["split"] == split
        for sentence in review["review_sentences"]
        if sentence["fine_review_action"] != "arg-structuring_heading"
    ]


def _label(sentence: Mapping[str, str]) -> str:
    if sentence["review_action"] == "arg_request":
        return "request"
    return {"pol_positive": "praise", "pol_negative": "criticism"}.get(sentence["polarity"], "none")


def _rates(pairs: Counter[tuple[str, str]], stance: str) -> dict[str, float]:
    said = sum(n for (_, found), n in pairs.items() if found == stance)
    true = sum(n for (label, _), n in pairs.items() if label == stance)
    hits = pairs[stance, stance]
    return {"precision": round(hits / said, 3), "recall": round(hits / true, 3)}


def main() -> None:
    """Measure the test split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    report({"labels": "DISAPERE, test split", **measure("test")}, parser.parse_args().json)


if __name__ == "__main__":
    main()
