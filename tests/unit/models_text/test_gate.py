"""Each check of the gate lets an ordinary review pass and stops the failure it is named after."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text import gate
from models.text.aspects import EMPTY_LINE, FOUR
from models.text.gate import CHECKS, GateConfig, check
from models.text.generation import Finish
from models.text.parsing import parse
from models.text.review import GateCheck, GateResult

PAPER = """\
[TITLE]
Sparse attention for long documents

[CONTENT]
We propose a sparse attention pattern whose cost grows linearly with the length of the document,
and we show on three summarisation benchmarks that a model of the usual size, trained for the same
number of steps and on the same data as its dense counterpart, loses less than half a point of ROUGE
while its memory shrinks by a factor of four. The pattern is a window of 256 tokens
and 64 global tokens.
"""

GOOD = """\
[Significance and novelty]
<Relevant problem> Long documents matter in practice, and the cost of dense attention is a real \
obstacle that the paper addresses in a simple way.
<Limited novelty> Windows with global tokens were proposed before; the paper should say more \
clearly what is new about its pattern.

[Potential reasons for acceptance]
<Strong efficiency> The memory is four times smaller while the loss in ROUGE is below half a point.

[Potential reasons for rejection]
<Few baselines> Only the dense model is compared; kernel methods and retrieval are missing.

[Suggestions for improvement]
<Ablations> Show how the size of the window and the number of global tokens change the results.

