"""Reports of comparisons that lie in a real database."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sqlalchemy import update

from db.schema_judging import Verdict
from db.session import Database
from errors import UserError
from judge.report.figures import ComparisonFigures, OverlapFigures, decisions
from judge.report.writer import write_report
from judge.statistics import Estimate
from tests.comparisons import JUDGE, Texts, store_comparison

HOSTILE = Texts(
    "</title></style><script>document.title='owned'</script>\"'><b onmouseover=alert(1)>",
    "<img src=http://evil.example/x onerror=alert(1)>{{ 7*7 }}\u202e\x1b|`",
)
#: For tests about pages, which do not depend on the database.
ONE_DATABASE = pytest.mark.parametrize("dialect", ["sqlite"])
#: Elements that fetch, run or embed something.
ACTIVE = {"script", "img", "iframe", "object", "embed", "form", "base", "video", "audio", "source"}


class _Page(HTMLParser):
    """What a browser would find: elements with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def made(database: Database, folder: Path, *ids: int) -> list[ComparisonFigures]:
    return write_report(database, ids, folder)


def pages(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.rglob("*.html"))]


def test_report_figures_equal_the_databases(database: Database, tmp_path: Path) -> None:
    # Given a judged comparison of six papers, a seventh being left out
    comparison = store_comparison(database)
    # When it is reported
    (figures,) = made(database, tmp_path, comparison)
    # Then every way of judging counts each paper once
    assert [m.method for m in figures.methods] == ["match_equal", "match", JUDGE]
    for method in figures.methods:
        total = method.total
        assert total.win + total.tie + total.lose + total.invalid == 6
        assert len(method.aspects) == 7
    with database.read() as on:
        rows = on.exec_driver_sql(
            "SELECT method, win, tie, lose, inconsistent FROM pk_summary WHERE aspect IS NULL"
        ).all()
    assert {(m.method, m.total.win, m.total.tie, m.total.lose) for m in figures.methods} == {
        tuple(row[:4]) for row in rows
    }
    # And the same figures stand in all three formats
    document = json.loads((tmp_path / "report.json").read_text())["comparisons"][0]
    score = document["methods"][0]["total"]["score"]["value"]
    assert score == figures.methods[0].total.score.value
    assert f"{100 * score:.1f} %" in (tmp_path / "report.md").read_text()
    assert f"{100 * score:.1f}\N{NO-BREAK SPACE}%" in (tmp_path / "index.html").read_text()
    assert document["excluded"] == {"trained_title": 1}
    assert document["split_uses"] == {"dev": 1}
    # And each paper has its page, the one left out has none
    assert len(list((tmp_path / f"comparison-{comparison}").iterdir())) == 6


@ONE_DATABASE
def test_a_report_without_texts_has_the_figures_and_no_sentence(
    database: Database, tmp_path: Path
) -> None:
    # Given a comparison, and every text of its reviews and papers
    comparison = store_comparison(database, 3)
    with database.read() as on:
        queries = ("SELECT raw FROM review", "SELECT text FROM point", "SELECT body FROM paper")
        texts = {row[0].strip() for q in queries for row in on.exec_driver_sql(q)}
    assert len(texts) > 10
    # When it is reported without texts
    out = tmp_path / "out"
    (figures,) = write_report(database, [comparison], out, texts=False)
    # Then its figures stand there, its papers by title, and none of those texts in any file
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".html", ".md", ".json", ".svg"}
    assert [path.name for path in files if path.suffix == ".html"] == ["index.html"]
    for path in files:
        written = path.read_text()
        assert not [text for text in texts if text in unescape(written)], path
    page = (out / "index.html").read_text()
    assert "On sparse attention, part 1" in page
    assert "made without texts" in page
    assert "paper-" not in page
    assert figures.headline is not None


@ONE_DATABASE
def test_hostile_titles_and_reviews_stay_text(database: Database, tmp_path: Path) -> None:
    # Given papers and reviews that try to break out of every place they stand in
    made(database, tmp_path, store_comparison(database, 2, texts=HOSTILE))
    for text in pages(tmp_path):
        page = _Page(text)
        # Then nothing of them became markup, and no template ran
        assert not ACTIVE & {tag for tag, _ in page.elements}
        assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
        assert [tag for tag, _ in page.elements].count("title") == 1 + _charts(page)
        assert "49" not in page.text
        assert "\x1b" not in text
        # And it can be read as it was written
        assert "<script>document.title='owned'</script>" in page.text
    markdown = (tmp_path / "report.md").read_text()
    assert not re.search(r"(?<!\\)<", markdown)


def _charts(page: _Page) -> int:
    """Titles inside charts: one a drawing and one a bar."""
    tags = [tag for tag, _ in page.elements]
    return tags.count("svg") + tags.count("g")


@ONE_DATABASE
def test_pages_load_nothing_external_and_work_by_keyboard(
    database: Database, tmp_path: Path
) -> None:
    made(
        database,
        tmp_path,
        store_comparison(database, 2),
        store_comparison(database, 2, seed=2, names=("x", "y")),
    )
    for path in tmp_path.rglob("*.html"):
        text = path.read_text()
        page = _Page(text)
        # No address leads out of the report, in markup or in style
        targets = [a[n] or "" for _, a in page.elements for n in ("href", "src") if n in a]
        for target in targets:
            file, _, anchor = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            assert target == "data:," or there.is_file(), target
            assert not anchor or f'id="{anchor}"' in there.read_text(), target
        assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
        # The first stop is the way past the head; what scrolls can be scrolled by keys
        assert next(a for tag, a in page.elements if tag == "a")["href"] == "#main"
        scrolling = [a for _, a in page.elements if a.get("class") == "scroll"]
        assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)
    for path in tmp_path.rglob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


