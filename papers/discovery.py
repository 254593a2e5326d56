"""Find the papers that a user names by files, folders, patterns, `-` or a manifest.

Papers are not read here; of JSONL files only the lines' names.
"""

from __future__ import annotations

import atexit
import csv
import glob
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from errors import PaperUnreadable, UserError
from papers.entry import MAX_CUSTOM_ID_BYTES, Entry, Format
from papers.jsonl import custom_id, parse_line
from papers.line_files import scan

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


def discover(
    paths: Sequence[str], manifest: Path | None = None, stdin: TextIO | None = None
) -> list[Entry]:
    """All named papers, each once, in order. Raises UserError, naming the files at fault."""
    missing = [path for path in paths if not _exists(path)]
    if missing:
        raise UserError(f"There is no file or folder {_listed_names(missing)}.")
    entries: list[tuple[Entry, str]] = []
    for path in _files(paths):
        entries += _entries(path, None, None)
    if "-" in paths and stdin is not None:
        entries += _standard_input(stdin)
    if manifest is not None:
        entries += _manifest(manifest)
    found = _unique(entries)
    if not found:
        raise UserError("No paper was named: give files, folders, patterns or a manifest.")
    return found


def _exists(path: str) -> bool:
    return path == "-" or Path(path).exists() or any(glob.iglob(path, recursive=True))


def _listed_names(names: Iterable[object]) -> str:
    listed = [str(name) for name in names]
    more = f" and {len(listed) - MAX_NAMED} more" if len(listed) > MAX_NAMED else ""
    return ", ".join(listed[:MAX_NAMED]) + more


def _files(paths: Sequence[str]) -> list[Path]:
    """Each file once, in the order of the arguments and sorted within a folder."""
    found: dict[Path, Path] = {}
    for name in paths:
        if name == "-":
            continue
        matches = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))
        for path in map(Path, matches):
            for file in _folder(path) if path.is_dir() else [path]:
                found.setdefault(file.resolve(), file)
    return list(found.values())


def _folder(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if _is_paper(path, folder)]
    if not found:
        raise UserError(f"The folder {folder} contains no papers ({', '.join(SUFFIXES)}).")
    return found


def _is_paper(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    form = _by_suffix(path)
    if hidden or form is None or not path.is_file() or path.stem.lower() in COMPANION_STEMS:
        return False
    # A TeX paper is often many files, one of which is the document.
    return form is not Format.TEX or b"\\documentclass" in path.read_bytes()


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
        with path.open("rb") as file:
            if b"%PDF-" in file.read(HEADER_BYTES):
                return Format.PDF
    except OSError:
        pass  # reading reports the error
    form = _by_suffix(path)
    if form is None:
        raise UserError(f"{path} is not a PDF and has none of the suffixes {', '.join(SUFFIXES)}.")
    return form


def _entries(path: Path, name: str | None, title: str | None) -> Iterator[tuple[Entry, str]]:
    """A file's entries, each with a hash of a line's content, or an empty string for files."""
    form = _format(path)
    if form is not Format.JSON:
        yield Entry(name or _stem(path), str(path), path, form, title=title), ""
    elif name is not None:
        raise UserError(
            f"A manifest must name files of one paper each, but {path} contains several."
        )
    else:
        yield from _lines(path, _stem(path), str(path))


def _lines(path: Path, stem: str, source: str) -> Iterator[tuple[Entry, str]]:
    number = 0
    try:
        for number, offset, line in scan(path):
            where = f"{source}:{number}"
            name = _line_name(line) or f"{stem}:{number}"
            entry = Entry(name, where, path, Format.JSON, offset, len(line))
            yield entry, hashlib.sha256(line.strip()).hexdigest()
    except (PaperUnreadable, OSError) as error:
        name = f"{stem}:{number + 1}"
        yield Entry(name, f"{source}:{number + 1}", path, Format.JSON, problem=str(error)), ""
        return
    if number == 0:
        raise UserError(f"{source} contains no lines.")


def _line_name(line: bytes) -> str | None:
    try:
        return custom_id(parse_line(line))
    except PaperUnreadable:
        return None


def _standard_input(stdin: TextIO) -> Iterator[tuple[Entry, str]]:
    """Standard input, stored in a file until the process ends: it may not fit into memory."""
    with tempfile.NamedTemporaryFile(prefix="referee-stdin-", delete=False) as file:
        path = Path(file.name)
        atexit.register(path.unlink, missing_ok=True)
        raw = getattr(stdin, "buffer", None)
        while chunk := raw.read(2**20) if raw is not None else stdin.read(2**20).encode():
            file.write(chunk)
    with path.open("rb") as start:
        head = start.read(HEADER_BYTES)
    if b"%PDF-" in head:
        yield Entry("stdin", "standard input", path, Format.PDF), ""
    elif head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{"):
        yield from _lines(path, "stdin", "standard input")
    else:
        yield Entry("stdin", "standard input", path, Format.TEXT), ""


def _manifest(manifest: Path) -> list[tuple[Entry, str]]:
    rows = _rows(manifest)
    names = [name for name, _, _ in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{manifest} names {_listed_names(twice)} more than once.")
    missing = [path for _, path, _ in rows if not path.is_file()]
    if missing:
        raise UserError(f"{manifest} names files that do not exist: {_listed_names(missing)}.")
    return [pair for name, path, title in rows for pair in _entries(path, name, title or None)]


def _rows(manifest: Path) -> list[tuple[str, Path, str]]:
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            table = list(csv.DictReader(file))
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
