"""A review is shown under the headings of its own aspect set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from commands.review_text import review_text
from db.comparison_records import read_comparison
from db.comparisons import Comparison, Side, add_papers, candidates, open_comparison
from db.completion import NewItem
from db.imports import FrozenReview, import_reviews
from db.matches import MatchedPaper, store_matched
from db.reviewers import ReviewerVersion
from db.reviews import reviews_of
from db.session import Database
from judge.comparing import extract_points
from judge.judging import read_review_pair
from judge.point_extraction import ParsedPoints
from judge.report.figures import figures
from judge.report.paper_texts import read_texts
from judge.report.text_formats import markdown
from models.text.aspects import FOUR, SEVEN
from tests.integration.db.content import content
from tests.integration.judge.rivals import reviewer

OF_SEVEN, OF_FOUR = SEVEN.headings["suggestions"], FOUR.headings["suggestions"]
RAW = "The paper lacks an ablation study of the proposed loss function, and error bars."


def suggest(database: Database, by: ReviewerVersion) -> None:
    """Store a review of one paper that holds one suggestion."""
    review = FrozenReview(
        external_id="p0#0",
        paper=content("p0"),
        raw="raw",
        items=(NewItem("suggestions", 0, "Ablation", "Add an ablation of the loss."),),
        empty_aspects=("rejection",),
    )
    import_reviews(database, by, [review])


@pytest.fixture
def comparison(database: Database) -> Comparison:
    """A reviewer of 7 aspects against one of 4, and against a human review without aspects."""
    seven, four = reviewer(database, "seven"), reviewer(database, "four", aspects="4")
    people = reviewer(database, "people", "human")
    suggest(database, seven)
    suggest(database, four)
    human = FrozenReview(external_id="h", paper=content("p0"), raw=RAW)
    import_reviews(database, people, [human])
    found = candidates(database, Side(seven), Side(four), people)
    made = open_comparison(database, seven, four, people, {"extractor": "parsed"})
    add_papers(database, made, found)
    ids = {r for p in found for r in (p.a_review, p.b_review, *p.reference_reviews)}
    extract_points(database, ParsedPoints(), ids)
    store_matched(database, made.id, [MatchedPaper(p.paper_id, (), (), ()) for p in found])
    return made


def test_a_judge_reads_each_review_under_its_own_headings(
    database: Database, comparison: Comparison
) -> None:
    (paper,) = read_comparison(database, comparison.id).papers

    pair = read_review_pair(database, comparison, paper.id, equal=False)

    line = "- Ablation: Add an ablation of the loss."
    assert (pair.a, pair.b) == (f"[{OF_SEVEN}]\n{line}", f"[{OF_FOUR}]\n{line}")


def test_a_page_shows_each_review_under_its_own_headings(
    database: Database, comparison: Comparison
) -> None:
    record = read_comparison(database, comparison.id)

    texts = read_texts(database, record, record.papers[0])

    shown = [[section.heading for section in side.sections] for side in (texts.a, texts.b)]
    assert shown == [
        [SEVEN.headings["rejection"], OF_SEVEN],
        [FOUR.headings["rejection"], OF_FOUR],
    ]


def test_tables_of_mixed_sets_name_every_aspect_once(
    database: Database, comparison: Comparison
) -> None:
    found = figures(read_comparison(database, comparison.id))

    assert found.aspect_keys == ("rejection", "suggestions")
    assert list(found.aspect_labels) == [*SEVEN.keys, "significance"]
    assert "| Reasons for rejection | Suggestions |" in markdown([found], {})
    # Aspects of sets that are gone are named by their keys
    lost = replace(found, record=replace(found.record, aspect_sets=("gone", None, None)))
    assert "| suggestions | rejection |" in markdown([lost], {})


def test_a_review_is_printed_under_the_headings_of_its_set(
    database: Database, comparison: Comparison
) -> None:
    with database.read() as on:
        views = reviews_of(on, (1, 2, 3))
    assert [view.aspects for view in views.values()] == ["7", "4", "7"]

    for view, heading in zip(views.values(), (OF_SEVEN, OF_FOUR), strict=False):
        text = review_text("c", view.items, view.empty_aspects, "", aspects=view.aspects)
        assert f"[{heading}]\n  * Ablation. Add an ablation" in text
    # A set that is gone leaves its keys, and a review without aspects has no headings
    gone = review_text("c", views[1].items, ("rejection",), "", aspects="gone")
    assert gone.split("\n\n")[1:] == [
        "[rejection]\n  <No related terms> -",
        "[suggestions]\n  * Ablation. Add an ablation of the loss.\n",
    ]
    assert "[" not in review_text("c", (), (), "An ablation is missing.", aspects="7")
