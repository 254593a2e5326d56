"""The JSON document of `submit --dry-run` (design section 5a): what was read, and what it costs in
tokens when the reviewer's tokenizer is on this machine. Stores nothing, loads no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from errors import MissingPart
from models.reviewer import ReviewerConfig
from papers.intake import Reading
from papers.paper import Paper
from settings import Settings
from worker import roster


def document(papers: Sequence[Reading], reviewer: str, settings: Settings) -> dict[str, Any]:
    """Describe papers as they would be submitted to a reviewer."""
    lines = describe(papers, _TokenCounter(_config(reviewer, settings), settings))
    return {"papers": lines, "counts": counts(lines)}


def describe(papers: Sequence[Reading], counter: _TokenCounter | None) -> list[dict[str, Any]]:
    """One line a paper; the second paper with the same content names the first."""
    first: dict[str, str] = {}
    lines = []
    for reading in papers:
        line: dict[str, Any] = {"source": reading.source, "custom_id": reading.custom_id}
        line |= _unread() if reading.paper is None else _about(reading.paper, counter)
        original = first.setdefault(line["sha256"], reading.custom_id) if line["sha256"] else None
        line["duplicate_of"] = original if original != reading.custom_id else None
        line["error"] = reading.error
        lines.append(line)
    return lines


def counts(lines: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many papers were read, failed, or repeat another's content."""
    failed = sum(line["error"] is not None for line in lines)
    duplicate = sum(line["duplicate_of"] is not None for line in lines)
    return {"read": len(lines) - failed - duplicate, "failed": failed, "duplicate": duplicate}


def without_texts(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same lines without the papers' own words, as `submit --json` prints them."""
    texts = {"abstract", "sections"}
    return [{key: value for key, value in line.items() if key not in texts} for line in lines]


def _about(paper: Paper, counter: _TokenCounter | None) -> dict[str, Any]:
    n_tokens, truncated = counter(paper.text) if counter else (None, None)
    return {
        "title": paper.title,
        "abstract": paper.abstract,
        "sections": [section.heading for section in paper.sections if section.heading],
        "n_chars": len(paper.text),
        "n_tokens": n_tokens,
        "truncated_tokens": truncated,
        "sha256": paper.sha256,
        "flags": [str(flag) for flag in paper.flags],
    }


def _unread() -> dict[str, Any]:
    empty = dict.fromkeys(("title", "abstract", "n_tokens", "truncated_tokens", "sha256"))
    return {**empty, "sections": [], "n_chars": 0, "flags": []}


def _config(reviewer: str, settings: Settings) -> ReviewerConfig | None:
    """A shipped reviewer, or one that this machine's database knows; None when neither does."""
    config = roster.shipped(reviewer)
    return config if config is not None else roster.stored(reviewer, settings)


class _TokenCounter:
    """Counts a paper's tokens with the reviewer's own tokenizer; gives nulls without one."""

    def __init__(self, config: ReviewerConfig | None, settings: Settings) -> None:
        self._config = config
        self._tokenizer = _local_tokenizer(config, settings)

    def __call__(self, text: str) -> tuple[int | None, int | None]:
        from models.prompt import count_tokens

        if self._config is None or self._tokenizer is None:
            return None, None
        return count_tokens(self._tokenizer, self._config.request("dry-run", text, 0))


def _local_tokenizer(config: ReviewerConfig | None, settings: Settings) -> Any:
    from models import store

    if config is None or config.base is None:
        return None
    try:
        return store.load_tokenizer(store.resolve(config.base, settings.home))
    except MissingPart:
        return None
