"""Read many papers in order; an unreadable one does not stop the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from errors import PaperUnreadable
from papers.discovery import discover
from papers.entry import Entry, Format
from papers.paper import Flag, Paper
from papers.reading_cache import ReadingCache
from papers.sandbox import PdfLimits, Sandbox
from papers.text_safety import safe_paper

__all__ = ["Entry", "PdfLimits", "Reading", "ReadingCache", "discover", "read_all"]

#: Formats whose text is in a single file, so that its size and time show changes.
CACHED = frozenset({Format.PDF, Format.TEXT, Format.MARKDOWN})
#: Files that are read ahead, for each process.
PREFETCH = 4


@dataclass(frozen=True)
class Reading:
    """The result for an entry: a paper, or the kind of error and a sentence."""

    custom_id: str
    source: str
    paper: Paper | None
    error_kind: str | None = None
    error: str | None = None
    cached: bool = False
    #: Flags of a file that was read and then rejected for one of them.
    rejected_flags: tuple[Flag, ...] = ()


def read_all(
    entries: Sequence[Entry],
    *,
    cache: ReadingCache | None,
    limits: PdfLimits,
    processes: int,
    progress: Callable[[int, int], None] | None = None,
) -> Generator[Reading, None, None]:
    """Readings in the order of the entries; the next ones are read in the background.

    `progress` is called with the number done and the total.
    """
    intake = _Reader(cache, limits, processes)
    try:
        for done, reading in enumerate(intake.readings(entries), start=1):
            if progress is not None:
                progress(done, len(entries))
            yield reading
    finally:
        intake.close()


class _Reader:
    def __init__(self, cache: ReadingCache | None, limits: PdfLimits, processes: int) -> None:
        self._cache = cache
        self._limits = limits
        self._processes = processes
        self._sandbox: Sandbox | None = None

    def readings(self, entries: Sequence[Entry]) -> Iterator[Reading]:
        ahead: deque[tuple[Entry, Paper | Future[Paper] | None]] = deque()
        for entry in entries:
            ahead.append((entry, self._start(entry)))
            if len(ahead) > PREFETCH * self._processes:
                yield self._finish(*ahead.popleft())
        while ahead:
            yield self._finish(*ahead.popleft())

    def close(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()

    def _start(self, entry: Entry) -> Paper | Future[Paper] | None:
        """The paper if it is cached, None if it is known to be unreadable, else a future."""
        if entry.problem:
            return None
        if self._cache is not None and entry.format in CACHED:
            paper = self._cache.get(entry.path)
            if paper is not None:
                return paper
        if self._sandbox is None:
            self._sandbox = Sandbox(self._limits, self._processes)
        if entry.format is Format.JSON:
            return self._sandbox.submit_line(entry.path, entry.offset, entry.length)
        return self._sandbox.submit(entry.path, entry.format)

    def _finish(self, entry: Entry, started: Paper | Future[Paper] | None) -> Reading:
        try:
            paper = _result(entry, started)
        except PaperUnreadable as error:
            return Reading(entry.custom_id, entry.source, None, error.kind, str(error))
        cached = isinstance(started, Paper)
        if self._cache is not None and entry.format in CACHED and not cached:
            self._cache.put(entry.path, paper)
        if entry.title:
            paper = replace(paper, title=safe_paper(title=entry.title, abstract="-").title)
        return Reading(entry.custom_id, entry.source, paper, cached=cached)


def _result(entry: Entry, started: Paper | Future[Paper] | None) -> Paper:
    if started is None:
        raise PaperUnreadable(entry.problem, kind=entry.problem_kind)
    return started if isinstance(started, Paper) else started.result()
