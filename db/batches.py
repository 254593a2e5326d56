"""A batch's life as its commands see it, gathered from the modules that each tell a part of it."""

from __future__ import annotations

from db.contents import PaperContent
from db.control import cancel, pause, resume, retry, unreadable
from db.opening import Batch, BatchOptions, finish_submit, open_batch, reviewer_of
from db.progress import BatchStatus, status, statuses
from db.submission import Added, NewPaper, add_papers, known_custom_ids

__all__ = [
    "Added",
    "Batch",
    "BatchOptions",
    "BatchStatus",
    "NewPaper",
    "PaperContent",
    "add_papers",
    "cancel",
    "finish_submit",
    "known_custom_ids",
    "open_batch",
    "pause",
    "resume",
    "retry",
    "reviewer_of",
    "status",
    "statuses",
    "unreadable",
]
