"""Find the papers that a user names by files, folders, patterns, `-` or a manifest.

Papers are not read here; of JSONL files only the lines' names, in a confined process. A name that
must not be read, such as a link out of its folder, becomes an entry with that problem.
"""

from __future__ import annotations

import atexit
import csv
import glob
import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from errors import PaperUnreadable, UserError
from papers.encoding import MAX_TEXT_BYTES
from papers.entry import MAX_CUSTOM_ID_BYTES, Entry, Format, readable_name
from papers.links import require_file_within
from papers.sandbox import LineIndex, PdfLimits
from papers.tex_project import papers_among

SUFFIXES = {
    ".pdf": Format.PDF,
    ".tex": Format.TEX,
    ".md": Format.MARKDOWN,
    ".markdown": Format.MARKDOWN,
    ".txt": Format.TEXT,
    ".text": Format.TEXT,
    ".jsonl": Format.JSON,
    ".jsonl.gz": Format.JSON,
}
#: Files in a folder of papers that are not papers.
COMPANION_STEMS = frozenset(
    {"readme", "license", "licence", "notice", "changelog", "authors", "citation"}
)
#: Files that one message names.
MAX_NAMED = 5
#: Characters that are kept of a custom_id that is too long.
SHOWN_CHARACTERS = 60
#: Bytes that contain a PDF's header (ISO 32000-1, implementation note 13).
HEADER_BYTES = 1024
#: Lines of one file; a conference has some 20,000 papers, and each line takes memory here.
MAX_LINES = 1_000_000
#: Bytes of a manifest: a million rows.
MAX_MANIFEST_BYTES = 256 * 2**20
#: Bytes of standard input, which is stored until the process ends.
MAX_STDIN_BYTES = 16 * 2**30


def discover(
    paths: Sequence[str],
    manifest: Path | None = None,
    stdin: TextIO | None = None,
    limits: PdfLimits | None = None,
) -> list[Entry]:
    """All named papers, each once, in order. Raises UserError, naming the files at fault."""
    missing = [path for path in paths if not _exists(path)]
    if missing:
        raise UserError(f"There is no file or folder {_listed_names(missing)}.")
    entries: list[tuple[Entry, str]] = []
    with LineIndex(limits or PdfLimits()) as index:
        for path, folder in _files(paths):
            entries += _entries(path, folder, index)
        if "-" in paths and stdin is not None:
            entries += _standard_input(stdin, index)
    if manifest is not None:
        entries += _manifest(manifest)
    found = _unique(entries)
    if not found:
        raise UserError("No paper was named: give files, folders, patterns or a manifest.")
    return found


def _exists(path: str) -> bool:
    return path == "-" or Path(path).exists() or any(glob.iglob(path, recursive=True))


def _listed_names(names: Iterable[object]) -> str:
    listed = [readable_name(str(name)) for name in names]
    more = f" and {len(listed) - MAX_NAMED} more" if len(listed) > MAX_NAMED else ""
    return ", ".join(listed[:MAX_NAMED]) + more


def _files(paths: Sequence[str]) -> list[tuple[Path, Path]]:
    """Each file once, with the folder that a link must not leave; sorted within a folder."""
    found: dict[str, tuple[Path, Path]] = {}
    for name in paths:
        if name == "-":
            continue
        exact = Path(name).exists()
        matches = [name] if exact else sorted(glob.glob(name, recursive=True))
        for path in map(Path, matches):
            folder = path if path.is_dir() else path.parent if exact else _fixed_part(name)
            for file in _folder(path) if path.is_dir() else [path]:
                found.setdefault(os.path.realpath(file), (file, folder))
    return list(found.values())


def _fixed_part(pattern: str) -> Path:
    """The folder above the first part of a pattern that has wildcards."""
    parts = Path(pattern).parts
    wild = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:wild])


def _folder(folder: Path) -> list[Path]:
    named = [path for path in sorted(folder.rglob("*")) if _may_be_paper(path, folder)]
    readable = [path for path in named if _problem(path, folder) is None and not _is_long(path)]
    papers = set(papers_among(readable, _beginning)) | (set(named) - set(readable))
    found = [path for path in named if path in papers]
    if not found:
        raise UserError(f"The folder {folder} contains no papers ({', '.join(SUFFIXES)}).")
    return found


