"""Papers with reviews by rivals and people, stored as imports store them."""

from __future__ import annotations

from db import reviewers
from db.completion import NewItem
from db.imports import FrozenReview, import_reviews
from db.reviewers import ReviewerVersion
from db.session import Database
from models.text.aspects import SEVEN
from models.text.parsing import render
from models.text.review import Item
from tests.integration.db.content import content

#: What people said; each phrase is a point.
POINTS = (
    ("Baselines", "The experiments lack a comparison with strong baselines."),
    ("Writing", "The paper is well written and easy to follow."),
    ("Ablation", "There is no ablation study of the proposed loss function."),
    ("Seeds", "Results are reported for a single random seed without error bars."),
)
#: The same in other words.
ECHOES = (
    ("Comparisons", "There is no comparison against strong baselines in the experiments."),
    ("Clarity", "The writing is clear and the paper is easy to read."),
    ("Loss", "An ablation of the new loss function is missing."),
    ("Variance", "Only one random seed is used and no error bars are reported."),
)
#: About something else altogether.
NOISE = (
    ("Weather", "The hotel near the beach serves breakfast until ten."),
    ("Music", "An orchestra tunes to the oboe before the concert."),
    ("Football", "The goalkeeper was injured in the second half."),
    ("Cooking", "Add two spoons of olive oil and simmer the onions."),
)


def reviewer(
    database: Database, name: str, kind: str = "imported", **config: object
) -> ReviewerVersion:
    """A registered reviewer of 7 aspects."""
    return reviewers.register(
        database,
        name=name,
        sha256=f"sha of {name}",
        kind=kind,
        queue="cpu",
        config={"name": name, "kind": kind, "aspects": "7", **config},
    )


def write(
    database: Database, by: ReviewerVersion, paper: str, *points: tuple[str, str], sample: int = 0
) -> None:
    """Store a review of a paper with these points under rejection."""
    items = [Item("rejection", i, title, text) for i, (title, text) in enumerate(points)]
    frozen = FrozenReview(
        external_id=f"{paper}#{sample}",
        paper=content(paper),
        raw=render(items, SEVEN),
        items=[NewItem(i.aspect, i.position, i.title, i.text) for i in items],
        empty_aspects=[key for key in SEVEN.keys if key != "rejection" or not items],
    )
    import_reviews(database, by, [frozen])
