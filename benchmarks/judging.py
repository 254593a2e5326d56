"""Papers an hour of the offline judge, with and without cached embeddings.

Made-up reviews, the lengths of real ones: two reviewers of 14 items each, a merged reference of 14,
every paper matched against its reference, chance included, and judged by hits. Items are pieces of
this project's documents, so that few of their pairs are near, as of people's points (17 %
of 46 pairs of reviews in ICLR 2017 and TreeReview).
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import tempfile
import time
from pathlib import Path

from sqlalchemy import func, select

from benchmarks.measured import report
from db import migrate, reviewers
from db.comparison_records import read_comparison
from db.comparisons import Side
from db.completion import NewItem
from db.imports import FrozenReview, import_reviews
from db.paper_contents import PaperContent
from db.reviewers import ReviewerVersion
from db.schema_judging import PointMatch
from db.session import Database, open_database
from judge.comparing import ComparisonPlan, match, prepare
from judge.matchers import EmbeddingMatcher
from judge.matching import THRESHOLD
from judge.point_extraction import ParsedPoints
from judge.report.figures import figures
from models.engines import sentence_embedding
from models.text.aspects import SEVEN
from testing import ROOT

#: Words per item: the medians of the small reviewer's and of merged human reviews.
ITEM_WORDS = 30
DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
#: Prose only: commands and tables have several times as many tokens per word.
_WORDS = re.findall(
    r"(?<!\S)[A-Za-z][a-z]*[.,;]?(?!\S)", " ".join(path.read_text() for path in sorted(DOCUMENTS))
)


def main() -> None:
    """Measure a cold and a warm run."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        (home / "models").mkdir()
        folder = sentence_embedding.fetch(options.home or home)
        if options.home:
            sentence_embedding.folder_of(home).symlink_to(folder.absolute())
        migrate.upgrade(f"sqlite:///{home / 'referee.db'}")
        database = open_database(f"sqlite:///{home / 'referee.db'}")
        sides = [_write(database, name, options.papers) for name in ("a", "b", "reference")]
        results = {
            "papers": options.papers,
            "items_a_review": 2 * len(SEVEN.keys),
            "cold_s": _run(database, sides, home, threshold=THRESHOLD),
            # With another threshold it is a new comparison, so everything is matched again.
            "cached_s": _run(database, sides, home, threshold=THRESHOLD + 0.01),
        }
        results["near_pairs"] = _near_pairs(database, options.papers)
        database.close()
    report(results, options.json)
    print(f"cold {results['cold_s']:.1f} s, with embeddings cached {results['cached_s']:.1f} s")


def _run(database: Database, sides: list[ReviewerVersion], home: Path, threshold: float) -> float:
    """Seconds from the command to its figures."""
    started = time.monotonic()
    plan = ComparisonPlan(
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


def _near_pairs(database: Database, n_papers: int) -> float:
    """Share of pairs near enough to be kept: both rivals with reference and chance."""
    with database.read() as on:
        first = select(func.min(PointMatch.comparison_id)).scalar_subquery()
        kept = on.scalar(select(func.count()).where(PointMatch.comparison_id == first)) or 0
    return round(kept / (4 * n_papers * (2 * len(SEVEN.keys)) ** 2), 3)


def _write(database: Database, name: str, n_papers: int) -> ReviewerVersion:
    kind = "merged" if name == "reference" else "imported"
    version = reviewers.register(
        database, name=name, sha256=name, kind=kind, queue="cpu", config={"aspects": "7"}
    )
    draw = random.Random(name)
    import_reviews(database, version, [_review(draw, number) for number in range(n_papers)])
    return version


def _review(draw: random.Random, number: int) -> FrozenReview:
    title = f"Paper number {number}"
    sha256 = hashlib.sha256(title.encode()).hexdigest()
    items = [
        NewItem(key, position, "Point", _piece(draw)) for key in SEVEN.keys for position in range(2)
    ]
    return FrozenReview(f"{number}", PaperContent(sha256, title, "", title, []), "raw", items)


def _piece(draw: random.Random) -> str:
    start = draw.randrange(len(_WORDS) - ITEM_WORDS)
    return " ".join(_WORDS[start : start + ITEM_WORDS])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--papers", type=int, default=500)
    parser.add_argument("--home", type=Path, help="where the embedding model lies already")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
