"""Reviews by models with random weights: only the grammar makes them parse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LogitsProcessorList

from models.grammar.logits_processors import ReviewProcessor, SamplingRows
from models.grammar.token_tables import GrammarTables
from models.text.aspects import FOUR, SEVEN
from models.text.generation import GenerationRequest, Suppression
from testing.generation_requests import chat

PROMPT_TOKENS = 5
BATCH = 10


def random_model(tables: GrammarTables) -> LlamaForCausalLM:
    """Random weights, wide enough apart that it has strong and senseless opinions."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tables.class_of),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()


def generate(
    model: LlamaForCausalLM, tables: GrammarTables, requests: Sequence[GenerationRequest]
) -> list[list[int]]:
    """The answers of one batch, each padded with the end token."""
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(5, len(tables.class_of), (1, PROMPT_TOKENS), generator=generator)
    prompts = prompt.repeat(len(requests), 1)
    output = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        generation_config=GenerationConfig(
            max_new_tokens=max(request.max_new_tokens for request in requests),
            do_sample=False,
            eos_token_id=tables.end_token_id,
            pad_token_id=tables.end_token_id,
        ),
        logits_processor=LogitsProcessorList(
            [ReviewProcessor(tables, SamplingRows.of(requests, tables), PROMPT_TOKENS)]
        ),
    )
    answers: list[list[int]] = output[:, PROMPT_TOKENS:].tolist()
    return answers


def batches(tables: GrammarTables, answers: int) -> Iterator[list[GenerationRequest]]:
    """Requests of both aspect sets, greedy to hot, at the least limit and above, batch by batch."""
    requests = [_request(tables, number) for number in range(answers)]
    for first in range(0, answers, BATCH):
        yield requests[first : first + BATCH]


def _request(tables: GrammarTables, number: int) -> GenerationRequest:
    batch = number // BATCH
    aspects = SEVEN if batch % 10 == 0 else FOUR
    return GenerationRequest(
        id=str(number),
        messages=chat(),
        form=aspects,
        guided=True,
        template="chatml",
        max_prompt_tokens=PROMPT_TOKENS,
        max_new_tokens=tables.start_of(aspects).minimum + 10 * (number % 3),
        temperature=(0.0, 0.35, 1.0, 5.0, 50.0)[number % 5],
        top_p=(1.0, 0.9, 0.5)[number % 3],
        seed=number,
        suppression=Suppression() if number % 2 else None,
    )
