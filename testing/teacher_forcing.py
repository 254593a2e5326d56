"""Teacher forcing: given answers are read token by token by the engine's own decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from models.adapters.adapter_bank import AdapterBank
from models.engines.decoder import CausalModel, Decoder
from models.grammar.token_tables import GrammarTables
from models.hashes import adapter_sha256
from models.kernels.attention_selection import AttentionName, select_attention
from models.kernels.paged_attention import ATTENTION
from models.kernels.paged_cache import CacheKind, CacheShape, PagedCache
from models.kernels.prompt_arithmetic import PromptArithmetic
from models.text.aspects import FOUR, SEVEN
from models.text.generation import Arithmetic, GenerationRequest
from models.weights.loading import LoadedModel

_Kept = TypeVar("_Kept")
_Decoder = TypeVar("_Decoder", bound=Decoder)


@dataclass(frozen=True)
class Reference:
    """Token ids of a prompt and of its answer."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens of prompt and answer together."""
        return len(self.prompt) + len(self.answer)


def make_decoder(
    loaded: LoadedModel,
    build: Callable[..., _Decoder],
    *,
    slots: int,
    max_tokens: int,
    attention: AttentionName = "auto",
    kv_cache: CacheKind = "bf16",
) -> _Decoder:
    """A decoder whose every slot has room for `max_tokens`; `build` gets a Decoder's arguments."""
    shape = CacheShape.of(loaded.model, kv_cache)
    selected = select_attention(shape, loaded.model.config.num_attention_heads, attention)
    loaded.model.set_attn_implementation(ATTENTION)
    block_tokens = selected.step.block_tokens or max_tokens
    cache = PagedCache(
        shape,
        n_blocks=slots * -(-max_tokens // block_tokens),
        block_tokens=block_tokens,
        slots=slots,
        max_tokens=max_tokens,
    )
    end_id = loaded.template.end_of_turn_id(loaded.tokenizer)
    return build(
        CausalModel(loaded.model),
        GrammarTables.build(loaded.tokenizer, (SEVEN, FOUR), end_id, loaded.device),
        cache,
        selected,
        AdapterBank(loaded.model, loaded.base, slots),
        PromptArithmetic(loaded.model),
    )


@torch.inference_mode()
def read_answers(
    loaded: LoadedModel,
    references: Sequence[Reference],
    keep: Callable[[Tensor, Tensor], _Kept],
    *,
    adapter: Path | None = None,
    attention: AttentionName = "auto",
    kv_cache: CacheKind = "bf16",
    arithmetic: Arithmetic = "exact",
) -> list[_Kept]:
    """Read all answers at the same time, each after its prompt; a result for each step.

    `keep` gets a step's scores [reference, vocabulary] and the answers' tokens int64 [reference];
    beyond the end of an answer its row is meaningless. RuntimeError if prompts cannot be read in
    `arithmetic`.
    """

    def build(*parts: Any) -> TeacherForcedDecoder[_Kept]:
        return TeacherForcedDecoder([r.answer for r in references], keep, *parts)

    longest = max(reference.n_tokens for reference in references)
    decoder = make_decoder(
        loaded,
        build,
        slots=len(references),
        max_tokens=longest,
        attention=attention,
        kv_cache=kv_cache,
    )
    return decoder.read(references, adapter, arithmetic)


class TeacherForcedDecoder(Decoder, Generic[_Kept]):
    """Continues each row with the tokens of its answer instead of those that it samples."""

    def __init__(
        self,
        answers: Sequence[Sequence[int]],
        keep: Callable[[Tensor, Tensor], _Kept],
        *parts: Any,
    ) -> None:
        """`keep` is that of `read_answers`, `parts` are a Decoder's."""
        super().__init__(*parts, graphs=False, forced_runs=False)
        self._keep, self._kept = keep, list[_Kept]()
        device = self._token.device
        longest = max(map(len, answers))
        padded = [[*answer, *[0] * (longest - len(answer))] for answer in answers]
        self._answers = torch.tensor(padded, device=device)
        self._ends = torch.tensor([len(answer) for answer in answers], device=device)

    def read(
        self, references: Sequence[Reference], adapter: Path | None, arithmetic: Arithmetic
    ) -> list[_Kept]:
        """Read prompts and answers; what was kept at each step."""
        if arithmetic not in self._arithmetic.available:
            raise RuntimeError(f"no {arithmetic} prompts: {self._arithmetic.fp8_unavailable}")
        sha256 = None
        if adapter is not None:
            sha256 = adapter_sha256(adapter)
            self._bank.attach(adapter, sha256)
        for slot, reference in enumerate(references):
            self._cache.reserve(slot, reference.n_tokens)
            self.prefill(slot, _request(reference, arithmetic), reference.prompt, sha256)
        for _ in range(self._answers.shape[1]):
            self.step(len(references))
        return self._kept

    def _sample(self, step: Any, scores: Tensor) -> None:
        rows = slice(0, step.size)
        wanted = self._answers[rows, len(self._kept)]
        self._kept.append(self._keep(scores, wanted))
        self._token[rows] = wanted
        self._length[rows] += self._live[rows]
        self._live[rows] &= self._ends[rows] > len(self._kept)


def _request(reference: Reference, arithmetic: Arithmetic) -> GenerationRequest:
    return GenerationRequest(
        id="",
        token_ids=reference.prompt,
        max_prompt_tokens=len(reference.prompt),
        max_new_tokens=len(reference.answer),
        temperature=0.0,
        arithmetic=arithmetic,
    )