def _may_be_paper(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    known = _by_suffix(path) is not None and path.stem.lower() not in COMPANION_STEMS
    return known and not hidden and not path.is_dir()


def _is_long(path: Path) -> bool:
    """Is it a TeX file above the limit? Reading says so; it is not searched."""
    return _by_suffix(path) is Format.TEX and path.stat().st_size > MAX_TEXT_BYTES


def _beginning(path: Path, n_bytes: int) -> bytes:
    """The first bytes of a regular file; of anything else none. Raises OSError."""
    with open(path, "rb", opener=_without_waiting) as file:
        return file.read(n_bytes) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _problem(path: Path, folder: Path) -> PaperUnreadable | None:
    """Why the path must not be read as a file of the folder."""
    try:
        require_file_within(path, folder)
    except PaperUnreadable as problem:
        return problem
    return None


def _by_suffix(path: Path) -> Format | None:
    name = path.name.lower()
    return next((form for suffix, form in SUFFIXES.items() if name.endswith(suffix)), None)


def _stem(path: Path) -> str:
    name = path.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return path.stem


def _format(path: Path) -> Format:
    try:
        if b"%PDF-" in _beginning(path, HEADER_BYTES):
            return Format.PDF
    except OSError:
        pass  # reading reports the error
    form = _by_suffix(path)
    if form is None:
        raise UserError(
            f"{readable_name(str(path))} is not a PDF and has none of the suffixes "
            f"{', '.join(SUFFIXES)}."
        )
    return form


def _entries(path: Path, folder: Path, index: LineIndex) -> Iterator[tuple[Entry, str]]:
    """A file's entries, each with a hash of a line's content, or an empty string for files."""
    problem = _problem(path, folder)
    if problem is None and _format(path) is Format.JSON:
        yield from _lines(path, _stem(path), str(path), index)
    else:
        yield _entry(_stem(path), path, problem), ""


def _entry(
    name: str, path: Path, problem: PaperUnreadable | None, title: str | None = None
) -> Entry:
    """The entry of a file with one paper."""
    name, source = readable_name(name), readable_name(str(path))
    if problem is None:
        return Entry(name, source, path, _format(path), title=title)
    form = _by_suffix(path) or Format.TEXT
    return Entry(name, source, path, form, problem=str(problem), problem_kind=problem.kind)


def _lines(path: Path, stem: str, source: str, index: LineIndex) -> Iterator[tuple[Entry, str]]:
    number = 0
    stem, source = readable_name(stem), readable_name(source)
    with closing(index.lines(path)) as lines:
        try:
            for count, line in enumerate(lines):
                if count == MAX_LINES:
                    raise PaperUnreadable(f"The file has more than {MAX_LINES:,} lines.")
                number = line.number
                name = readable_name(line.name or f"{stem}:{number}")
                position = (line.offset, line.length)
                yield Entry(name, f"{source}:{number}", path, Format.JSON, *position), line.sha256
        except PaperUnreadable as error:
            name, where = f"{stem}:{number + 1}", f"{source}:{number + 1}"
            yield Entry(name, where, path, Format.JSON, problem=str(error)), ""
            return
    if number == 0:
        raise UserError(f"{source} contains no lines.")


def _standard_input(stdin: TextIO, index: LineIndex) -> Iterator[tuple[Entry, str]]:
    """Standard input, stored in a file until the process ends: it may not fit into memory."""
    with tempfile.NamedTemporaryFile(prefix="referee-stdin-", delete=False) as file:
        path = Path(file.name)
        atexit.register(path.unlink, missing_ok=True)
        raw = getattr(stdin, "buffer", None)
        while chunk := raw.read(2**20) if raw is not None else stdin.read(2**20).encode():
            if file.tell() > MAX_STDIN_BYTES:
                raise UserError("Standard input is larger than 16 GiB: submit it in parts.")
            file.write(chunk)
    head = _beginning(path, HEADER_BYTES)
    if b"%PDF-" in head:
        yield Entry("stdin", "standard input", path, Format.PDF), ""
    elif head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{"):
        yield from _lines(path, "stdin", "standard input", index)
    else:
        yield Entry("stdin", "standard input", path, Format.TEXT), ""


def _manifest(manifest: Path) -> list[tuple[Entry, str]]:
    rows = _rows(manifest)
    names = [name for name, _, _ in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{manifest} names {_listed_names(twice)} more than once.")
    missing = [path for _, path, _ in rows if not path.exists()]
    if missing:
        raise UserError(f"{manifest} names files that do not exist: {_listed_names(missing)}.")
    return [(_named_entry(*row), "") for row in rows]


def _named_entry(name: str, path: Path, title: str) -> Entry:
    entry = _entry(name, path, _problem(path, path.parent), title or None)
    if entry.format is Format.JSON:
        raise UserError(
            f"A manifest must name files of one paper each, but {path} contains several."
        )
    return entry


def _rows(manifest: Path) -> list[tuple[str, Path, str]]:
    try:
        with manifest.open("rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
        if len(data) > MAX_MANIFEST_BYTES:
            raise UserError(f"The manifest {manifest} is larger than 256 MiB.")
        table = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The manifest {manifest} cannot be read: {error}.") from error
    if not table or not {"custom_id", "path"} <= set(table[0]):
        raise UserError(f"{manifest} needs the columns custom_id and path, and a row.")
    rows: list[tuple[str, Path, str]] = []
    for number, row in enumerate(table, start=2):
        name, path = (row["custom_id"] or "").strip(), (row["path"] or "").strip()
        if not name or not path:
            raise UserError(f"{manifest}:{number} lacks a custom_id or a path.")
        rows.append((name, manifest.parent / path, (row.get("title") or "").strip()))
    return rows


def _unique(entries: Iterable[tuple[Entry, str]]) -> list[Entry]:
    """One entry a custom_id; equal lines count once, other duplicates raise UserError."""
    found: dict[str, tuple[Entry, str]] = {}
    files: list[str] = []
    lines: list[str] = []
    for entry, content in ((_bounded(entry), content) for entry, content in entries):
        first, first_content = found.setdefault(entry.custom_id, (entry, content))
        if first is entry or (content and content == first_content):
            continue
        both = f"{entry.custom_id} ({first.source} and {entry.source})"
        (lines if content and first_content else files).append(both)
    if files:
        raise UserError(
            f"Two papers would have the same name: {_listed_names(files)}; "
            "rename one or give a --manifest."
        )
    if lines:
        raise UserError(f"The same custom_id has different content: {_listed_names(lines)}.")
    return [entry for entry, _ in found.values()]


def _bounded(entry: Entry) -> Entry:
    """The entry, or one that cannot be read in place of one whose custom_id is too long."""
    name = entry.custom_id.encode("utf-8", "surrogatepass")
    if len(name) <= MAX_CUSTOM_ID_BYTES:
        return entry
    return replace(
        entry,
        custom_id=f"{entry.custom_id[:SHOWN_CHARACTERS]}...{hashlib.sha256(name).hexdigest()}",
        problem=f"The custom_id has {len(name)} bytes; the limit is {MAX_CUSTOM_ID_BYTES}.",
        problem_kind="long_custom_id",
    )
