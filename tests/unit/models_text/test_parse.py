"""The parser's promises: nothing is dropped, invented or guessed, and it is quick."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.text.aspects import EMPTY_LINE, FOUR, SEVEN, AspectSet
from models.text.parsing import is_strict, parse, render
from models.text.review import Item, Review

STRICT = """\
[Significance and novelty]
<A new task> The paper is the first to look at it.
<Limited scope> Only English is covered.

[Potential reasons for acceptance]
<Clear writing> Every section can be followed.

[Potential reasons for rejection]
<No related terms> -

[Suggestions for improvement]
<More baselines> Compare with kNN-LM (2020) as well.

"""

aspect_sets = st.sampled_from([FOUR, SEVEN])


def titles(review: Review, aspect: str) -> list[str]:
    return [item.title for item in review.items if item.aspect == aspect]


def texts(review: Review, aspect: str) -> list[str]:
    return [item.text for item in review.items if item.aspect == aspect]


def test_strict_answer_is_read_as_written() -> None:
    review = parse(STRICT, FOUR)

    assert review.strict
    assert review.items == (
        Item("significance", 0, "A new task", "The paper is the first to look at it."),
        Item("significance", 1, "Limited scope", "Only English is covered."),
        Item("acceptance", 0, "Clear writing", "Every section can be followed."),
        Item("suggestions", 0, "More baselines", "Compare with kNN-LM (2020) as well."),
    )
    assert review.empty_aspects == ("rejection",)
    assert review.missing_aspects == ()
    assert review.unplaced == ""
    assert [span.kind for span in review.spans if span.aspect == "rejection"] == [
        "heading",
        "marker",
    ]


@pytest.mark.parametrize("ending", ["", "\n", "\n\n\n"])
def test_newlines_at_the_end_are_still_strict(ending: str) -> None:
    assert parse(STRICT.rstrip("\n") + ending, FOUR).strict


@pytest.mark.parametrize(
    "drifted",
    [
        "Sure, here is my review.\n" + STRICT,
        STRICT.replace("[Significance and novelty]", "**Significance and novelty**"),
        STRICT.replace("[Suggestions for improvement]\n", ""),
        STRICT.replace(
            "\n\n[Potential reasons for rejection]", "\n[Potential reasons for rejection]"
        ),
        STRICT.replace("<Clear writing> ", ""),
        STRICT.replace(EMPTY_LINE, "<No related terms>"),
        STRICT.replace(EMPTY_LINE, EMPTY_LINE + "\n<But> this."),
        STRICT.replace("[Potential reasons for rejection]", "[Potential reasons for acceptance]"),
        STRICT.replace("<Clear writing>", "< >"),
        "\n" + STRICT,
        "",
    ],
)
def test_anything_else_is_not_strict(drifted: str) -> None:
    assert drifted != STRICT
    assert not parse(drifted, FOUR).strict


@pytest.mark.parametrize(
    "heading",
    [
        "[Potential reasons for rejection]",
        "**Potential reasons for rejection**",
        "** Potential reasons for rejection **",
        "## Potential reasons for rejection",
        "### 5. **Potential Reasons for Rejection:**",
        "5) POTENTIAL  REASONS FOR REJECTION:",
        "- Potential reasons for rejection",
        "[5. Potential reasons for rejection]",
        "[Potential reasons for rejection]:",
        "Potential reasons for rejection",
        "Weaknesses:",
        "**Weaknesses**",
        "# Cons",
        "Reasons to reject",
    ],
)
def test_heading_is_known_in_every_decoration(heading: str) -> None:
    for aspects in (SEVEN, FOUR):
        review = parse(f"{heading}\n<No baseline> None is given.\n", aspects)

        assert review.items == (Item("rejection", 0, "No baseline", "None is given."),)
        assert review.unplaced == ""
        assert "rejection" not in review.missing_aspects


@pytest.mark.parametrize(
    "line",
    [
        "**Weaknesses:** No baseline is given.",
        "**Weaknesses**: No baseline is given.",
        "Weaknesses: No baseline is given.",
        "[Weaknesses] No baseline is given.",
        "2. **Weaknesses**: No baseline is given.",
        "## Weaknesses: No baseline is given.",
    ],
)
def test_text_behind_a_heading_is_its_first_item(line: str) -> None:
    review = parse(line, SEVEN)

    assert review.items == (Item("rejection", 0, "", "No baseline is given."),)


def test_review_form_drift_is_mapped_by_the_table() -> None:
    raw = """\
