"""How well the embedding matcher agrees with APE's and MARG's labels; a dated result of both sets.

The labels are not in the repository: two of the sets state no licence.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from benchmarks.measured import report
from judge.cosine import CachedEmbedder
from judge.validation.labels import read_alignments, read_passages
from judge.validation.matcher import check_alignments, check_passages
from models.engines.sentence_embedding import NAME, fetch
from settings import get_settings


def main() -> None:
    """Measure both sets."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path, help="where the labels are: ../shared/data/judge")
    options.add_argument("--json", type=Path, help="write the result there")
    given = options.parse_args()
    home = get_settings().home
    fetch(home)
    embed = CachedEmbedder(home).embed
    passages = read_passages(given.folder / "ape_argument_pairs.jsonl.gz")
    alignments = read_alignments(given.folder / "marg_alignments.jsonl.gz")
    found = {
        "ape": {"passages": len(passages)} | asdict(check_passages(passages, embed)),
        "marg": asdict(check_alignments(alignments, embed)),
    }
    report({"embedding": NAME} | found, given.json)


if __name__ == "__main__":
    main()
