"""Counting the steps that a look-up drafter would save."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.draft_acceptance import DRAFTED, count_steps


def test_a_copied_passage_takes_a_step_for_a_draft_and_the_token_after_it() -> None:
    prompt = list(range(100))
    answer = [5, 6, *range(7, 15)]
    # Two tokens are sampled before the look-up finds them, then 3 + 1 and 3 + 1 at a time
    assert count_steps(prompt, answer, [True] * 10, 2) == (4, 2)


def test_new_text_takes_a_step_a_token() -> None:
    assert count_steps(range(100), range(200, 230), [True] * 30, 2) == (30, 0)


def test_a_wrong_draft_costs_nothing_but_its_step() -> None:
    # After 1 2 the prompt goes on with 3, the answer with 9
    assert count_steps([1, 2, 3, 4], [1, 2, 9, 9], [True] * 4, 2) == (4, 1)


def test_tokens_of_the_grammar_are_neither_counted_nor_drafted() -> None:
    prompt = list(range(100))
    answer = [5, 6, 7, 8, 9]
    assert count_steps(prompt, answer, [True, True, True, False, False], 2) == (3, 1)


@given(
    st.lists(st.integers(0, 3), min_size=4, max_size=30),
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30),
    st.integers(2, 4),
)
def test_a_step_writes_at_least_one_counted_token_and_at_most_a_draft_more(
    prompt: list[int], answer: list[tuple[int, bool]], n_gram: int
) -> None:
    tokens, counted = [token for token, _ in answer], [each for _, each in answer]
    steps, drafts = count_steps(prompt, tokens, counted, n_gram)
    assert drafts <= steps <= sum(counted) <= steps + DRAFTED * drafts
