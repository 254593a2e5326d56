"""The report as Markdown and as one JSON document."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from judge.overlap import METRICS
from judge.report import words
from judge.report.figures import ComparisonFigures, MethodFigures
from judge.win_rates import Decision


def document(
    comparisons: Sequence[ComparisonFigures], decided: Mapping[int, Decision]
) -> dict[str, Any]:
    """All figures as JSON values; NaN is null. Shares are from 0 to 1."""
    found = [_comparison(each, decided.get(each.record.id)) for each in comparisons]
    return {"comparisons": _plain(found)}


def markdown(comparisons: Sequence[ComparisonFigures], decided: Mapping[int, Decision]) -> str:
    """The report as Markdown tables."""
    parts = ["# PK report"]
    for each in comparisons:
        record = each.record
        parts += [
            f"## {_cell(record.a.label)} against {_cell(record.b.label)}",
            _cell(words.verdict(each, decided.get(record.id))),
            *_notes(each),
            _methods_table(each),
            *(_aspects_table(each, method) for method in each.methods if method.aspects),
            _agreement_table(each),
            *_overlap_tables(each),
            _sizes_table(each),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _comparison(each: ComparisonFigures, decision: Decision | None) -> dict[str, Any]:
    record = each.record
    return {
        "comparison": record.id,
        "a": record.a,
        "b": record.b,
        "reference": record.reference,
        "config": record.config,
        "papers": each.n_papers,
        "unmatched": each.n_unmatched,
        "excluded": each.excluded,
        "split_uses": record.split_uses,
        "direction": decision.direction if decision else "undecided",
        "p_holm": decision.p_holm if decision else None,
        "disagreeing": each.disagreements,
        "bracketed": each.bracketed,
        "methods": each.methods,
        "overlaps": each.overlaps,
        "sizes": each.sizes,
        "outcomes": [
            {"paper": paper.id, "sha256": paper.sha256, "title": paper.title}
            | {method: settled.outcome for method, settled in each.outcomes[paper.id].items()}
            for paper in record.papers
            if paper.id in each.outcomes
        ],
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _notes(each: ComparisonFigures) -> Iterable[str]:
    facts = [f"{each.n_papers} papers, reference {_cell(each.record.reference.label)}"]
    facts += [f"{n} excluded: {words.exclusion(key)}" for key, n in each.excluded.items()]
    if each.n_unmatched:
        facts.append(f"{each.n_unmatched} not matched yet")
    if insisted := words.lowered(each):
        facts.append(insisted)
    facts += [f"split {_cell(s)} used {n} times" for s, n in each.record.split_uses.items()]
    yield "; ".join(facts) + "."
    yield from (_cell(note) for note in (words.disagreement(each), words.bracket(each)) if note)


def _methods_table(each: ComparisonFigures) -> str:
    head = ("Method", "Win", "Tie", "Lose", "Score", "95 %", "Won, ties excluded", "p", "Items a/b")
    rows = [
        (
            *(words.method_name(m.method), m.total.win, m.total.tie, m.total.lose),
            *(words.percent(m.total.score.value), words.interval(m.total.score)),
            *(words.percent(m.total.decisive.value), words.p_value(m.total.test.mid_p)),
            *(f"{words.number(m.a_items)} / {words.number(m.b_items)}",),
            *(f"{words.number(m.a_hits, 2)} / {words.number(m.b_hits, 2)}",),
            *(m.total.invalid, m.total.inconsistent),
            words.percent(m.position.consistent.value) if m.position else "–",
        )
        for m in each.methods
    ]
    return _table((*head, "Hits a/b", "Invalid", "Inconsistent", "Same in both orders"), rows)


def _aspects_table(each: ComparisonFigures, method: MethodFigures) -> str:
    rows = [
        (
            *(words.aspect_name(key, each), s.win, s.tie, s.lose),
            *(words.percent(s.score.value), words.interval(s.score)),
        )
        for key, s in method.aspects.items()
    ]
    title = f"### {_cell(words.method_name(method.method))}, by aspect"
    return f"{title}\n\n{_table(('Aspect', 'Win', 'Tie', 'Lose', 'Score', '95 %'), rows)}"


def _agreement_table(each: ComparisonFigures) -> str:
    rows = [
        (
            *(words.method_name(pair.one), words.method_name(pair.other)),
            *(words.number(pair.kappa.value, 2), words.bounds(pair.kappa)),
        )
        for pair in each.agreements
    ]
    head = ("Method", "Other method", "Cohen's kappa", "95 %")
    return f"### Agreement between methods\n\n{_table(head, rows)}" if rows else ""


def _overlap_tables(each: ComparisonFigures) -> Iterable[str]:
    for cut, title in (("equal", "equal item counts"), ("full", "all items")):
        rows = [
            (
                words.role_name(o.role, each),
                words.number(o.n_points),
                *(
                    f"{words.percent(o.metrics[name].value)} {words.interval(o.metrics[name])}"
                    for name in METRICS
                ),
            )
            for o in each.overlaps
            if o.cut == cut
        ]
        if rows:
            head = ("Review", "Points", *map(words.metric_name, METRICS))
            yield f"### Overlap with the human reviews, {title}\n\n{_table(head, rows)}"


def _sizes_table(each: ComparisonFigures) -> str:
    keys = each.aspect_keys
    rows = [
        (
            *(size.side, words.number(size.mean), words.number(size.variance)),
            *(_items(size.aspects.get(key)) for key in keys),
        )
        for size in each.sizes
    ]
    head = ("Reviews by", "Items", "Variance", *(words.aspect_name(key, each) for key in keys))
    return f"### Items and empty aspects\n\n{_table(head, rows)}" if rows else ""


def _items(counted: tuple[float, float] | None) -> str:
    if counted is None:
        return "–"
    return f"{words.number(counted[0], 2)} ({words.percent(counted[1])} empty)"


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    """One line of text, with Markdown escaped."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", re.sub(r"\s+", " ", str(value))).strip()
