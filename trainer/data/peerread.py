"""Read the PeerRead corpus: reviews/ID.json beside parsed_pdfs/ID.pdf.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from errors import PaperUnreadable
from papers.jsonl import read_json
from trainer.data.json_lines import read_text, score_of, text_of
from trainer.data.paper_versions import Version, choose_version
from trainer.data.source_records import Note, NoteKind, Problem, SourcePaper

_EXTRA = (
    *("IMPACT", "SUBSTANCE", "APPROPRIATENESS", "MEANINGFUL_COMPARISON", "ORIGINALITY"),
    *("SOUNDNESS_CORRECTNESS", "CLARITY", "PRESENTATION_FORMAT", "TITLE", "DATE"),
)


def is_peerread(folder: Path) -> bool:
    """Does the folder, or one below it, hold reviews/ beside parsed_pdfs/?"""
    return any((parsed.parent / "reviews").is_dir() for parsed in folder.rglob("parsed_pdfs"))


def read_peerread(folder: Path) -> Iterator[SourcePaper | Problem]:
    """Papers with their reviews from all splits below `folder`, by path."""
    for file in sorted(folder.rglob("reviews/*.json")):
        parsed = file.parent.parent / "parsed_pdfs" / f"{file.stem}.pdf.json"
        try:
            yield _paper(file, json.loads(read_text(file)), json.loads(read_text(parsed)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            yield Problem(f"{file}: not a paper of PeerRead ({error}).")
        except PaperUnreadable as error:
            yield Problem(f"{parsed}: {error}")


def _paper(file: Path, entry: Mapping[str, Any], parsed: Mapping[str, Any]) -> SourcePaper:
    metadata = parsed["metadata"]
    sections = [
        {"heading": text_of(section.get("heading")), "text": text_of(section.get("text"))}
        for section in metadata.get("sections") or ()
    ]
    name = f"{file.parents[2].name}_{entry.get('id') or file.stem}"
    paper = read_json(
        {
            "title": text_of(entry.get("title")) or text_of(metadata.get("title")),
            "abstract": text_of(entry.get("abstract")) or text_of(metadata.get("abstractText")),
            "sections": sections,
        }
    )
    # PeerRead's parses have no authors if the PDF hides them.
    hidden = not metadata.get("authors") and not metadata.get("emails")
    accepted = entry.get("accepted")
    return SourcePaper(
        id=name,
        paper=paper,
        notes=tuple(_note(name, n, review) for n, review in enumerate(entry["reviews"], start=1)),
        venue=text_of(entry.get("conference")) or file.parents[2].name,
        decision=None if accepted is None else "Accept" if accepted else "Reject",
        version_choice=choose_version([Version(name, paper, anonymous=hidden)], None).why,
    )


def _note(paper_name: str, number: int, review: Mapping[str, Any]) -> Note:
    is_meta = review.get("is_meta_review") or review.get("IS_META_REVIEW")
    kind: NoteKind = "meta_review" if is_meta else "review"
    if "question" in text_of(review.get("TITLE")).lower() and not review.get("RECOMMENDATION"):
        kind = "public_comment"
    return Note(
        id=f"{paper_name}_r{number}",
        kind=kind,
        parts={"review": text_of(review.get("comments"))},
        rating=score_of(review.get("RECOMMENDATION")),
        confidence=score_of(review.get("REVIEWER_CONFIDENCE")),
        extra={key: review[key] for key in _EXTRA if review.get(key)},
    )
