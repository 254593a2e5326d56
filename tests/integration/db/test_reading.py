"""Finding papers and exporting batches."""

from __future__ import annotations

import pytest

from db import completion, reviews
from db.reviews import export, find
from db.session import Database
from errors import UserError
from tests.integration.db.content import (
    a_review,
    claim_one,
    content,
    paper,
    review_all,
    submit,
    unreadable,
)


def test_a_paper_is_found_by_each_of_its_names(database: Database) -> None:
    submit(database, "b", paper("a", "quarks"))
    review_all(database)
    (found,) = find(database, "a")
    sha256 = content("quarks").sha256
    assert (found.sha256, found.title, found.n_chars) == (sha256, "On quarks", 6)
    assert found.sections == [{"heading": "Introduction", "n_chars": 6}]
    assert [(job.batch, job.custom_id, job.state) for job in found.jobs] == [
        ("b", "a", "succeeded")
    ]
    (review,) = found.reviews
    assert (review.reviewer, review.version, review.empty_aspects) == ("tiny-7", 1, ("other",))
    for name in (sha256, sha256[:6], str(found.id), str(review.id)):
        assert find(database, name) == [found]
    assert find(database, sha256[:5]) == []
    assert find(database, "nothing") == []


def test_one_id_in_two_batches_finds_both_papers(database: Database) -> None:
    submit(database, "one", paper("a", "x"))
    submit(database, "two", paper("a", "y"))
    assert [found.title for found in find(database, "a")] == ["On x", "On y"]


def test_an_export_has_a_line_for_every_submitted_id(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more jobs than a page holds, in every state
    monkeypatch.setattr(reviews, "PAGE", 3)
    papers = [paper(f"p{n}", f"text {n % 5}") for n in range(10)] + [unreadable("u"), paper("Z")]
    submit(database, "b", *papers, samples=2)
    completion.fail(database, claim_one(database), kind="k", sentence="s")
    completion.commit_review(database, claim_one(database), a_review())
    # When it is exported
    lines = list(export(database, "b"))
    # Then submitted ids and samples are the lines', in their order
    expected = sorted((one.custom_id, sample) for one in papers for sample in (0, 1))
    assert [(line.custom_id, line.sample) for line in lines] == expected
    assert all((line.review is not None) == (line.state == "succeeded") for line in lines)
    assert {line.paper_title for line in lines if line.custom_id == "u"} == {None}
    assert {line.text for line in lines} == {None}


def test_an_export_can_carry_the_papers_text(database: Database) -> None:
    submit(database, "b", paper("a", "quarks"), unreadable("u"))
    assert [line.text for line in export(database, "b", with_text=True)] == ["quarks", None]


def test_an_unknown_batch_is_named(database: Database) -> None:
    with pytest.raises(UserError, match="no batch 'x'"):
        list(export(database, "x"))
