"""Tell the papers in a folder from the other files of a TeX project.

A project is a paper of many files: parts, figures, style files, a letter to the editor.
docs/papers.md states the rules. Files are searched for their classes and for the names that they
insert.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Bytes of a TeX file that are searched for its class and for names.
MAX_LOOKED_BYTES = 2 * 2**20
#: Suffixes of files that only a project has.
SUPPORT_SUFFIXES = frozenset({".sty", ".cls", ".bst", ".bib", ".bbl", ".clo", ".aux"})
#: Stems of files that accompany a paper of a project.
_COMPANION = re.compile(
    r"(?:.*[_\W])?(?:response|rebuttal|reply|cover[-_ ]?letter|letter|highlights?|diff|poster|slides"  # noqa: E501
    r"|changes|answers?|checklist|suppl?|supplement(?:ary)?(?:[-_ ]?materials?)?)(?:[_\W].*|\d*)",
    re.I,
)

_CLASS = re.compile(
    rb"^[^%\n]*\\document(?:class|style)\s*(?:\[[^\]]*\]\s*)?\{\s*([\w./-]{1,80})", re.M
)
_NO_PAPER = frozenset(
    [
        "standalone",
        "letter",
        "beamer",
        "scrlttr2",
        "lettre",
        "newlfm",
        "subfiles",
        "a0poster",
        "beamerposter",
        "tikzposter",
        "moderncv",
        "dinbrief",
        "brief",
        "slides",
        "powerdot",
        "baposter",
    ]
)
_INSERTS = re.compile(
    rb"\\(?:input|include|subfile|includestandalone|import|subimport|includegraphics|includepdf"
    rb"|includesvg|verbatiminput|lstinputlisting)\*?\s*(?:\[[^\[\]]{0,500}\]\s*)?(?:\{[^{}\n]{0,200}/\}\s*)?"
    rb"\{([^{}\n]{1,300})\}"
)


#: Folders of a project that hold its figures.
_FIGURE_FOLDER = re.compile(
    r"(?:fig|figs|figures?|images?|imgs?|graphics?|pics?|pictures?|plots?|diagrams?|tikz|assets|media"
    r"|tables?|logos?|icons?)(?:[-_ ]?\w{0,20})?",
    re.I,
)


@dataclass(frozen=True)
class _Project:
    """A folder with the papers in it, and the stems that its sources insert.

    `is_whole`: one paper beside its style files or bibliography, so that all below belongs to it.
    """

    folder: Path
    papers: frozenset[Path]
    inserted: frozenset[str]
    is_whole: bool


def document_class(data: bytes) -> str | None:
    """The class of a TeX document; None for a part of one."""
    found = _CLASS.search(data.replace(b"\0", b""))  # also in UTF-16
    return found[1].decode("ascii", "replace").lower() if found else None


def why_no_paper(data: bytes) -> str | None:
    """What a TeX document is by its class, if it is no paper."""
    name = document_class(data)
    return name if name in _NO_PAPER else None


def papers_among(files: Sequence[Path], beginning: Callable[[Path, int], bytes]) -> list[Path]:
    """The files without those that belong to the TeX papers among them.

    `beginning` returns the first bytes of a file.
    """
    sources = {
        path: beginning(path, MAX_LOOKED_BYTES) for path in files if path.suffix.lower() == ".tex"
    }
    papers = {
        path
        for path, data in sources.items()
        if document_class(data) is not None and why_no_paper(data) is None
    }
    folders = sorted({path.parent for path in papers})
    projects = [_project(folder, papers, sources) for folder in folders]
    return [
        path
        for path in files
        if (path not in sources or path in papers) and not _belongs(path, projects)
    ]


def _project(folder: Path, papers: set[Path], sources: dict[Path, bytes]) -> _Project:
    within = [data for path, data in sources.items() if path.is_relative_to(folder)]
    inserted = frozenset(name for data in within for name in _inserted(data))
    here = {path for path in papers if path.parent == folder}
    mains = {path for path in here if path.stem.lower() not in inserted} or here
    mains = {path for path in mains if not _COMPANION.fullmatch(path.stem)} or mains
    supported = any(Path(name).suffix.lower() in SUPPORT_SUFFIXES for name in _names(folder))
    return _Project(folder, frozenset(mains), inserted, supported and len(mains) == 1)


def _names(folder: Path) -> Iterable[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return ()


def _inserted(data: bytes) -> Iterable[str]:
    """The stems of the files that a source inserts, in lower case."""
    for found in _INSERTS.finditer(data):
        for name in found[1].decode("utf-8", "replace").split(","):
            stem = name.strip().strip('"').rpartition("/")[2]
            yield re.sub(r"\.(?:tex|pdf|png|jpe?g|eps|svg|tikz|pgf|txt|md)$", "", stem.lower())


def _belongs(path: Path, projects: Sequence[_Project]) -> bool:
    """Does the file belong to a paper, without being one?"""
    above = [project for project in projects if path.is_relative_to(project.folder)]
    if any(project.is_whole and path.parent != project.folder for project in above):
        return True
    if not above:
        return False
    project = above[-1]
    if path in project.papers:
        return False
    if path.suffix.lower() == ".tex":
        return True
    stems = project.inserted | {paper.stem.lower() for paper in project.papers}
    folders = path.parent.relative_to(project.folder).parts
    return (
        path.stem.lower() in stems
        or _COMPANION.fullmatch(path.stem) is not None
        or any(_FIGURE_FOLDER.fullmatch(name) for name in folders)
    )
