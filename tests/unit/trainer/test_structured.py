"""Merging without a model: strict, deterministic, and only with the reviews' own words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.text.aspects import FOUR, SEVEN, SHIPPED
from models.text.parsing import is_strict, parse, render
from trainer.data.shortening import shorten
from trainer.data.source_records import PARTS
from trainer.data.structured_merge import merge

FORM = {
    "summary": "This paper proposes a new method for pruning networks.",
    "strengths": "- The paper is clearly written and easy to follow.\n"
    "- The idea of pruning by curvature is novel and well motivated.",
    "weaknesses": "1. The comparison with recent baselines such as SNIP is missing.\n"
    "2. The proof of Theorem 2 is not correct because the bound does not hold.",
    "questions": "How sensitive is the method to the choice of the threshold?",
    "limitations": "The limitations of the method on small data sets are not discussed at all.",
}
FREE = {
    "review": "This paper presents a pruning method. The idea is novel and interesting. However, "
    "the experiments are only on MNIST and do not show a real gain. Pros: clear writing "
    "throughout the whole paper. Cons: the baselines that are used are weak and outdated. "
    "Could the authors report the run time of the method?"
}
_TEXTS = st.text(
    st.sampled_from(list("aeint Paper is novel.?!:\n-*<>[]()12\u2028\x07é“”")), max_size=200
)
_REVIEWS = st.lists(st.dictionaries(st.sampled_from(PARTS), _TEXTS, max_size=4), max_size=3)


def test_form_fields_decide_the_aspect_of_a_point() -> None:
    items = merge([FORM], SEVEN)

    where = {item.text: item.aspect for item in items}
    assert where["The paper is clearly written and easy to follow."] == "acceptance"
    assert where["How sensitive is the method to the choice of the threshold?"] == "suggestions"
    assert any(a == "novelty" and "curvature" in text for text, a in where.items())
    assert any(a == "experiments" and "SNIP" in text for text, a in where.items())
    assert any(a == "rejection" and "Theorem 2" in text for text, a in where.items())
    assert any(a == "other" and "limitations" in text for text, a in where.items())
    assert not any("This paper proposes" in text for text in where)


def test_free_text_is_sorted_by_its_sentences_and_inline_headings() -> None:
    where = {item.text: item.aspect for item in merge([FREE], FOUR)}

    assert any(a == "rejection" and "only on MNIST" in text for text, a in where.items())
    assert any(a == "rejection" and "outdated" in text for text, a in where.items())
    assert any(a == "acceptance" and "Clear writing" in text for text, a in where.items())
    assert any(a == "suggestions" and "run time" in text for text, a in where.items())


def test_points_of_two_reviewers_are_merged_and_listed_first() -> None:
    other = {"weaknesses": "A comparison with recent baselines such as SNIP is missing here."}

    items = merge([FORM, other, {"weaknesses": "The title is too long for such a paper."}], FOUR)

    rejections = [item.text for item in items if item.aspect == "rejection"]
    assert "SNIP" in rejections[0]
    assert sum("SNIP" in text for text in rejections) == 1


def test_both_sides_of_a_disagreement_are_kept() -> None:
    praise = [{"strengths": f"The approach {n} is novel and original in its field."} for n in "abc"]
    blame = {"weaknesses": "The novelty is limited, since the same idea was already known."}

    texts = [i.text for i in merge([*praise, blame], SEVEN) if i.aspect == "novelty"]

    assert any("limited" in text for text in texts)
    assert any("original" in text for text in texts)


def test_aspect_without_points_is_marked_empty() -> None:
    raw = render(merge([{"strengths": FORM["strengths"]}], SEVEN), SEVEN)

    empty = parse(raw, SEVEN).empty_aspects
    assert empty == ("idea", "experiments", "rejection", "suggestions", "other")


@settings(max_examples=60, deadline=None)
@given(_REVIEWS, st.sampled_from(sorted(SHIPPED)))
def test_merge_of_any_reviews_parses_strictly_and_uses_only_their_words(
    reviews: list[dict[str, str]], name: str
) -> None:
    aspects = SHIPPED[name]

    items = merge(reviews, aspects)

    assert items == merge(reviews, aspects)
    assert is_strict(render(items, aspects), aspects)
    written = re.findall(r"\w+", " ".join(t for each in reviews for t in each.values()).casefold())
    for item in items:
        assert set(re.findall(r"\w+", item.text.casefold())) <= set(written)


@pytest.mark.parametrize("limit", [60, 75, 100, 400])
def test_a_shortened_review_fits_stays_strict_and_keeps_every_aspect_that_had_items(
    limit: int,
) -> None:
    items = merge([FORM, FREE], FOUR)

    fitted = shorten(items, FOUR, limit, lambda text: len(text.split()))

    assert fitted is not None
    text, changed = fitted
    assert len(text.split()) <= limit
    assert is_strict(text, FOUR)
    assert parse(text, FOUR).empty_aspects == parse(render(items, FOUR), FOUR).empty_aspects
    assert changed == (text != render(items, FOUR))


def test_limit_too_small_for_any_review_is_reported() -> None:
    assert shorten(merge([FORM], FOUR), FOUR, 5, lambda text: len(text.split())) is None