## Summary
The paper trains a model. It is long.

## Strengths
- Strong results
- **Clarity**: easy to read

## Weaknesses
1. Limitations: they are not discussed
2. No code
   is given

## Questions
Why only one seed?

## Limitations
- none stated

## Suggestions
Run it five times.
"""
    review = parse(raw, SEVEN)

    assert texts(review, "acceptance") == ["Strong results", "easy to read"]
    assert titles(review, "acceptance") == ["", "Clarity"]
    assert texts(review, "rejection") == [
        "Limitations: they are not discussed",
        "No code is given",
    ]
    assert texts(review, "suggestions") == ["Why only one seed?", "Run it five times."]
    assert "The paper trains a model." in review.unplaced
    assert "none stated" in review.unplaced
    assert review.missing_aspects == ("idea", "novelty", "experiments", "other")


def test_name_that_a_set_does_not_have_is_unplaced() -> None:
    raw = "[Significance and novelty]\n<New> It is new.\n"

    assert parse(raw, FOUR).items == (Item("significance", 0, "New", "It is new."),)
    assert parse(raw, SEVEN).items == ()
    assert parse(raw, SEVEN).unplaced == raw.strip()


def test_invented_heading_takes_its_text_with_it() -> None:
    raw = "[Potential reasons for acceptance]\n<A> a.\n[Title of supporting points]\n<B> b.\n"

    review = parse(raw, FOUR)

    assert titles(review, "acceptance") == ["A"]
    assert review.unplaced == "[Title of supporting points]\n<B> b."


def test_repeated_heading_goes_on_counting() -> None:
    raw = "[Weaknesses]\n<A> a.\n\n[Strengths]\n<B> b.\n\n[Weaknesses]\n<C> c.\n"

    review = parse(raw, FOUR)

    assert [item for item in review.items if item.aspect == "rejection"] == [
        Item("rejection", 0, "A", "a."),
        Item("rejection", 1, "C", "c."),
    ]


def test_item_goes_on_over_lines_until_a_blank_one() -> None:
    raw = "[Strengths]\n<A> first\nsecond\n  third\n\nOf its own.\n"

    review = parse(raw, FOUR)

    assert texts(review, "acceptance") == ["first second third", "Of its own."]
    assert titles(review, "acceptance") == ["A", ""]


@pytest.mark.parametrize(
    "marker", [EMPTY_LINE, "<No related terms>", "- <no related terms> -.", "No related terms."]
)
def test_marker_means_empty_in_every_spelling(marker: str) -> None:
    review = parse(f"[Weaknesses]\n{marker}\n", FOUR)

    assert review.items == ()
    assert review.empty_aspects == ("rejection",)
    assert [span.kind for span in review.spans] == ["heading", "marker"]


def test_aspect_with_marker_and_items_is_not_empty() -> None:
    raw = f"[Weaknesses]\n{EMPTY_LINE}\n<A> a.\n<No related terms> - but b.\n"

    review = parse(raw, FOUR)

    assert texts(review, "rejection") == ["a.", "but b."]
    assert review.empty_aspects == ()
    assert [span.kind for span in review.spans] == ["heading", "marker", "item", "marker", "item"]


def test_heading_with_nothing_below_is_empty_and_not_missing() -> None:
    review = parse("[Weaknesses]\n---\n", FOUR)

    assert review.empty_aspects == ("rejection",)
    assert "rejection" not in review.missing_aspects
    assert review.unplaced == "---"


# ---- properties ----

FRAGMENTS = [
    *(f"[{aspect.heading}]" for aspect in (*SEVEN.aspects, *FOUR.aspects)),
    *("**Strengths**", "## Summary", "Weaknesses: none", "1. Questions", "[Made up]", "# x"),
    *(EMPTY_LINE, "<No related terms>", "No related terms", "<no related term> yes"),
    *("<A title> A text.", "<t>x", "<>", "< >", "<", ">", "<a <b> c", "**Bold**: text", "**x"),
    *("- point", "* ", "(3) third", "12. ", "plain text", "---", "```", "…", "é 日本語", "\u00a0"),
    *("\r", "\t", "\x85", "\u2028", "\x1c", "::", "[", "]", "<|eot_id|>", "0"),
]
fragments = st.lists(
    st.tuples(st.sampled_from(FRAGMENTS), st.sampled_from(["\n", "\n\n", " ", "", " \n "])),
    max_size=25,
).map(lambda pairs: "".join(a + b for a, b in pairs))


def letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def assert_accounts_for_everything(raw: str, review: Review, aspects: AspectSet) -> None:
    # Then spans are in order, apart, and cover all but white space.
    position = 0
    for span in review.spans:
        assert position <= span.start < span.end <= len(raw)
        assert not raw[position : span.start].strip()
        position = span.end
    assert not raw[position:].strip()
    # And what stands in the spans is what the review holds.
    for key in aspects.keys:
        spans = [s for s in review.spans if s.kind == "item" and s.aspect == key]
        items = [item for item in review.items if item.aspect == key]
        assert [item.position for item in items] == list(range(len(spans)))
        for span, item in zip(spans, items, strict=True):
            # A list's number is not the point's text.
            assert letters(raw[span.start : span.end]).endswith(letters(item.title + item.text))
    unplaced = (raw[span.start : span.end] for span in review.spans if span.kind == "unplaced")
    assert "\n".join(unplaced) == review.unplaced
    # And each aspect has items, or is empty, or is missing.
    states = [{item.aspect for item in review.items}, review.empty_aspects, review.missing_aspects]
    assert sorted(key for state in states for key in state) == sorted(aspects.keys)


@given(raw=st.text(max_size=300) | fragments, aspects=aspect_sets)
@settings(max_examples=400, deadline=None)
def test_every_character_belongs_to_exactly_one_span(raw: str, aspects: AspectSet) -> None:
    assert_accounts_for_everything(raw, parse(raw, aspects), aspects)


words = st.text(
    st.characters(exclude_characters="<>\n", exclude_categories=["Cs"]), min_size=1, max_size=40
).filter(lambda text: text == text.strip() and "no related term" not in text.casefold())


@st.composite
def reviews(draw: st.DrawFn) -> tuple[AspectSet, tuple[Item, ...]]:
    aspects = draw(aspect_sets)
    items = []
    for key in aspects.keys:
        points = draw(st.lists(st.tuples(words, words), max_size=3))
        items += [Item(key, i, title, text) for i, (title, text) in enumerate(points)]
    return aspects, tuple(items)


@given(reviews())
@settings(max_examples=200, deadline=None)
def test_rendered_review_is_strict_and_reads_back(case: tuple[AspectSet, tuple[Item, ...]]) -> None:
    aspects, items = case

    review = parse(render(items, aspects), aspects)

    assert review.strict
    assert review.items == items
    assert review.missing_aspects == ()
    assert review.unplaced == ""


@given(raw=fragments, aspects=aspect_sets)
@settings(max_examples=200, deadline=None)
def test_strict_answers_leave_nothing_unplaced(raw: str, aspects: AspectSet) -> None:
    answer = "\n\n".join(f"[{a.heading}]\n<t> {i}" for i, a in enumerate(aspects.aspects)) + raw
    review = parse(answer, aspects)

    if is_strict(answer, aspects):
        assert review.unplaced == ""
        assert review.missing_aspects == ()


@pytest.mark.parametrize(
    "item",
    [
        Item("rejection", 0, "", "No title."),
        Item("rejection", 0, "Title", ""),
        Item("rejection", 0, "Title", "two\nlines"),
        Item("rejection", 0, "a > b", "Text."),
        Item("rejection", 0, "No related terms", "Text."),
        Item("rejection", 0, "Title", " padded"),
        Item("idea", 0, "Title", "An aspect of the other set."),
    ],
)
def test_item_that_the_grammar_cannot_hold_is_refused(item: Item) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        render([item], FOUR)


JUNK = [
    "<", "<\n", "[ ", "**a ", "- ", "x\n", "a:", "\n", " ", "<a>\n", "**", "[x]\n", "Summary\n",
    "[Potential reasons for acceptance]\n", "a\n\n", "-\n\n", "1. ", "<No related terms> -\n", "#",
]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK)
def test_100_kilobytes_of_junk_are_parsed_quickly(junk: str) -> None:
    raw = "Strengths\n" + junk * (100_000 // len(junk))

    def seconds() -> float:
        started = time.thread_time()
        parse(raw, SEVEN)
        return time.thread_time() - started

    # At most 0.3 s when nothing else runs; a second is for busy machines. Quadratic takes minutes.
    assert any(seconds() < 1.0 for _ in range(3))
    assert_accounts_for_everything(raw, parse(raw, SEVEN), SEVEN)
