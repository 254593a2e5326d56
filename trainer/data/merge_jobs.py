"""Merging with a model: jobs of a merged reviewer, each with a paper's human reviews as its input.

Workers run them as they run reviews, with the same claims, retries and gate. An input that this
reviewer version has merged before is not merged again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from db import batch_papers, batch_records, corpus
from db.batch_papers import NewPaper
from db.batch_records import BatchOptions
from db.paper_contents import contents_by_id
from db.reviewers import ReviewerVersion
from db.session import Database
from dispatch import roster
from dispatch.submission import doorbell_for
from errors import UserError
from models.text.reviewer import ReviewerConfig
from settings import Settings
from trainer.data.merge_inputs import MergeInput

#: Characters a token, for an estimate without the endpoint's tokenizer: English prose has about
#: four and a quarter.
CHARS_PER_TOKEN = 4.2
#: Jobs stored in one transaction.
CHUNK = 100


@dataclass(frozen=True)
class Cost:
    """Tokens and US dollars; `usd` is None when the reviewer's file gives no prices."""

    n_prompt_tokens: int
    n_output_tokens: int
    usd: float | None

    def __str__(self) -> str:
        money = "no price known" if self.usd is None else f"${self.usd:,.2f}"
        return f"{self.n_prompt_tokens:,} tokens in, {self.n_output_tokens:,} out, {money}"


@dataclass(frozen=True)
class MergePlan:
    """The jobs of a run. `estimate` counts every answer at its limit, and no retries."""

    batch: str
    todo: tuple[MergeInput, ...]
    cached: int
    estimate: Cost

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "batch": self.batch,
            "papers": len(self.todo),
            "cached": self.cached,
            "estimate": vars(self.estimate),
        }


def model_merger(
    database: Database, name: str, settings: Settings, *, allow_external: bool
) -> tuple[ReviewerVersion, ReviewerConfig]:
    """The merged reviewer of this name, which merges with a model.

    UserError when it is another kind of reviewer, or when reviews may not be sent to its endpoint.
    """
    version, config = roster.resolve(database, name)
    if config.kind != "merged" or not (config.base or config.endpoint):
        raise UserError(f"{name} is not a merged reviewer with a model.")
    roster.check_may_send(config, settings, allow_external)
    return version, config


def plan(
    database: Database,
    inputs: Sequence[MergeInput],
    merger: ReviewerVersion,
    config: ReviewerConfig,
    batch_name: str | None = None,
) -> MergePlan:
    """Which inputs remain to be merged, in which batch, and the maximum cost."""
    known = corpus.merged_inputs(database, merger.id)
    todo = tuple(each for each in inputs if each.sha256 not in known)
    n_prompt = sum(len(each.text) + len(config.system_prompt) for each in todo) / CHARS_PER_TOKEN
    return MergePlan(
        # The same inputs resume the same batch; changed reviews create another.
        batch=batch_name or f"{merger.name}-v{merger.version}-{_digest(inputs)}",
        todo=todo,
        cached=len(inputs) - len(todo),
        estimate=cost(config, round(n_prompt), config.max_new_tokens * len(todo)),
    )


def cost(config: ReviewerConfig, n_prompt_tokens: int, n_output_tokens: int) -> Cost:
    """The cost of that many tokens at the reviewer's endpoint."""
    endpoint = config.endpoint
    prices = endpoint and (endpoint.usd_per_million_input, endpoint.usd_per_million_output)
    if not prices or prices[0] is None or prices[1] is None:
        return Cost(n_prompt_tokens, n_output_tokens, None)
    usd = (n_prompt_tokens * prices[0] + n_output_tokens * prices[1]) / 1e6
    return Cost(n_prompt_tokens, n_output_tokens, usd)


def submit(
    database: Database,
    planned: MergePlan,
    merger: ReviewerVersion,
    settings: Settings,
    *,
    allow_external: bool,
) -> bool:
    """Queue the plan's jobs, a chunk a transaction; False if no broker could be notified."""
    options = BatchOptions(allow_external=allow_external)
    batch = batch_records.open_batch(database, planned.batch, merger, options)
    announce, announced = doorbell_for(settings, batch), True
    for start in range(0, len(planned.todo), CHUNK):
        chunk = planned.todo[start : start + CHUNK]
        added = batch_papers.add_papers(database, batch, _jobs(database, chunk), kind="merge")
        announced = announce(len(added.job_ids)) and announced
    batch_records.finish_submit(database, batch)
    return announced


def _jobs(database: Database, chunk: Sequence[MergeInput]) -> list[NewPaper]:
    contents = contents_by_id(database, [each.paper.id for each in chunk])
    return [
        NewPaper(
            custom_id=f"{each.paper.source}/{each.paper.source_id}",
            source=f"{len(each.reviews)} human reviews",
            content=contents[each.paper.id],
            input=each.text,
        )
        for each in chunk
    ]


def _digest(inputs: Sequence[MergeInput]) -> str:
    hashes = "".join(sorted(each.sha256 for each in inputs))
    return hashlib.sha256(hashes.encode()).hexdigest()[:8]
