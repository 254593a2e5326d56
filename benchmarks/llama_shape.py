"""A model of Llama 3.1 8B's shape with random weights, and papers of typical lengths.

Speed depends on shapes, not on the values of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tokenizers import Tokenizer

from models.engines.steady_state import ANSWER_TOKENS, draw_length, staggered_answers
from models.text.aspects import SEVEN
from models.text.generation import GenerationRequest, Message, Suppression
from models.text.prompt import build_prompt
from models.text.templates import LLAMA3
from models.weights.random_weights import LLAMA31_8B

#: A small model for trying a benchmark without a GPU.
TINY = LLAMA31_8B | {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}


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
