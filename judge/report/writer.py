"""Writing of a report's files into a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from db.comparison_records import read_comparison
from db.session import Database
from dispatch.progress import Progress
from errors import UserError
from judge.report import pages, text_formats
from judge.report.figures import ComparisonFigures, decisions, figures
from judge.report.paper_texts import read_texts


def write_report(
    database: Database,
    ids: Sequence[int],
    folder: Path,
    progress: Progress = lambda *_: None,
    *,
    texts: bool = True,
) -> list[ComparisonFigures]:
    """Write index.html, report.md, report.json, charts/ and one page per paper; return the figures.

    Without `texts` there are no pages of papers, and of a paper only its title is written. Raises
    UserError for an unknown comparison and for a folder that cannot be written.
    """
    comparisons = [figures(read_comparison(database, each)) for each in dict.fromkeys(ids)]
    decided = decisions(comparisons)
    try:
        _write(folder / "index.html", pages.index_page(comparisons, decided, texts=texts))
        _write(folder / "report.md", text_formats.markdown(comparisons, decided))
        document = text_formats.document(comparisons, decided)
        _write(folder / "report.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        _write_charts(comparisons, folder)
        if texts:
            _write_papers(database, comparisons, folder, progress)
    except OSError as error:
        raise UserError(f"The report cannot be written to {folder}: {error.strerror}.") from error
    return comparisons


def _write_charts(comparisons: Sequence[ComparisonFigures], folder: Path) -> None:
    for each in comparisons:
        for number, method in enumerate(each.methods, 1):
            name = f"comparison-{each.record.id}-{number}-{method.method.partition(':')[0]}.svg"
            _write(folder / "charts" / name, pages.chart_file(each, method))


def _write_papers(
    database: Database, comparisons: Sequence[ComparisonFigures], folder: Path, progress: Progress
) -> None:
    tasks = [(each, paper) for each in comparisons for paper in pages.compared(each)]
    for done, (each, paper) in enumerate(tasks, 1):
        texts = read_texts(database, each.record, paper)
        _write(folder / pages.page_path(paper, each), pages.paper_page(each, paper, texts))
        progress(done, len(tasks))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="replace")