"""


def judge(
    raw: str, *, config: GateConfig | None = None, finish: Finish = "stop", paper: str = PAPER
) -> GateResult:
    return check(
        parse(raw, FOUR),
        aspects=FOUR,
        raw=raw,
        system=FOUR.system_prompt,
        paper_text=paper,
        finish=finish,
        n_output_tokens=200,
        config=config or GateConfig(),
    )


def named(result: GateResult, name: str) -> GateCheck:
    return next(check for check in result.checks if check.name == name)


def test_ordinary_review_passes_every_check() -> None:
    result = judge(GOOD)

    assert [check.name for check in result.checks] == list(CHECKS)
    assert [check.name for check in result.checks if not check.passed] == []
    assert result.passed


def test_missing_heading_is_named() -> None:
    result = judge(GOOD.replace("[Potential reasons for rejection]\n", ""))

    assert not named(result, "headings").passed
    assert "Potential reasons for rejection" in named(result, "headings").detail
    assert not result.passed


def test_review_with_one_empty_aspect_passes_and_an_all_empty_one_does_not() -> None:
    some = GOOD.replace(GOOD.split("\n")[8], EMPTY_LINE)
    none = "\n\n".join(f"[{aspect.heading}]\n{EMPTY_LINE}" for aspect in FOUR.aspects)

    assert EMPTY_LINE in some
    assert named(judge(some), "not_all_empty").passed
    assert not named(judge(none), "not_all_empty").passed
    assert named(judge(none), "headings").passed


LOOP = "The authors should compare their method with more recent baselines. "


@pytest.mark.parametrize(
    ("addition", "passes"),
    [
        (f"<Baselines> {LOOP * 2}\n", True),
        (f"<Baselines> {LOOP * 6}\n", False),
        ("<More> More work.\n" * 3, True),
        ("<More> More work.\n" * 6, False),
        ("<Style> It is " + "very " * 30 + "good.\n", False),
    ],
)
def test_loop_is_a_repeated_run_or_a_repeated_item(addition: str, passes: bool) -> None:
    assert named(judge(GOOD.rstrip() + "\n" + addition), "loop").passed is passes


def test_copied_passage_is_an_echo_but_a_quotation_is_not() -> None:
    sentence = " ".join(PAPER.split("\n\n")[1].split()[1:])
    quotation = " ".join(sentence.split()[:25])

    assert named(judge(f'{GOOD.rstrip()}\n<Claim> They write "{quotation}".\n'), "echo").passed
    assert not named(judge(f"{GOOD.rstrip()}\n<Summary> {sentence}\n"), "echo").passed


def test_copied_system_prompt_is_an_echo() -> None:
    raw = GOOD.rstrip() + "\n<Task> " + " ".join(FOUR.system_prompt.split()) + "\n"

    assert not named(judge(raw), "echo").passed


TEXTS = st.lists(st.sampled_from(["a", "ab", "Ab", "b", "cab", "c.", "-", "Straße"]), max_size=30)


@given(raw=TEXTS, source=TEXTS, length=st.integers(1, 6))
def test_an_echo_is_found_exactly_where_some_run_of_words_is_the_same(
    raw: list[str], source: list[str], length: int
) -> None:
    def runs(text: list[str]) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", " ".join(text).casefold())
        return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}

    found = gate._echo(" ".join(raw), " ".join(source), length)

    assert bool(found) is bool(runs(raw) & runs(source))


@pytest.mark.parametrize(
    "text",
    [
        "As an AI language model, I do not have access to the full paper.",
        "I'm sorry, but I cannot assist with that request.",
        "I cannot provide a detailed review without the paper.",
        "Unfortunately, I am unable to review documents.",
        "I can't fulfill this request.",
    ],
)
def test_refusal_in_place_of_an_item_is_found(text: str) -> None:
    inside = GOOD.replace("Only the dense model is compared", text)

    assert not named(judge(text), "refusal").passed
    assert not named(judge(inside), "refusal").passed


@pytest.mark.parametrize(
    "text",
    [
        "I cannot see why the window has 256 tokens",
        "I cannot recommend acceptance in this form",
        'The model often answers "As an AI language model, I cannot help", which is not counted',
        "I am not convinced by Table 2",
    ],
)
def test_reviewers_doubts_are_not_a_refusal(text: str) -> None:
    assert named(judge(GOOD.replace("Only the dense model is compared", text)), "refusal").passed


def test_short_review_is_recorded_and_rejected_only_on_request() -> None:
    short = "\n\n".join(f"[{aspect.heading}]\n<Fine> It is fine." for aspect in FOUR.aspects)

    assert not named(judge(short, config=GateConfig(loop_repeats=9)), "length").passed
    assert judge(short, config=GateConfig(loop_repeats=9)).passed
    assert not judge(short, config=GateConfig(loop_repeats=9, fatal=("length",))).passed


def test_answer_that_ran_into_the_limit_is_recorded() -> None:
    assert "stopped at the token limit" in named(judge(GOOD, finish="length"), "length").detail
    assert "stopped" not in named(judge(GOOD), "length").detail


@pytest.mark.parametrize(
    "text",
    [
        "本文提出了一种稀疏注意力机制,用于处理长文档。作者在三个摘要数据集上进行了实验,结果表明该方法有效。"
        "但是与其他方法的比较还不够充分,缺少消融实验,写作也需要进一步改进。",
        "Die Arbeit schlägt ein dünn besetztes Aufmerksamkeitsmuster vor, dessen Kosten linear mit "
        "der Länge wachsen. Leider fehlen Vergleiche mit anderen Verfahren, und die Auswahl der "
        "Datensätze wird nirgends begründet. Weitere Versuche wären dringend nötig.",
        "qzx vlorp " * 30,
    ],
)
def test_answer_in_another_language_is_detected(text: str) -> None:
    raw = "\n\n".join(f"[{aspect.heading}]\n<Punkt> {text}" for aspect in FOUR.aspects)

    assert not named(judge(raw), "language").passed


def test_formulas_and_names_are_still_english() -> None:
    raw = GOOD.replace(
        "Only the dense model is compared",
        "The bound ‖∇f(θ)‖² ≤ ε of Müller and Řehůřek is compared with λ = 0.1",
    )

    assert named(judge(raw), "language").passed


def test_only_fatal_checks_reject() -> None:
    lenient = replace(GateConfig(), fatal=("headings",))
    empty = "\n\n".join(f"[{aspect.heading}]\n{EMPTY_LINE}" for aspect in FOUR.aspects)

    assert judge(empty, config=lenient).passed
    assert not judge("No headings at all.", config=lenient).passed


def test_empty_answer_is_judged_without_an_error() -> None:
    assert not judge("").passed