@ONE_DATABASE
def test_opposite_verdicts_are_ties_and_unreadable_ones_are_left_out(
    database: Database, tmp_path: Path
) -> None:
    # Given a judge that says a, whatever it sees, but for one answer that could not be read
    comparison = store_comparison(database, 4)
    with database.write() as on:
        judged = update(Verdict).where(Verdict.method == JUDGE)
        on.execute(judged.where(Verdict.shown_first == "a").values(outcome="win"))
        on.execute(judged.where(Verdict.shown_first == "b").values(outcome="lose"))
        on.execute(judged.where(Verdict.paper_id == 1).values(outcome="invalid"))
    (figures,) = made(database, tmp_path, comparison)
    judge = figures.methods[-1]
    assert (judge.total.n, judge.total.tie, judge.total.inconsistent) == (3, 3, 3)
    assert judge.total.invalid == 1
    # Then its habit shows
    assert judge.position is not None
    assert judge.position.consistent.value == 0
    assert judge.position.first_preferred.value == 1


@ONE_DATABASE
def test_headline_contradicted_by_raw_hits_is_marked(database: Database, tmp_path: Path) -> None:
    comparison = store_comparison(database, 5)
    with database.write() as on:
        on.execute(update(Verdict).where(Verdict.method == "match").values(outcome="win"))
        on.execute(update(Verdict).where(Verdict.method == "match_equal").values(outcome="lose"))
    (figures,) = made(database, tmp_path, comparison)
    assert decisions([figures])[comparison].direction == "worse"
    assert "match" in figures.disagreements
    assert "Not all methods agree" in (tmp_path / "index.html").read_text()
    assert "Not all methods agree" in (tmp_path / "report.md").read_text()


@ONE_DATABASE
def test_a_row_is_called_better_by_its_p_among_all_rows(database: Database, tmp_path: Path) -> None:
    # Given a comparison of which a wins all six papers, and three of which nobody wins any
    ids = [store_comparison(database, 6, names=(f"new-{i}", f"old-{i}")) for i in range(4)]
    with database.write() as on:
        on.execute(update(Verdict).values(outcome="tie"))
        on.execute(update(Verdict).where(Verdict.comparison_id == ids[0]).values(outcome="win"))
    # When it is reported alone, then it is better, in every format
    written = tmp_path / "alone"
    (alone,) = made(database, written, ids[0])
    assert alone.headline is not None
    assert alone.headline.total.score.low > 0.5
    (told,) = json.loads((written / "report.json").read_text())["comparisons"]
    assert (told["direction"], told["p_holm"]) == ("better", pytest.approx(1 / 64))
    assert "new-0 v1 is better than old-0 v1" in (written / "report.md").read_text()
    assert "papers; p = 0.016." in (written / "report.md").read_text()
    assert '<div class="score a">' in (written / "index.html").read_text()
    # When it is reported with the others, then its interval is the same and its word is not
    written = tmp_path / "together"
    together = made(database, written, *ids)
    assert together[0].headline is not None
    assert together[0].headline.total.score == alone.headline.total.score
    found = json.loads((written / "report.json").read_text())["comparisons"]
    assert [each["direction"] for each in found] == ["undecided"] * 4
    assert found[0]["p_holm"] == pytest.approx(4 / 64)
    page = (written / "index.html").read_text()
    for text in (page, (written / "report.md").read_text()):
        assert "new-0 v1 against old-0 v1 is undecided" in text
        assert "p = 0.062 after Holm's adjustment over 4 comparisons" in unescape(text)
        assert "is better than" not in text
    assert re.findall(r"<td>(better|worse|undecided)</td>", page) == ["undecided"] * 4
    assert '<div class="score a">' not in page


@ONE_DATABASE
def test_unknown_comparison_error_lists_the_existing_ones(
    database: Database, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="There is no comparison yet"):
        made(database, tmp_path, 1)
    store_comparison(database, 1)
    with pytest.raises(UserError, match=r"no comparison 7\. There are 1: tuned-7 v1 against plain"):
        made(database, tmp_path, 7)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        made(database, tmp_path / "taken", 1)


@ONE_DATABASE
def test_each_reviewer_is_compared_with_its_own_chance_level(
    database: Database, tmp_path: Path
) -> None:
    # Given a rival whose reviews fit any paper, and one that hits less than those do by chance
    (figures,) = made(database, tmp_path, store_comparison(database, 2))

    def with_recall(**recall: float) -> ComparisonFigures:
        found = (
            OverlapFigures(role, "full", 9.0, {"recall": Estimate(value, 0, 1, 2)}, {}, None)
            for role, value in recall.items()
        )
        return replace(figures, overlaps=tuple(found))

    levels = {"a": 0.3, "b": 0.05, "null_a": 0.2, "null_b": 0.01, "ceiling": 0.4}
    # Then both are in their place, unless one does not pass its own chance or passes people
    assert with_recall(**levels).bracketed is True
    assert with_recall(**levels | {"null_b": 0.06}).bracketed is False
    assert with_recall(**levels | {"a": 0.5}).bracketed is False
    assert with_recall(a=0.3, b=0.05).bracketed is None
