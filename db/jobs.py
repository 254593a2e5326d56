"""A job's life as its workers see it, gathered from the modules that each tell a part of it."""

from __future__ import annotations

from db.claims import Attempt, Claim, Renewal, Room, claim, renew, work_waits
from db.endings import (
    NewItem,
    NewReview,
    cancelled,
    commit_review,
    crashed,
    fail,
    release,
)
from db.events import Event, events, record_event
from db.reconcile import reconcile, recover

__all__ = [
    "Attempt",
    "Claim",
    "Event",
    "NewItem",
    "NewReview",
    "Renewal",
    "Room",
    "cancelled",
    "claim",
    "commit_review",
    "crashed",
    "events",
    "fail",
    "reconcile",
    "record_event",
    "recover",
    "release",
    "renew",
    "work_waits",
]
