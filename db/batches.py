"""A batch's life as its commands see it, gathered from the modules that each tell a part of it."""

from __future__ import annotations

from db.batch_papers import Added, NewPaper, add_papers, known_custom_ids
from db.batch_records import (
    Batch,
    BatchOptions,
    finish_submit,
    open_batch,
    reopen_batch,
    reviewer_of,
)
from db.contents import PaperContent
from db.control import (
    cancel,
    failed_custom_ids,
    pause,
    pause_all,
    resume,
    resume_all,
    retry,
    without_text,
)
from db.progress import BatchStatus, status, statuses
from db.purging import Purge, purge, sources
from db.reconcile import expire_deadlines

__all__ = [
    "Added",
    "Batch",
    "BatchOptions",
    "BatchStatus",
    "NewPaper",
    "PaperContent",
    "Purge",
    "add_papers",
    "cancel",
    "expire_deadlines",
    "failed_custom_ids",
    "finish_submit",
    "known_custom_ids",
    "open_batch",
    "pause",
    "pause_all",
    "purge",
    "reopen_batch",
    "resume",
    "resume_all",
    "retry",
    "reviewer_of",
    "sources",
    "status",
    "statuses",
    "without_text",
]
