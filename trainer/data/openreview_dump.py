"""Read notes of OpenReview, API v1 and v2, as openreview-py returns them.

A dump is any mix of submissions, with or without `details.replies`, replies, and earlier versions:
references of API v1 (`referent`) and edits of API v2 (`note.id`). Deleted notes (`ddate`) are left
out, and what edits did to a reply is applied where the dump has not the reply itself. Texts are in
a folder, one file a version, named FORUM.ext or FORUM_VERSION.ext.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from papers.paper import Paper
from trainer.data.form_fields import PlacedFields, place_fields
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
    submission: Mapping[str, Any] = field(default_factory=dict)
    replies: list[Mapping[str, Any]] = field(default_factory=list)
    #: Version's id -> its time.
    versions: dict[str, int | None] = field(default_factory=dict)
    blind: bool = False


@dataclass
class _Dump:
    """A dump's notes as they come: submissions, replies and edits in any order."""

    #: Id -> submission, also those that were deleted.
    submissions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Id -> reply, also those that were deleted.
    replies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    edits: list[Mapping[str, Any]] = field(default_factory=list)


def is_note(document: Mapping[str, Any]) -> bool:
    """Is this a note, or an edit of one?"""
    return bool({"invitation", "invitations"} & document.keys()) and bool(
        {"content", "note", "ddate", "referent"} & document.keys()
    )


def read_forums(file: Path) -> tuple[list[Forum], list[Problem]]:
    """The submissions of a dump, in its order."""
    dump, problems = _Dump(), []
    for row in json_objects(file):
        if isinstance(row, Problem):
            problems.append(row)
        elif not is_note(row[1]):
            problems.append(Problem(f"{row[0]}: not a note of OpenReview."))
        else:
            _sort_in(row[1], dump)
    _delete_by_edits(dump)
    forums = _forums(dump)
    problems += [
        Problem(f"{file.name}: submission {name} was deleted.")
        for name, note in dump.submissions.items()
        if _is_deleted(note)
    ]
    lost = _add_edits(dump, forums) | _add_replies(dump, forums)
    problems += [
        Problem(f"{file.name}: the note of submission {name} is missing.") for name in lost
    ]
    return list(forums.values()), problems


def _sort_in(note: Mapping[str, Any], dump: _Dump) -> None:
    if note.get("referent") or isinstance(note.get("note"), dict):
        if not _is_deleted(note):
            dump.edits.append(note)
        return
    name = text_of(note.get("id"))
    forum = text_of(note.get("forum")) or name
    if note.get("replyto") and name != forum:
        dump.replies[name] = _newer(dump.replies.get(name), note)
        return
    dump.submissions[forum] = note
    details = note.get("details")
    for reply in _objects(details, "replies") or _objects(details, "directReplies"):
        reply_id = text_of(reply.get("id"))
        dump.replies[reply_id] = _newer(dump.replies.get(reply_id), {"forum": forum, **reply})
    for revision in _objects(details, "revisions"):
        dump.edits.append({"referent": forum, **revision})


def _newer(known: Mapping[str, Any] | None, note: Mapping[str, Any]) -> Mapping[str, Any]:
    """The later state of a note that a dump has twice; deletion is the last."""
    if known is None or _is_deleted(known):
        return known or note
    later = _modified(note) >= _modified(known) or _is_deleted(note)
    return note if later else known


def _delete_by_edits(dump: _Dump) -> None:
    """Delete notes whose last edit of `ddate` did; the dump may have the note of a time before."""
    last: dict[str, Mapping[str, Any]] = {}
    for edit in sorted(dump.edits, key=lambda each: _created(each) or 0):
        if isinstance(edit.get("note"), dict) and "ddate" in edit["note"]:
            last[_target(edit)] = edit["note"]
    for name, change in last.items():
        for notes in (dump.submissions, dump.replies):
            if name in notes and _is_deleted(change):
                notes[name] = {**notes[name], "ddate": change["ddate"]}


