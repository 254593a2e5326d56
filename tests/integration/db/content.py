"""Short constructors of papers, batches and reviews for database tests."""

from __future__ import annotations

import hashlib
from typing import Any

from db import batch_papers, batch_records, claims, completion, reconcile, reviewers
from db.batch_papers import NewPaper
from db.batch_records import Batch, BatchOptions
from db.claims import Claim
from db.completion import NewItem, NewReview
from db.paper_contents import PaperContent
from db.reviewers import ReviewerVersion
from db.reviews import export
from db.session import Database
from dispatch.kinds import KINDS
from papers.paper import HIDDEN_TEXT, Flag

QUEUE = "reviews.tiny"


def content(text: str) -> PaperContent:
    """A paper whose text, title and hash come from `text`."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    sections = [{"heading": "Introduction", "n_chars": len(text)}]
    return PaperContent(sha256, f"On {text}", f"We study {text}.", text, sections)


def paper(custom_id: str, text: str | None = None, *hidden: str) -> NewPaper:
    """A readable paper, with words that its file hides; its text is its id unless given."""
    flags = tuple(Flag.quoting(HIDDEN_TEXT, "tiny", words, 1) for words in hidden)
    return NewPaper(custom_id, f"{custom_id}.pdf", content(text or custom_id), flags=flags)


def unreadable(custom_id: str) -> NewPaper:
    """A paper that could not be read."""
    return NewPaper(custom_id, f"{custom_id}.pdf", None, "encrypted", "The PDF has a password.")


def a_reviewer(database: Database, name: str = "tiny-7", queue: str = QUEUE) -> ReviewerVersion:
    """A registered reviewer."""
    return reviewers.register(
        database, name=name, sha256=f"sha of {name}", kind="local", queue=queue, config={"k": 1}
    )


def submit(
    database: Database,
    name: str,
    *papers: NewPaper,
    reviewer: ReviewerVersion | None = None,
    replace: bool = False,
    **options: Any,
) -> Batch:
    """Submit papers as the command does: open, add in chunks, finish."""
    batch = batch_records.open_batch(
        database, name, reviewer or a_reviewer(database), BatchOptions(**options)
    )
    for start in range(0, len(papers), 200):
        batch_papers.add_papers(database, batch, papers[start : start + 200], replace=replace)
    batch_records.finish_submit(database, batch)
    return batch


def claim(database: Database, worker: str = "w1", **options: Any) -> Claim | None:
    """Claim the next job with a long lease; reconcile first when nothing is queued."""
    taken = claim_several(database, 1, worker, **options)
    if not taken:
        reconcile.reconcile(database, max_attempts=options.get("max_attempts", 3))
        taken = claim_several(database, 1, worker, **options)
    return taken[0] if taken else None


def claim_several(database: Database, most: int, worker: str = "w1", **options: Any) -> list[Claim]:
    """Claim the next jobs with a long lease."""
    parameters = {
        "queues": [QUEUE],
        "kinds": KINDS,
        "lease_seconds": 60.0,
        "max_attempts": 3,
        **options,
    }
    return claims.claim(database, most, worker=worker, **parameters)


def claim_one(database: Database, worker: str = "w1", **options: Any) -> Claim:
    """Claim the next job, which must be there."""
    taken = claim(database, worker, **options)
    assert taken is not None
    return taken


def a_review(raw: str = "raw answer", **changes: Any) -> NewReview:
    """A review with two items."""
    items = (
        NewItem("idea", 0, "Clear", "The idea is clear."),
        NewItem("rejection", 0, "Weak", "The baseline is missing."),
    )
    values: dict[str, Any] = {
        "items": items,
        "empty_aspects": ("other",),
        "unplaced": "",
        "adapter_sha256": None,
        "seed": 1,
        "n_prompt_tokens": 100,
        "n_output_tokens": 20,
        "truncated_tokens": 0,
        "finish": "stop",
        "seconds": 1.5,
        "gate": ({"name": "headings", "passed": True},),
        "versions": {"torch": "2"},
    }
    return NewReview(raw=raw, **{**values, **changes})


def review_all(database: Database, worker: str = "w1") -> int:
    """Claim and commit until nothing is left; return how many."""
    number = 0
    while (taken := claim(database, worker)) is not None:
        assert completion.commit_review(database, taken, a_review())
        number += 1
    return number


def states(database: Database, name: str) -> dict[str, str]:
    """Each custom_id's state; samples beyond the first as id#sample."""
    return {
        line.custom_id + (f"#{line.sample}" if line.sample else ""): line.state
        for line in export(database, name)
    }
