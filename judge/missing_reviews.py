"""Generation of the reviews that a comparison needs, through the queue.

The batch's name identifies its purpose, so that a repeated run continues the same batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from db import batch_papers, batch_records
from db.batch_papers import NewPaper
from db.batch_records import BatchOptions
from db.comparisons import Side, reviewed_papers
from db.paper_contents import contents_by_id
from db.reviewers import ReviewerVersion
from db.session import Database
from dispatch import roster
from dispatch.progress import Progress
from dispatch.submission import doorbell_for
from dispatch.waiting import wait_for_batch
from models.text.cost import check_cost_limit
from models.text.reviewer import from_json
from settings import Settings

#: Kinds of reviewers that can generate reviews.
GENERATING = ("local", "api", "merged")
#: Papers that one transaction stores.
_CHUNK = 100


def missing(database: Database, version: ReviewerVersion, paper_ids: Sequence[int]) -> list[int]:
    """Papers that a version has not reviewed, in the given order."""
    there = reviewed_papers(database, Side(version))
    return [paper_id for paper_id in paper_ids if paper_id not in there]


def ensure_reviews(
    database: Database,
    settings: Settings,
    version: ReviewerVersion,
    paper_ids: Sequence[int],
    *,
    batch_name: str,
    progress: Progress,
    allow_external: bool = False,
    max_usd: float | None = None,
) -> int:
    """Generate a version's missing reviews of these papers; return how many were missing.

    Waits for the workers. Raises UserError when papers may not be sent or would cost too much,
    MissingPart when no worker serves the queue. Does nothing for reviewers that cannot generate.
    """
    wanted = missing(database, version, paper_ids)
    if not wanted or version.kind not in GENERATING:
        return 0
    config = from_json(version.config)
    roster.check_may_send(config, settings, allow_external)
    contents = contents_by_id(database, wanted)
    n_chars = sum(len(content.body) for content in contents.values())
    check_cost_limit(config, n_chars, len(wanted), max_usd)
    batch = batch_records.open_batch(
        database, batch_name, version, BatchOptions(allow_external=allow_external)
    )
    announce = doorbell_for(settings, batch)
    papers = [NewPaper(c.sha256[:16], "the database", c) for c in contents.values()]
    for start in range(0, len(papers), _CHUNK):
        added = batch_papers.add_papers(database, batch, papers[start : start + _CHUNK])
        announce(len(added.job_ids))
    batch_records.finish_submit(database, batch)
    wait_for_batch(
        database,
        batch_name,
        queue=version.queue,
        progress=progress,
        stall_seconds=settings.lease_seconds,
    )
    return len(wanted)
