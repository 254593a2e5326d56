"""A job's life as its workers see it, gathered from the modules that each tell a part of it."""

from __future__ import annotations

from db.claims import Claim, Renewal, claim, renew, work_waits
from db.endings import NewItem, NewReview, cancelled, commit_review, fail, release
from db.events import Event, events, record_event
from db.reconcile import reconcile

__all__ = [
    "Claim",
    "Event",
    "NewItem",
    "NewReview",
    "Renewal",
    "cancelled",
    "claim",
    "commit_review",
    "events",
    "fail",
    "reconcile",
    "record_event",
    "release",
    "renew",
    "work_waits",
]
