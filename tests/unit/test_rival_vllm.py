"""vLLM's benchmark, as far as it runs without vLLM."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.llama_shape import Papers
from benchmarks.rivals.vllm import STEP_TOKENS, EngineRun, mean_prompt, prompt
from models.engines.steady_state import (
    ANSWER_TOKENS,
    draw_length,
    papers_a_second,
    staggered_answers,
)
from testing import ROOT
from testing.tokenizers import llama3

#: Seconds of a simulated step: each prompt token, the step itself, and each row. Chosen to match
#: an H200's with FP8 weights, FP8 cache and a LoRA.
_PROMPT_TOKEN, _STEP, _ROW = 2.5e-5, 0.016, 1.9e-4
_SLOTS = 206


@dataclass
class _Paper:
    unread: int
    unwritten: int


def _simulate(answers: list[int], slots: int) -> list[float]:
    """When a scheduler like vLLM's admits papers: a step takes rows first, then prompts' parts."""
    waiting = deque(_Paper(draw_length(n)[0], tokens) for n, tokens in enumerate(answers))
    running: list[_Paper] = []
    admitted: list[float] = []
    now = 0.0
    while waiting:
        writing = [paper for paper in running if not paper.unread]
        n_read, budget = 0, STEP_TOKENS - len(writing)
        reading = [paper for paper in running if paper.unread]
        while budget > 0 and (reading or (waiting and len(running) < slots)):
            if not reading:
                reading.append(waiting.popleft())
                running.append(reading[0])
                admitted.append(now)
            part = min(budget, reading[0].unread)
            reading[0].unread -= part
            n_read, budget = n_read + part, budget - part
            if not reading[0].unread:
                writing.append(reading.pop(0))
        now += _STEP + _PROMPT_TOKEN * n_read + _ROW * len(writing)
        for paper in writing:
            paper.unwritten -= 1
        running = [paper for paper in running if paper.unwritten > 0]
    return admitted


@pytest.fixture(scope="module")
def long_run() -> float:
    """Papers a second of the simulated scheduler over three times all slots."""
    admitted = _simulate([*staggered_answers(_SLOTS), *[ANSWER_TOKENS] * 6 * _SLOTS], _SLOTS)
    return papers_a_second(admitted, 4 * _SLOTS)


def test_first_answers_that_allow_for_steps_give_the_rate_of_a_long_run(long_run: float) -> None:
    first = staggered_answers(_SLOTS, steps_a_prompt=mean_prompt() / STEP_TOKENS)
    admitted = _simulate([*first, *[ANSWER_TOKENS] * 112], _SLOTS)
    assert papers_a_second(admitted, _SLOTS) == pytest.approx(long_run, rel=0.01)


def test_without_them_an_engine_that_decodes_while_it_fills_is_overrated(long_run: float) -> None:
    admitted = _simulate([*staggered_answers(_SLOTS), *[ANSWER_TOKENS] * 112], _SLOTS)
    assert papers_a_second(admitted, _SLOTS) > 1.03 * long_run


@pytest.mark.parametrize("slots", [1, 7, 113, 256])
def test_answers_are_staggered_when_the_slots_are_full(slots: int) -> None:
    steps_a_prompt = 0.5
    answers = staggered_answers(slots, steps_a_prompt=steps_a_prompt)
    left = [n - round(steps_a_prompt * (slots - 1 - place)) for place, n in enumerate(answers)]
    assert left == staggered_answers(slots)
    assert max(answers) == ANSWER_TOKENS


def test_prompts_have_as_many_tokens_as_ours() -> None:
    papers = Papers.of(llama3().tokenizer)
    for number in (0, 7, 303):
        assert len(prompt(number)) == len(papers.token_ids(papers.request(number)))


def test_papers_that_end_before_the_slots_are_full_are_counted() -> None:
    def paper(scheduled: float, last: float, written: int) -> SimpleNamespace:
        return SimpleNamespace(
            scheduled_ts=scheduled, last_token_ts=last, num_generation_tokens=written
        )

    papers = [
        (paper(1.0, 2.5, 4), 4),  # ended before the third paper was admitted
        (paper(2.0, 2.5, 4), 8),  # wrote, but did not end
        (paper(3.0, 5.0, 12), 12),
        (paper(4.0, 4.5, 3), 700),
        (paper(0.0, 0.0, 0), 700),  # never admitted
    ]
    run = EngineRun.of(papers, slots=3)
    assert run == EngineRun(admitted=[1.0, 2.0, 3.0, 4.0], n_ended_before_full=1)


def _fails(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.rivals.vllm", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_missing_part_is_one_sentence(tmp_path: Path) -> None:
    model, adapter = tmp_path / "model", tmp_path / "adapter"
    assert "needs --adapter" in _fails("bf16_lora", "--model", model)
    assert f"{model} has no config.json" in _fails("bf16", "--model", model)
    model.mkdir()
    (model / "config.json").write_text(json.dumps({}))
    with_adapter = ("fp8_cache_lora", "--model", model, "--adapter", adapter)
    assert f"{adapter} has no adapter_config.json" in _fails(*with_adapter)
    # vLLM is no dependency: the environment of the tests does not have it.
    assert "vLLM is not installed" in _fails("fp8_cache", "--model", model)
