"""A model of Llama 3.1 8B's shape with random weights, and papers of typical lengths.

Speed depends on shapes, not on the values of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.paper_lengths import ANSWER_TOKENS, draw_length, staggered_answers
from models.text.aspects import SEVEN
from models.text.generation import GenerationRequest, Message, Suppression
from models.text.prompt import build_prompt
from models.text.templates import LLAMA3

#: As published in the model's config.json.
LLAMA31_8B = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
#: A small model for trying a benchmark without a GPU.
TINY = LLAMA31_8B | {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}


def write_random_llama(folder: Path, tokenizer: Path, shape: dict[str, object]) -> Path:
    """Write random weights of a shape, and Llama 3's tokenizer.json, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(LlamaConfig(**shape))
    finally:
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    return folder


@dataclass(frozen=True)
class Papers:
    """Makes requests whose prompts have given lengths in tokens."""

    tokenizer: Tokenizer
    #: Words of one token each.
    vocabulary: Sequence[str]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Papers:
        """Make the vocabulary of words that are one token each in any position."""
        texts = (tokenizer.decode([token]) for token in range(1000, 30_000))
        return cls(tokenizer, [t for t in texts if t.startswith(" ") and t[1:].isalpha()])

    def request(self, number: int, *, scale: float = 1.0) -> GenerationRequest:
        """A review request of paper `number`: greedy, guided and suppressed."""
        length, draw = draw_length(number, scale)
        return GenerationRequest(
            id=str(number),
            messages=(
                Message("system", SEVEN.system_prompt),
                Message("user", "".join(draw.choices(self.vocabulary, k=length))),
            ),
            template=LLAMA3.name,
            max_prompt_tokens=length,
            max_new_tokens=ANSWER_TOKENS,
            temperature=0.0,
            form=SEVEN,
            guided=True,
            suppression=Suppression(),
        )

    def steady(self, slots: int, n_papers: int, *, scale: float = 1.0) -> list[GenerationRequest]:
        """Requests that fill an engine's slots, and `n_papers` more.

        The answers of the first `slots` requests are as in `staggered_answers`, and not guided: the
        grammar has a minimum.
        """
        requests = [self.request(number, scale=scale) for number in range(slots + n_papers)]
        for place, tokens in enumerate(staggered_answers(slots)):
            requests[place] = replace(requests[place], max_new_tokens=tokens, guided=False)
        return requests

    def token_ids(self, request: GenerationRequest) -> list[int]:
        """Token ids of the prompt, as every engine builds it."""
        return list(build_prompt(self.tokenizer, request, LLAMA3).token_ids)
