"""Logits processors on CUDA: the same samples as on the CPU, also captured in a graph."""

from __future__ import annotations

import pytest
import torch

from models.grammar.logits_processors import (
    SamplingMode,
    SamplingRows,
    process_scores,
    sample_tokens,
)
from models.grammar.sampling import gumbel
from models.grammar.token_tables import GrammarTables, advance, initial_state
from models.text.aspects import FOUR, SEVEN
from models.text.generation import GenerationRequest, Suppression
from testing.generation_requests import chat
from testing.tokenizers import sentencepiece
from tests.unit.generation.decoding import decode

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

REQUESTS = [
    GenerationRequest(
        id=str(seed),
        messages=chat(),
        form=(SEVEN, FOUR)[seed % 2],
        template="llama2",
        max_prompt_tokens=1,
        max_new_tokens=560,
        temperature=0.3 * (seed % 4),
        top_p=(0.9, 0.5, 1.0)[seed % 3],
        seed=seed,
        suppression=Suppression(),
        guided=seed % 3 > 0,
    )
    for seed in range(12)
]


def tables_on(device: str) -> GrammarTables:
    each = sentencepiece()
    return GrammarTables.build(each.tokenizer, (SEVEN, FOUR), each.end_token_id, device)


def test_noise_equals_the_cpu() -> None:
    seeds, positions = torch.arange(8) << 40, torch.arange(8)
    tokens = torch.arange(128_256)
    on_gpu = gumbel(seeds.cuda(), positions.cuda(), tokens.cuda()).cpu()
    torch.testing.assert_close(on_gpu, gumbel(seeds, positions, tokens), rtol=1e-5, atol=1e-5)


def test_answers_equal_the_cpu() -> None:
    on_cpu, on_gpu = tables_on("cpu"), tables_on("cuda")
    scores = torch.randn(560, len(on_cpu.class_of)) * 2
    expected = decode(on_cpu, REQUESTS, lambda step: scores[step].expand(len(REQUESTS), -1))
    moved = scores.cuda()
    assert decode(on_gpu, REQUESTS, lambda step: moved[step].expand(len(REQUESTS), -1)) == expected


@pytest.mark.parametrize("sampling_mode", SamplingMode)
def test_a_step_can_be_captured_in_a_graph(sampling_mode: SamplingMode) -> None:
    # Given a captured step with static buffers for state and scores
    tables = tables_on("cuda")
    requests = [request for request in REQUESTS if SamplingMode.of(request) <= sampling_mode]
    rows = SamplingRows.of(requests, tables)
    state, scores = (
        initial_state(rows.node),
        torch.zeros(len(requests), len(tables.class_of)).cuda(),
    )
    advance(
        tables, state, sample_tokens(tables, rows, state, scores, sampling_mode)
    )  # loads the kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        token = sample_tokens(tables, rows, state, scores, sampling_mode)
        following = advance(tables, state, token)
    # When it is replayed, then each step gives the token of an eager call
    plain = state.clone()
    for raw in torch.randn(200, *scores.shape).cuda():
        scores.copy_(raw)
        graph.replay()
        expected = process_scores(tables, rows, plain, raw).argmax(-1)
        assert torch.equal(token, expected)
        plain = advance(tables, plain, expected)
        state.copy_(following)
