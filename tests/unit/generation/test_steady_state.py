"""The rule by which benchmarks compute an engine's rate."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from models.engines.steady_state import (
    ANSWER_TOKENS,
    LENGTHS,
    draw_length,
    papers_a_second,
    staggered_answers,
)
from testing import ROOT


@given(
    st.integers(1, 300), st.integers(2, 300), st.floats(0.01, 10), st.randoms(use_true_random=False)
)
def test_rate_is_that_of_the_papers_after_the_first_fill(
    slots: int, n_papers: int, gap: float, order: object
) -> None:
    fill = [0.001 * place for place in range(slots)]
    after = [1_000 + gap * number for number in range(n_papers)]
    admitted = fill + after
    order.shuffle(admitted)  # type: ignore[attr-defined]  # a random.Random of hypothesis
    assert abs(papers_a_second(admitted, slots) * gap - 1) < 1e-6


@given(st.integers(1, 400))
def test_answers_that_fill_the_slots_end_one_after_the_other(slots: int) -> None:
    answers = staggered_answers(slots)
    assert len(answers) == slots
    assert answers == sorted(answers)
    assert min(answers) >= 1
    assert answers[-1] == ANSWER_TOKENS


def test_papers_have_the_same_lengths_everywhere() -> None:
    lengths = [draw_length(number)[0] for number in range(2_000)]
    assert lengths == [draw_length(number)[0] for number in range(2_000)]
    assert min(lengths) >= LENGTHS[0]
    assert max(lengths) <= LENGTHS[2]
    assert abs(sum(lengths) / len(lengths) - sum(LENGTHS) / 3) < 100


def test_a_rivals_environment_needs_the_standard_library_alone() -> None:
    program = "import benchmarks.rivals.vllm as v; print(len(v.prompt(7)), v.VARIANTS['bf16'])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(draw_length(7)[0]), "{}"]
