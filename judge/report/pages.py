"""The report as HTML pages and SVG charts.

Titles and reviews are untrusted text: templates escape by default, a Content-Security-Policy
forbids scripts and requests, and control characters are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from db.comparison_records import PaperRecord, PointMatchRecord
from judge.overlap import METRICS
from judge.report import words
from judge.report.charts import NARROW, WIDE, Chart, ChartLayout, chart
from judge.report.figures import ComparisonFigures, MethodFigures, config_text
from judge.report.paper_texts import PaperTexts
from judge.win_rates import Decision
from resources import package_folder

_TEMPLATES = package_folder("judge.report") / "templates"
#: Characters that are not allowed in XML, and useless in HTML.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")


def index_page(
    comparisons: Sequence[ComparisonFigures], decided: Mapping[int, Decision], *, texts: bool
) -> str:
    """The report's first page, with links to the papers' pages if `texts`."""
    template = _environment().get_template("index.html")
    return template.render(
        comparisons=comparisons, decided=decided, metric_names=list(METRICS), texts=texts
    )


def paper_page(comparison: ComparisonFigures, paper: PaperRecord, texts: PaperTexts) -> str:
    """One paper's reviews side by side."""
    settled = comparison.outcomes.get(paper.id, {})
    outcomes = {m.method: settled[m.method] for m in comparison.methods if m.method in settled}
    template = _environment().get_template("paper.html")
    return template.render(
        record=comparison.record,
        paper=paper,
        texts=texts,
        outcomes=outcomes,
        links=_links(texts),
    )


def chart_file(comparison: ComparisonFigures, method: MethodFigures) -> str:
    """One method's chart as a separate SVG file, light or dark by the viewer's preference."""
    module = _environment().get_template("drawing.svg").module
    record = comparison.record
    title = (
        f"{record.a.label} (left) against {record.b.label} (right): "
        f"{words.method_name(method.method)}"
    )
    palette = _own_text("style.css").partition("* {")[0] + _own_text("drawing.css")
    drawing: Any = module.drawing  # type: ignore[attr-defined]  # a macro: jinja2 makes it an attribute
    markup = drawing(bars(method, comparison, WIDE), title, "file", Markup(palette))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{markup}\n'


def bars(method: MethodFigures, comparison: ComparisonFigures, layout: ChartLayout) -> Chart:
    """Lay out a method's aspects, and the total below them."""
    rows = [(words.aspect_name(key, comparison), each) for key, each in method.aspects.items()]
    return chart([*rows, ("Whole review", method.total)], layout)


def page_path(paper: PaperRecord, comparison: ComparisonFigures) -> str:
    """The path of a paper's page, relative to the report's folder."""
    return f"comparison-{comparison.record.id}/paper-{paper.id}.html"


def aspect_keys(comparison: ComparisonFigures) -> list[str]:
    """All aspects of any side, in the order of the aspect sets."""
    return list(comparison.aspect_keys)


def compared(comparison: ComparisonFigures) -> list[PaperRecord]:
    """The papers that the figures are computed from, by title."""
    papers = [p for p in comparison.record.papers if p.excluded is None and p.matched]
    return sorted(papers, key=lambda paper: (paper.title.lower(), paper.id))


def _links(texts: PaperTexts) -> dict[int, list[tuple[str, PointMatchRecord]]]:
    """For each matched point, the anchors of its partners on the page."""
    found: dict[int, list[tuple[str, PointMatchRecord]]] = {}
    for row in texts.rows:
        for side, pairs in (("a", row.a), ("b", row.b)):
            for point, match in pairs:
                found.setdefault(row.reference.id, []).append((f"{side}{point.number}", match))
                found.setdefault(point.id, []).append((f"h{row.reference.number}", match))
    return found


_FILTERS: tuple[Callable[..., object], ...] = (
    *(words.number, words.percent, words.interval, words.bounds, words.p_value),
    *(words.aspect_name, words.metric_name, words.method_name, words.role_name),
    *(words.exclusion, words.verdict, words.disagreement, words.lowered, words.bracket),
    *(page_path, aspect_keys, compared, config_text),
)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {filter.__name__: filter for filter in _FILTERS}
    environment.filters["wide"] = lambda method, comparison: bars(method, comparison, WIDE)
    environment.filters["narrow"] = lambda method, comparison: bars(method, comparison, NARROW)
    environment.globals["style"] = Markup(_own_text("style.css") + _own_text("drawing.css"))
    return environment


def _own_text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _printable(value: object) -> object:
    if isinstance(value, Markup):
        return value
    return _CONTROLS.sub("\ufffd", value) if isinstance(value, str) else value
