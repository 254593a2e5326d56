"""Papers an hour that the offline judge matches and judges: cold, and with embeddings cached.

Made-up reviews, the lengths of real ones: two reviewers of 14 items each, a merged reference of 14,
every paper matched against its reference, chance included, and judged by hits.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
import time
from pathlib import Path

from benchmarks.measured import report
from db import migrate, reviewers
from db.comparisons import Side
from db.contents import PaperContent
from db.endings import NewItem
from db.imports import FrozenReview, import_reviews
from db.reviewers import ReviewerVersion
from db.session import Database, open_database
from judge.comparing import ParsedPoints, Plan, match, prepare
from judge.matchers import EmbeddingMatcher
from judge.matching import THRESHOLD
from judge.report.figures import figures
from judge.report.records import read_comparison
from models import embedding
from models.aspects import SEVEN

#: Words an item: the median of the small reviewer's, and of merged human ones.
ITEM_WORDS = 30
_TEXT = """
the method results paper baseline training data model ablation experiments clear novelty theorem
proof missing comparison section figure evaluation authors should explain strong weak significance
code seed variance metric task transfer robust prior work unclear motivation
"""


def main() -> None:
    """Measure a cold and a warm run."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        (home / "models").mkdir()
        folder = embedding.fetch(options.home or home)
        if options.home:
            embedding.folder_of(home).symlink_to(folder.absolute())
        migrate.upgrade(f"sqlite:///{home / 'referee.db'}")
        database = open_database(f"sqlite:///{home / 'referee.db'}")
        sides = [_write(database, name, options.papers) for name in ("a", "b", "reference")]
        results = {
            "papers": options.papers,
            "items_a_review": 2 * len(SEVEN.keys),
            "cold_s": _run(database, sides, home, threshold=THRESHOLD),
            # Another threshold is another comparison: all is matched again.
            "cached_s": _run(database, sides, home, threshold=THRESHOLD + 0.01),
        }
        database.close()
    report(results, options.json)
    print(f"cold {results['cold_s']:.1f} s, with embeddings cached {results['cached_s']:.1f} s")


def _run(database: Database, sides: list[ReviewerVersion], home: Path, threshold: float) -> float:
    """Seconds from the command to its figures."""
    started = time.monotonic()
    plan = Plan(
        a=Side(sides[0]),
        b=Side(sides[1]),
        reference=sides[2],
        matcher=EmbeddingMatcher(home, threshold),
        extractor=ParsedPoints(),
        min_papers=1,
    )
    ready = prepare(database, plan)
    match(database, ready, plan, lambda done, total: None)
    assert figures(read_comparison(database, ready.comparison.id)).headline is not None
    return round(time.monotonic() - started, 2)


def _write(database: Database, name: str, n_papers: int) -> ReviewerVersion:
    kind = "merged" if name == "reference" else "imported"
    version = reviewers.register(
        database, name=name, sha256=name, kind=kind, queue="cpu", config={"aspects": "7"}
    )
    words = random.Random(name)
    import_reviews(database, version, [_review(words, number) for number in range(n_papers)])
    return version


def _review(words: random.Random, number: int) -> FrozenReview:
    title = f"Paper number {number}"
    sha256 = hashlib.sha256(title.encode()).hexdigest()
    items = [
        NewItem(key, position, "Point", " ".join(words.choices(_TEXT.split(), k=ITEM_WORDS)))
        for key in SEVEN.keys
        for position in range(2)
    ]
    return FrozenReview(f"{number}", PaperContent(sha256, title, "", title, []), "raw", items)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--papers", type=int, default=500)
    parser.add_argument("--home", type=Path, help="where the embedding model lies already")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
