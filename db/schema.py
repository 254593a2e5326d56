"""Papers, reviewers, batches, jobs and reviews as tables; knows the rules, not who obeys them.

Every rule that a database can check is a constraint. `schema_training`, `schema_data` and
`schema_judging` hold the other tables on the same metadata.
"""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.column_types import (
    NEVER,
    Base,
    CleanJson,
    Id,
    SortedText,
    check,
    check_one_of,
    now,
    partial_index,
)

#: The last migration, which makes this schema; a test compares it with the migrations.
REVISION = "0014"

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled", "expired"]
BatchState = Literal[
    "validating",
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
]
ReviewerKind = Literal["local", "api", "human", "merged", "imported"]
NodeState = Literal["active", "draining"]

#: Queue of a judge's questions, beside that of other work without a local model. Workers of a
#: version that knew one queue only do not claim from it.
JUDGE_QUEUE = "cpu.judge"

#: Which jobs a worker may claim: duplicates follow their original and are never claimed.
_CLAIMABLE = "state = 'queued' AND duplicate_of IS NULL AND NOT held"
#: Predicate of the index that serves the claim. Queries repeat it word for word, because SQLite
#: uses a partial index only for the very same text.
CLAIMABLE_ON_QUEUE = f"{_CLAIMABLE} AND priority >= 0"


