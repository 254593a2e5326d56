"""The JSON document of `submit --dry-run`: papers as read, their tokens, and the cost of an API.

Tokens are counted when the reviewer's tokenizer is on this machine. Nothing is stored, and no model
is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from db.flags import canary_sentence
from dispatch import roster
from dispatch.hidden_text import HiddenWords
from errors import MissingPart
from models.text.cost import max_cost_usd
from models.text.reviewer import ReviewerConfig
from papers.paper import Flag, Paper
from papers.reading import Reading
from settings import Settings


def document(papers: Iterable[Reading], reviewer: str, settings: Settings) -> dict[str, Any]:
    """Describe papers as they would be submitted to a reviewer."""
    config = _config(reviewer, settings)
    describer = Describer(_TokenCounter(config, settings))
    lines: list[dict[str, Any]] = []
    flags: dict[int, Sequence[Flag]] = {}
    words = HiddenWords()
    for number, reading in enumerate(papers):
        lines.append(describer.line(reading))
        if reading.paper is not None:
            words.add(reading.paper)
            flags |= {number: reading.paper.flags} if reading.paper.flags else {}
    _mark_canaries(lines, flags, words.canaries())
    read = [line["n_chars"] for line in lines if line["error"] is None]
    usd = max_cost_usd(config, sum(read), len(read)) if config else None
    return {"papers": lines, "counts": counts(lines), "usd_at_most": usd}


class Describer:
    """Describes papers one by one, so that their texts need not be in memory together."""

    def __init__(self, counter: _TokenCounter | None = None) -> None:
        self._counter = counter
        #: The custom_id that first had a content, by the content's sha256.
        self._first: dict[str, str] = {}

    def line(self, reading: Reading) -> dict[str, Any]:
        """Describe one paper; a duplicate names the first paper with the same content."""
        line: dict[str, Any] = {"source": reading.source, "custom_id": reading.custom_id}
        line |= _unread(reading) if reading.paper is None else _about(reading.paper, self._counter)
        sha256 = line["sha256"]
        original = self._first.setdefault(sha256, reading.custom_id) if sha256 else None
        line["duplicate_of"] = original if original != reading.custom_id else None
        line["error"] = reading.error
        return line


def counts(lines: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many papers were read, failed, or repeat another's content."""
    failed = sum(line["error"] is not None for line in lines)
    duplicate = sum(line["duplicate_of"] is not None for line in lines)
    return {"read": len(lines) - failed - duplicate, "failed": failed, "duplicate": duplicate}


def without_texts(line: dict[str, Any]) -> dict[str, Any]:
    """The same line without abstract and headings, as `submit --json` prints it."""
    return {key: value for key, value in line.items() if key not in ("abstract", "sections")}


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


def _unread(reading: Reading) -> dict[str, Any]:
    empty = dict.fromkeys(("title", "abstract", "n_tokens", "truncated_tokens", "sha256"))
    flags = [str(flag) for flag in reading.rejected_flags]
    return {**empty, "sections": [], "n_chars": 0, "flags": flags}


def _mark_canaries(
    lines: Sequence[dict[str, Any]],
    flags: Mapping[int, Sequence[Flag]],
    canaries: Mapping[str | None, tuple[int, int]],
) -> None:
    """Say of the flags of these lines which are the venue's canary."""
    for number, of_line in flags.items():
        lines[number]["flags"] = [
            canary_sentence(str(flag), *canaries[flag.words_sha256])
            if flag.words_sha256 in canaries
            else str(flag)
            for flag in of_line
        ]


def _config(reviewer: str, settings: Settings) -> ReviewerConfig | None:
    """A shipped reviewer, or one in the configured database; None when there is neither."""
    config = roster.shipped(reviewer)
    return config if config is not None else roster.stored(reviewer, settings)


class _TokenCounter:
    """Counts a paper's tokens with the reviewer's tokenizer; returns None for both without one."""

    def __init__(self, config: ReviewerConfig | None, settings: Settings) -> None:
        self._config = config
        self._tokenizer = _local_tokenizer(config, settings)

    def __call__(self, text: str) -> tuple[int | None, int | None]:
        from models.text.prompt import count_tokens
        from models.text.templates import TEMPLATES

        if self._config is None or self._config.template is None or self._tokenizer is None:
            return None, None
        request = self._config.request("dry-run", text, 0)
        return count_tokens(self._tokenizer, request, TEMPLATES[self._config.template])


def _local_tokenizer(config: ReviewerConfig | None, settings: Settings) -> Any:
    from models.weights import store

    if config is None or config.base is None:
        return None
    try:
        return store.load_tokenizer(store.resolve(config.base, settings.home))
    except MissingPart:
        return None
