"""Read notes of OpenReview, API v1 and v2, as openreview-py returns them.

A dump is any mix of submissions, with or without `details.replies`, replies, and earlier versions:
references of API v1 (`referent`) and edits of API v2 (`note.id`). Texts are in a folder, one file a
version, named FORUM.ext or FORUM_VERSION.ext.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from papers.paper import Paper
from trainer.data.json_lines import json_objects, score_of, text_of
from trainer.data.paper_versions import Version, VersionChoice, choose_version, looks_anonymous
from trainer.data.source_records import Note, NoteKind, Problem, SourcePaper
from trainer.data.venue_forms import Form, Forms

#: End of authors' signatures; other groups are reviewers, chairs and the public.
_AUTHORS = "authors"


@dataclass
class Forum:
    """A dump's notes about one submission."""

    id: str
    submission: Mapping[str, Any] | None = None
    replies: list[Mapping[str, Any]] = field(default_factory=list)
    #: Version's id -> its time.
    versions: dict[str, int | None] = field(default_factory=dict)
    blind: bool = False


def is_note(document: Mapping[str, Any]) -> bool:
    """Is this a note, or an edit of one?"""
    return bool({"invitation", "invitations"} & document.keys()) and (
        "content" in document or "note" in document
    )


def read_forums(file: Path) -> tuple[list[Forum], list[Problem]]:
    """The submissions of a dump, in its order."""
    forums: dict[str, Forum] = {}
    problems = []
    for row in json_objects(file):
        if isinstance(row, Problem):
            problems.append(row)
        elif not is_note(row[1]):
            problems.append(Problem(f"{row[0]}: not a note of OpenReview."))
        else:
            _sort_in(row[1], forums)
    lost = [forum for forum in forums.values() if forum.submission is None]
    problems += [Problem(f"{file.name}: the note of submission {f.id} is missing.") for f in lost]
    return [forum for forum in forums.values() if forum.submission is not None], problems


def _sort_in(note: Mapping[str, Any], forums: dict[str, Forum]) -> None:
    edited = note.get("note")
    if note.get("referent") or isinstance(edited, dict):
        target = text_of(note.get("referent")) or text_of(edited and edited.get("id"))
        forum = forums.setdefault(target, Forum(target))
        forum.versions[text_of(note.get("id"))] = _created(note)
        return
    forum_id = text_of(note.get("forum")) or text_of(note.get("id"))
    forum = forums.setdefault(forum_id, Forum(forum_id))
    if note.get("replyto") and text_of(note.get("id")) != forum_id:
        forum.replies.append(note)
        return
    forum.submission = note
    forum.blind = any("Blind_Submission" in each for each in invitations_of(note))
    details = note.get("details") or {}
    known = {text_of(reply.get("id")) for reply in forum.replies}
    for reply in details.get("replies") or details.get("directReplies") or ():
        if text_of(reply.get("id")) not in known:
            forum.replies.append(reply)
    for revision in details.get("revisions") or ():
        if isinstance(revision, dict):
            forum.versions[text_of(revision.get("id"))] = _created(revision)


def choose_file(
    forum: Forum, files: Mapping[str, Path], forms: Forms
) -> VersionChoice[Path] | None:
    """The text of the version that the reviewers saw; None if the folder lacks it."""
    found = [
        Version(version, files[name], created, anonymous=forum.blind)
        for version, created in sorted(forum.versions.items(), key=lambda each: each[1] or 0)
        if (name := f"{forum.id}_{version}") in files
    ]
    if not found and forum.id in files and forum.submission is not None:
        # One text only: as old as the submission if that was never changed.
        changed = forum.submission.get("tmdate") or forum.submission.get("mdate")
        when = changed if isinstance(changed, int) else None
        found = [Version(forum.id, files[forum.id], when, anonymous=forum.blind)]
    return choose_version(found, first_review_ms(forum, forms)) if found else None


def first_review_ms(forum: Forum, forms: Forms) -> int | None:
    """Time of the first review."""
    times = [_created(reply) for reply in forum.replies if _kind(reply, forms) == "review"]
    return min((time for time in times if time is not None), default=None)


def source_paper(forum: Forum, paper: Paper, why: str, forms: Forms) -> SourcePaper:
    """Combine a submission, its text and its notes."""
    notes, decision = [], None
    for reply in forum.replies:
        form, kind = forms.of(invitations_of(reply)), _kind(reply, forms)
        if form is None or kind is None:
            continue
        notes.append(_note(reply, form, kind))
        if kind in ("decision", "meta_review"):
            decision = _first(content_of(reply), form.decision) or decision
    submission = forum.submission or {}
    venue = invitations_of(submission)[0].split("/-/")[0] if invitations_of(submission) else None
    if why.startswith("unknown") and looks_anonymous(paper.text):
        why = "anonymous submission"
    return SourcePaper(
        id=forum.id,
        paper=paper,
        notes=tuple(notes),
        venue=venue,
        year=_year(venue),
        decision=decision,
        version_choice=why,
    )


def invitations_of(note: Mapping[str, Any]) -> Sequence[str]:
    """API v1 has one invitation, v2 a list."""
    several = note.get("invitations")
    return several if isinstance(several, list) else [text_of(note.get("invitation"))]


def content_of(note: Mapping[str, Any]) -> dict[str, Any]:
    """A note's fields; API v2 wraps each in {"value": ...}."""
    content = note.get("content")
    if not isinstance(content, dict):
        return {}
    return {
        name: value["value"] if isinstance(value, dict) and "value" in value else value
        for name, value in content.items()
    }


def _kind(reply: Mapping[str, Any], forms: Forms) -> NoteKind | None:
    form = forms.of(invitations_of(reply))
    kind = form.kind_of(invitations_of(reply)) if form else None
    signatures = " ".join(map(str, reply.get("signatures") or ())).lower()
    if kind == "public_comment" and _AUTHORS in signatures:
        return "author_reply"
    return kind


def _note(reply: Mapping[str, Any], form: Form, kind: NoteKind) -> Note:
    content = content_of(reply)
    parts = {
        part: "\n\n".join(filter(None, (text_of(content.get(name)) for name in names)))
        for part, names in form.parts.items()
    }
    return Note(
        id=text_of(reply.get("id")),
        kind=kind,
        parts={part: text for part, text in parts.items() if text},
        rating=score_of(_first(content, form.rating)),
        confidence=score_of(_first(content, form.confidence)),
        created_ms=_created(reply),
        extra={name: content[name] for name in form.extra if content.get(name)},
    )


def _first(content: Mapping[str, Any], names: Iterable[str]) -> str | None:
    found = (content.get(name) for name in names)
    return next((str(value) for value in found if value not in (None, "")), None)


def _created(note: Mapping[str, Any]) -> int | None:
    # tcdate is the server's clock; cdate can be set by the author.
    for key in ("tcdate", "cdate"):
        if isinstance(note.get(key), int):
            return int(note[key])
    return None


def _year(venue: str | None) -> int | None:
    found = [part for part in (venue or "").split("/") if part.isdigit() and len(part) == 4]
    return int(found[0]) if found else None


def texts(folder: Path) -> dict[str, Path]:
    """Name without suffix -> file, of all texts in a folder."""
    return {path.stem: path for path in sorted(folder.iterdir()) if path.is_file()}
