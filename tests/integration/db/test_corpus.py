"""The corpus of training data, and jobs whose input is not their paper."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from db import batch_papers, batch_records, completion, corpus, reviewers
from db.batch_records import BatchOptions
from db.completion import NewItem
from db.corpus import NewFlag, NewOrigin
from db.imports import FrozenReview, import_reviews
from db.reviewers import ReviewerVersion
from db.session import Database
from tests.integration.db.content import a_review, a_reviewer, claim_one, content, paper, submit


def origin(name: str, text: str | None = None, licence: str | None = None) -> NewOrigin:
    return NewOrigin("spring", name, licence, content(text or name), venue="V", year=2024)


def human(database: Database) -> ReviewerVersion:
    return reviewers.register(
        database, name="human-spring", sha256="h", kind="human", queue="cpu", config={}
    )


def test_a_name_is_stored_once_keeps_its_licence_and_moves_with_its_text(
    database: Database,
) -> None:
    first = [origin("a", licence="CC BY 4.0"), origin("b")]

    assert corpus.store_origins(database, first) == 2
    assert corpus.store_origins(database, [origin("a"), origin("b", text="b revised")]) == 0

    found = {each.source_id: each for each in corpus.corpus_papers(database)}
    assert (found["a"].licence, found["b"].licence) == ("CC BY 4.0", "none stated")
    assert (found["a"].venue, found["b"].title) == ("V", "On b revised")
    assert corpus.source_names(database) == ["spring"]
    assert corpus.corpus_papers(database, ["autumn"]) == []
    assert dict(corpus.bodies(database, [found["b"].id])) == {found["b"].id: "b revised"}


def test_flags_are_replaced_as_a_whole_and_read_back(database: Database) -> None:
    corpus.store_origins(database, [origin("a")])
    row = FrozenReview("r1", content("a"), raw="Good.", fields={"kind": "review"})
    import_reviews(database, human(database), [row])
    (paper_id,) = (each.id for each in corpus.corpus_papers(database))
    (review,) = corpus.human_reviews(database, [paper_id])[paper_id]
    assert (review.external_id, review.text, review.fields["kind"]) == ("r1", "Good.", "review")

    old = NewFlag(paper_id, None, "short_paper", True, "12 characters")
    late = NewFlag(paper_id, review.id, "late_paragraph", False, "one stretch", ((0, 4),))
    corpus.replace_flags(database, [paper_id], [old])
    corpus.replace_flags(database, [paper_id], [late])

    assert corpus.flags_of(database, [paper_id]) == [late]
    assert corpus.flags_of(database, [paper_id + 1]) == []


def test_the_newest_merge_of_a_paper_counts(database: Database) -> None:
    merger = a_reviewer(database, "merger")
    for name, title in (("first", "Old"), ("second", "New")):
        items = (NewItem("idea", 0, title, "It is."), NewItem("idea", 1, "More", "And more."))
        import_reviews(database, merger, [FrozenReview(name, content("a"), raw=name, items=items)])

    (found,) = corpus.merged_reviews(database, merger.id)

    assert found.items == (("idea", "New", "It is."), ("idea", "More", "And more."))


def test_job_reads_its_own_input_and_the_input_is_listed_as_merged(database: Database) -> None:
    merger = a_reviewer(database, "merger")
    with_input = replace(paper("a"), input="=== Review 1 ===\nGood.")
    digest = hashlib.sha256(b"=== Review 1 ===\nGood.").hexdigest()

    batch = submit(database, "merge", with_input, paper("b"), reviewer=merger)
    again = batch_records.open_batch(database, "merge", merger, BatchOptions())
    assert batch_papers.add_papers(database, again, [with_input]).known == 1
    batch_records.finish_submit(database, batch)

    first, second = claim_one(database), claim_one(database)
    assert (first.text, second.text) == ("=== Review 1 ===\nGood.", "b")
    assert corpus.merged_inputs(database, merger.id) == set()
    assert completion.commit_review(database, first, a_review())
    assert corpus.merged_inputs(database, merger.id) == {digest}
