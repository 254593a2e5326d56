"""JSON documents of `status`, `show` and `export`, whose keys scripts depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from db.batch_progress import BatchStatus
from db.flags import FlagView
from db.reviews import ExportLine, PaperView, ReviewView, UnreadView


def status_document(status: BatchStatus) -> dict[str, Any]:
    """`status BATCH --json`."""
    document = asdict(status)
    document["batch"] = document.pop("name")
    return document


def paper_document(paper: PaperView) -> dict[str, Any]:
    """The paper of `show --json`: `flags` are sentences, `evidence` their words in full."""
    document = asdict(paper)
    del document["reviews"]
    return document | _flags(paper.flags)


def unread_document(unread: UnreadView) -> dict[str, Any]:
    """`show --json` of a custom_id without a paper."""
    jobs = [asdict(job) for job in unread.jobs]
    return {"paper": None, "jobs": jobs, **_flags(unread.flags), "reviews": []}


def _flags(flags: Sequence[FlagView]) -> dict[str, Any]:
    return {
        "flags": [str(flag) for flag in flags],
        "evidence": [flag_document(flag) for flag in flags if flag.text],
    }


def flag_document(flag: FlagView) -> dict[str, Any]:
    """A flag of a file, with its words in full and whether they are the venue's canary."""
    same = ("custom_id", "kind", "detail", "page", "text", "papers", "canary")
    return {name: getattr(flag, name) for name in same}


def review_document(review: ReviewView) -> dict[str, Any]:
    """A review, as `show --json` and the JSONL export have it."""
    # `asdict` copies nested values, which takes longer than the rest of an export.
    fields = {name: value for name, value in vars(review).items() if name != "aspects"}
    return {**fields, "items": [vars(item) for item in review.items]}


def export_document(line: ExportLine) -> dict[str, Any]:
    """One line of the JSONL export: a job, with its review or its error."""
    return {
        "batch": line.batch,
        "custom_id": line.custom_id,
        "sample": line.sample,
        "job": line.job,
        "state": line.state,
        "error": error_document(line),
        "paper": {"title": line.paper_title, "sha256": line.paper_sha256},
        "flags": [flag_document(flag) for flag in line.flags],
        "review": None if line.review is None else review_document(line.review),
    }


def error_document(line: ExportLine) -> dict[str, str] | None:
    """Why a job has no review; None when it has not failed."""
    if line.error_kind is None:
        return None
    return {"kind": line.error_kind, "message": line.error or ""}