class PaperRow(Base):
    """What is reviewed. `body` comes last, so that SQLite reads the rest without its pages."""

    __tablename__ = "paper"
    __table_args__ = (
        UniqueConstraint("sha256"),
        check("sha256", "length(sha256) = 64"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    sha256: Mapped[str]
    title: Mapped[str]
    abstract: Mapped[str]
    #: [{"heading", "n_chars"}]
    sections: Mapped[Any] = mapped_column(CleanJson, nullable=False)
    venue: Mapped[str | None]
    year: Mapped[int | None]
    decision: Mapped[str | None]
    version_choice: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=now())
    #: The laid-out text that a model sees.
    body: Mapped[str]


class PurgedPaper(Base):
    """A paper whose text was deleted; its hash and what happened to it are still there."""

    __tablename__ = "purged_paper"

    paper_id: Mapped[int] = mapped_column(
        Id, ForeignKey("paper.id"), primary_key=True, autoincrement=False
    )
    purged_at: Mapped[float] = mapped_column(default=now())


class ReviewerRow(Base):
    """One immutable version of what writes reviews."""

    __tablename__ = "reviewer"
    __table_args__ = (
        UniqueConstraint("name", "version"),
        UniqueConstraint("name", "sha256"),
        check_one_of("kind", ReviewerKind),
        check("version", "version >= 1"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str]
    version: Mapped[int]
    sha256: Mapped[str]
    kind: Mapped[str]
    #: Celery queue that its jobs ring on.
    queue: Mapped[str]
    config: Mapped[Any] = mapped_column(CleanJson, nullable=False)
    created_at: Mapped[float] = mapped_column(default=now())
    # What the first worker that served it had; any other that differs refuses its jobs.
    template_sha256: Mapped[str | None]
    weights_sha256: Mapped[str | None]
    #: Of a name's versions the one put in force last gets the new batches; NULL: taken back.
    in_force_at: Mapped[float | None] = mapped_column(default=now())


class BatchRow(Base):
    """Submitted papers for one reviewer version. `paused` lies across the states."""

    __tablename__ = "batch"
    __table_args__ = (
        UniqueConstraint("name"),
        check("name", "name <> ''"),
        check_one_of("state", BatchState),
        check("priority", "priority IN (0, 1, 2)"),
        check("samples", "samples >= 1"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str]
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewer.id"))
    state: Mapped[str] = mapped_column(default="validating")
    paused: Mapped[bool] = mapped_column(default=False)
    priority: Mapped[int]
    #: As asked for; resuming a batch compares it.
    deadline_seconds: Mapped[float | None]
    deadline_at: Mapped[float | None]
    samples: Mapped[int]
    allow_external: Mapped[bool]
    #: What becomes of a file that hides text, `db.batch_records.OnHiddenText`.
    on_hidden_text: Mapped[str] = mapped_column(default="strip", server_default="strip")
    options_sha256: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=now())
    finished_at: Mapped[float | None]


class OpenSubmit(Base):
    """A submit that is under way; its batch is `validating` until the last of them has ended."""

    __tablename__ = "open_submit"
    __table_args__ = (Index("ix_open_submit_batch_id", "batch_id"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    batch_id: Mapped[int] = mapped_column(Id, ForeignKey("batch.id"))
    lease_until: Mapped[float]
    #: Whether another submit of the batch has ended since.
    outlived: Mapped[bool] = mapped_column(default=False)


class Job(Base):
    """One custom_id (and sample) of a batch: the unit of work and, when failed, the dead letter.

    `attempt` only grows: it fences a job against workers that lost it. What counts against the
    limit is `attempt - given_back`. `crashes` counts the engines and workers that broke down while
    they held it, and `crashes_alone` those of them since the last retry in which nothing else was
    held; `alone` says that nothing else may be in the engine with it now. `held` repeats
    the batch's `paused`, and queue, reviewer, priority and deadline the batch's too, so that an
    index alone finds the next job.
    """

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("batch_id", "custom_id", "sample"),
        check_one_of("state", JobState),
        check("custom_id", "custom_id <> ''"),
        check("sample", "sample >= 0"),
        check("priority", "priority IN (0, 1, 2)"),
        check("seed", "seed >= 0 AND seed < 2147483648"),
        check("attempt", "attempt >= 0 AND given_back >= 0 AND given_back <= attempt"),
        check("crashes", "crashes_alone >= 0 AND crashes_alone <= crashes"),
        check("paper", "paper_id IS NOT NULL OR state = 'failed'"),
        check("lease", "(state = 'running') = (lease_until IS NOT NULL)"),
        check("worker", "state <> 'running' OR worker IS NOT NULL"),
        check("error", "(state = 'failed') = (error_kind IS NOT NULL)"),
        check("finished", "(state IN ('queued', 'running')) = (finished_at IS NULL)"),
        check("cancel", "NOT (cancel_requested AND state = 'queued')"),
        check("duplicate", "duplicate_of IS NULL OR (duplicate_of <> id AND state <> 'running')"),
        partial_index(
            "uq_job_original",
            *("batch_id", "sample", "paper_id"),
            where="duplicate_of IS NULL AND paper_id IS NOT NULL",
            unique=True,
        ),
        partial_index(
            "ix_job_claim", "queue", "priority", "deadline_at", "id", where=CLAIMABLE_ON_QUEUE
        ),
        partial_index("ix_job_lease", "lease_until", where="state = 'running'"),
        partial_index("ix_job_duplicate", "duplicate_of", where="duplicate_of IS NOT NULL"),
        Index("ix_job_progress", "batch_id", "state"),
        Index("ix_job_paper", "paper_id"),
        Index("ix_job_custom_id", "custom_id"),
        partial_index("ix_job_flagged", "batch_id", where="n_flags > 0"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    #: Which handler does it, a key of `dispatch.kinds.KINDS`.
    kind: Mapped[str] = mapped_column(default="review", server_default="review")
    #: What it is about where that is not its paper's text: ids and plain words, never a text, an
    #: address or a permission. NULL for jobs that read the paper's text.
    about: Mapped[Any] = mapped_column(CleanJson, nullable=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"))
    custom_id: Mapped[str] = mapped_column(SortedText)
    sample: Mapped[int]
    source: Mapped[str]
    #: Kinds of the flags of the file that it was read from, repeated from `job_flag`, [kind].
    flags: Mapped[Any] = mapped_column(
        CleanJson, default=list, server_default=text("'[]'"), nullable=False
    )
    n_flags: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    paper_id: Mapped[int | None] = mapped_column(ForeignKey("paper.id"))
    duplicate_of: Mapped[int | None] = mapped_column(ForeignKey("job.id"))
    queue: Mapped[str]
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewer.id"))
    priority: Mapped[int]
    deadline_at: Mapped[float] = mapped_column(default=NEVER)
    seed: Mapped[int]
    held: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0)
    given_back: Mapped[int] = mapped_column(default=0)
    crashes: Mapped[int] = mapped_column(default=0)
    crashes_alone: Mapped[int] = mapped_column(default=0)
    alone: Mapped[bool] = mapped_column(default=False)
    #: How often it returned to the queue for a more urgent job.
    preemptions: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    worker: Mapped[str | None]
    lease_until: Mapped[float | None]
    not_before: Mapped[float] = mapped_column(default=0.0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    error_kind: Mapped[str | None]
    error: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=now())
    queued_at: Mapped[float] = mapped_column(default=now())
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    # What its review cost, repeated from `review` so that a batch's status reads one table.
    n_prompt_tokens: Mapped[int | None]
    n_output_tokens: Mapped[int | None]
    truncated_tokens: Mapped[int | None]
    seconds: Mapped[float | None]


class JobFlag(Base):
    """A flag of the file that a job was read from, with the words that it is about.

    Flags belong to the job and not to its paper: files with the same visible words are one paper.
    """

    __tablename__ = "job_flag"
    __table_args__ = (check("position", "position >= 0"),)

    job_id: Mapped[int] = mapped_column(
        Id, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    detail: Mapped[str]
    page: Mapped[int | None]
    #: What was hidden, or reads like an instruction, in full; empty for other kinds.
    text: Mapped[str]
    #: Hash of the letters and digits of `text`: equal for the same words. NULL without a text.
    words_sha256: Mapped[str | None]


class JobEvent(Base):
    """The audit trail: every change of a job's state, and texts that the gate rejected."""

    __tablename__ = "job_event"
    __table_args__ = (Index("ix_job_event_job", "job_id", "id"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    kind: Mapped[str]
    worker: Mapped[str | None]
    detail: Mapped[Any] = mapped_column(CleanJson, nullable=True)
    created_at: Mapped[float] = mapped_column(default=now())


class ReviewRow(Base):
    """One review of one paper: by a job, or imported under an `external_id`."""

    __tablename__ = "review"
    __table_args__ = (
        UniqueConstraint("job_id"),
        UniqueConstraint("reviewer_id", "paper_id", "external_id"),
        check("finish", "finish IS NULL OR finish IN ('stop', 'length', 'cancelled')"),
        check("tokens", "n_prompt_tokens >= 0 AND n_output_tokens >= 0 AND truncated_tokens >= 0"),
        Index("ix_review_paper", "paper_id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id"))
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewer.id"))
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id"))
    external_id: Mapped[str | None]
    rating: Mapped[float | None]
    confidence: Mapped[float | None]
    is_meta: Mapped[bool] = mapped_column(default=False)
    fields: Mapped[Any] = mapped_column(CleanJson, nullable=True)
    adapter_sha256: Mapped[str | None]
    seed: Mapped[int | None]
    n_prompt_tokens: Mapped[int | None]
    n_output_tokens: Mapped[int | None]
    truncated_tokens: Mapped[int | None]
    finish: Mapped[str | None]
    seconds: Mapped[float | None]
    empty_aspects: Mapped[Any] = mapped_column(CleanJson, nullable=False)
    gate: Mapped[Any] = mapped_column(CleanJson, nullable=False)
    versions: Mapped[Any] = mapped_column(CleanJson, nullable=False)
    created_at: Mapped[float] = mapped_column(default=now())
    unplaced: Mapped[str] = mapped_column(default="")
    raw: Mapped[str]


class ItemRow(Base):
    """One titled point of a review; `position` counts from 0 within its aspect."""

    __tablename__ = "item"
    __table_args__ = (
        UniqueConstraint("review_id", "aspect", "position"),
        check("position", "position >= 0"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    review_id: Mapped[int] = mapped_column(ForeignKey("review.id", ondelete="CASCADE"))
    aspect: Mapped[str]
    position: Mapped[int]
    title: Mapped[str]
    text: Mapped[str]


class WorkerNodeRow(Base):
    """A worker process as it last described itself; age of `seen_at` tells whether it lives."""

    __tablename__ = "worker_node"
    __table_args__ = (
        check_one_of("state", NodeState),
        check("slots", "slots >= 0"),
        check("give_back", "give_back_at IS NULL OR state = 'draining'"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    gpu: Mapped[str]
    #: The first of its queues, by which the worker is named.
    queue: Mapped[str]
    #: All queues that it claims from; NULL for a worker of a version that knew one queue only.
    queues: Mapped[Any] = mapped_column(CleanJson, nullable=True)
    base: Mapped[str]
    weights_sha256: Mapped[str | None]
    #: Which attention its engine uses; NULL for an engine that does not say, and before 0012.
    attention: Mapped[str | None]
    #: GPU memory that it may take, in GiB; 0 for all, NULL before 0012.
    gpu_memory_gib: Mapped[float | None]
    slots: Mapped[int]
    #: The loaded reviewer, "name vN"; empty when none is.
    reviewer: Mapped[str] = mapped_column(default="")
    code_version: Mapped[str]
    state: Mapped[str] = mapped_column(default="active")
    started_at: Mapped[float] = mapped_column(default=now())
    seen_at: Mapped[float] = mapped_column(default=now())
    #: When a draining worker gives back what it still runs; never, unless an operator said so.
    give_back_at: Mapped[float | None]
    #: Papers that it answered since its start, and those whose first answer failed the gate.
    answers: Mapped[int | None]
    rejections: Mapped[int | None]
    #: Why it stopped claiming by itself; NULL when it did not.
    complaint: Mapped[str | None]