def _forums(dump: _Dump) -> dict[str, Forum]:
    """The submissions that were not deleted; a blind one stands for its original."""
    originals = {text_of(note.get("original")) for note in dump.submissions.values()}
    return {
        name: Forum(
            name,
            submission=note,
            blind=any("Blind_Submission" in each for each in invitations_of(note)),
        )
        for name, note in dump.submissions.items()
        if name not in originals and not _is_deleted(note)
    }


def _add_edits(dump: _Dump, forums: dict[str, Forum]) -> set[str]:
    """Give submissions their versions and replies their edits; return forums that are missing."""
    known = {text_of(forum.submission.get("original")): forum for forum in forums.values()}
    known |= forums
    lost = set()
    for edit in sorted(dump.edits, key=lambda each: _created(each) or 0):
        target, forum = _target(edit), _forum_of(edit)
        if target in known:
            known[target].versions[text_of(edit.get("id"))] = _created(edit)
        elif target in dump.submissions:
            continue
        elif target in dump.replies or (forum and forum != target):
            _edit_reply(dump, target, forum, edit)
        else:
            lost.add(target)
    return lost


def _edit_reply(dump: _Dump, target: str, forum: str, edit: Mapping[str, Any]) -> None:
    """Apply an edit to a reply that the dump has as edits only."""
    change = edit["note"] if isinstance(edit.get("note"), dict) else edit
    known = dump.replies.get(target)
    if known is not None and not known.get("edited"):
        return  # the note itself is the state after all edits
    before = known or {"tcdate": _created(edit), "invitations": invitations_of(edit)}
    content = {**_mapping(before.get("content")), **_mapping(change.get("content"))}
    ddate = change.get("ddate", before.get("ddate"))
    dump.replies[target] = {
        **before,
        "id": target,
        "forum": forum or before.get("forum"),
        "replyto": change.get("replyto") or before.get("replyto") or forum,
        "signatures": change.get("signatures") or before.get("signatures"),
        "content": content,
        "ddate": ddate,
        "edited": True,
    }


def _add_replies(dump: _Dump, forums: dict[str, Forum]) -> set[str]:
    """Give submissions their replies; return forums that are missing."""
    lost = set()
    for reply in dump.replies.values():
        name = text_of(reply.get("forum"))
        if _is_deleted(reply):
            continue
        if name in forums:
            forums[name].replies.append(reply)
        elif name not in dump.submissions:
            lost.add(name)
    return lost


def _target(edit: Mapping[str, Any]) -> str:
    """The id of the note that an edit or reference changes."""
    note = edit.get("note")
    return text_of(edit.get("referent")) or text_of(
        note.get("id") if isinstance(note, dict) else ""
    )


def _forum_of(edit: Mapping[str, Any]) -> str:
    note = edit.get("note")
    return text_of(note.get("forum")) if isinstance(note, dict) else text_of(edit.get("forum"))


def _objects(details: object, key: str) -> list[Mapping[str, Any]]:
    found = details.get(key) if isinstance(details, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_deleted(note: Mapping[str, Any]) -> bool:
    """API v2 undoes a deletion with {"delete": true}."""
    return note.get("ddate") is not None and not isinstance(note["ddate"], dict)


def _modified(note: Mapping[str, Any]) -> int:
    for key in ("tmdate", "mdate"):
        if isinstance(note.get(key), int):
            return int(note[key])
    return _created(note) or 0


def choose_file(
    forum: Forum, files: Mapping[str, Path], forms: Forms
) -> VersionChoice[Path] | None:
    """The text of the version that the reviewers saw; None if the folder lacks it."""
    found = [
        Version(version, files[name], created, anonymous=forum.blind)
        for version, created in sorted(forum.versions.items(), key=lambda each: each[1] or 0)
        if (name := f"{forum.id}_{version}") in files
    ]
    if not found and forum.id in files:
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
        if _has_content(reply):
            notes.append(_note(reply, form, kind))
        if kind in ("decision", "meta_review"):
            decision = _first(content_of(reply), form.decision) or decision
    venue = invitations_of(forum.submission)[0].split("/-/")[0] or None
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


def left_out(forums: Iterable[Forum], forms: Forms) -> list[Problem]:
    """A sentence for each sort of note that no form knows, and for each note without content."""
    unknown: Counter[str] = Counter()
    problems = []
    for forum in forums:
        for reply in forum.replies:
            kind, form = _kind(reply, forms), forms.of(invitations_of(reply))
            if form is None or kind is None:
                unknown[invitations_of(reply)[0].rpartition("/")[2] or "without invitation"] += 1
            elif not _has_content(reply):
                problems.append(Problem(f"Note {text_of(reply.get('id'))} has no content."))
    return problems + [
        Problem(f"{number} notes of the unknown kind {name} were left out.")
        for name, number in sorted(unknown.items())
    ]


def invitations_of(note: Mapping[str, Any]) -> Sequence[str]:
    """API v1 has one invitation, v2 a list."""
    several = note.get("invitations")
    found = [each for each in several if isinstance(each, str)] if isinstance(several, list) else []
    return found or [text_of(note.get("invitation"))]


def content_of(note: Mapping[str, Any]) -> dict[str, Any]:
    """A note's fields; API v2 wraps each in {"value": ...}."""
    content = note.get("content")
    if not isinstance(content, dict):
        return {}
    return {name: _unwrapped(value) for name, value in content.items()}


def _has_content(note: Mapping[str, Any]) -> bool:
    return any(value not in (None, "", []) for value in content_of(note).values())


def _unwrapped(value: Any) -> Any:
    """A field's value; None for one that was deleted or that the caller may not read."""
    if not isinstance(value, dict):
        return value
    if "value" in value:
        return _unwrapped(value["value"]) if isinstance(value["value"], dict) else value["value"]
    return None if value.keys() <= {"readers", "delete", "order", "description"} else value


def _kind(reply: Mapping[str, Any], forms: Forms) -> NoteKind | None:
    form = forms.of(invitations_of(reply))
    kind = form.kind_of(invitations_of(reply)) if form else None
    signatures = text_of(reply.get("signatures")).lower()
    if kind == "public_comment" and _AUTHORS in signatures:
        return "author_reply"
    return kind


def _note(reply: Mapping[str, Any], form: Form, kind: NoteKind) -> Note:
    content = content_of(reply)
    named = {
        part: "\n\n".join(filter(None, (text_of(content.get(name)) for name in names)))
        for part, names in form.parts.items()
    }
    placed = _unnamed(content, form, kind)
    parts = {
        part: "\n\n".join(filter(None, (named.get(part), placed.parts.get(part))))
        for part in (*named, *(part for part in placed.parts if part not in named))
    }
    extra = {name: content[name] for name in form.extra if content.get(name)}
    rating, confidence = _score(content, form.rating), _score(content, form.confidence)
    return Note(
        id=text_of(reply.get("id")),
        kind=kind,
        parts={part: text for part, text in parts.items() if text},
        rating=placed.rating if rating is None else rating,
        confidence=placed.confidence if confidence is None else confidence,
        created_ms=_created(reply),
        extra={**extra, **placed.extra},
    )


def _unnamed(content: Mapping[str, Any], form: Form, kind: NoteKind) -> PlacedFields:
    """The fields that the form does not name."""
    named = {*form.extra, *form.rating, *form.confidence}
    named |= {name for names in form.parts.values() for name in names}
    if kind in ("decision", "meta_review"):
        named |= set(form.decision)
    return place_fields({name: value for name, value in content.items() if name not in named})


def _score(content: Mapping[str, Any], names: Iterable[str]) -> float | None:
    scores = (score_of(content.get(name)) for name in names)
    return next((score for score in scores if score is not None), None)


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
