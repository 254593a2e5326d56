"""Loss and gradients of a Llama with frozen NF4 weights, one sample at a time.

It uses the modules of transformers' own model and computes the same function with less memory
traffic and fewer stored activations; tests compare it with PEFT on that model. Which models it
supports is listed in `models.weights.architectures`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from torch import Tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from models.kernels.fusion import unnest_scales
from trainer.data.pair_encoding import Sample
from trainer.qlora.activation_checkpointing import BlockShape, RecomputePlan
from trainer.qlora.causal_attention import CausalAttention, HeadShape, attention_ops
from trainer.qlora.elementwise import Elementwise
from trainer.qlora.lora import GROUPS, LoraAdapter, LoraSettings
from trainer.qlora.projections import (
    Dropout,
    FrozenWeight,
    ProjectionGroup,
    RecomputeContext,
    project,
)
from trainer.qlora.response_loss import response_loss, token_losses

#: On a GPU samples are padded to a multiple of this many tokens: cuDNN builds a new plan for every
#: length. Attention is causal, so padding after the answer changes nothing.
LENGTH_STEP = 128


@dataclass(frozen=True)
class _ForwardState:
    """State that all blocks of one forward pass share."""

    cos: Tensor
    sin: Tensor
    dropout: float
    seed: int
    #: Positions that predict the answer; the last block computes output for these only.
    rows: slice


class TrainableLlama:
    """A loaded model (`models.weights.loading`), and its adapter."""

    def __init__(
        self,
        model: Any,
        settings: LoraSettings,
        *,
        attention: CausalAttention,
        elementwise: Elementwise,
        seed: int,
    ) -> None:
        model.requires_grad_(False)
        unnest_scales(model)
        self._model = model
        self._attention, self._elementwise = attention, elementwise
        self.weights = _weights(model)
        self.adapter = LoraAdapter(self.weights, settings, seed)
        self.plan = RecomputePlan(0, 0, len(model.model.layers))
        self._recomputation = RecomputeContext()
        self._keep = attention_ops()

    @property
    def device(self) -> torch.device:
        """The model's device."""
        device: torch.device = self._model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The compute format."""
        dtype: torch.dtype = self._model.dtype
        return dtype

    @property
    def shape(self) -> BlockShape:
        """The blocks' shape, for `make_plan`."""
        config, heads = self._model.config, head_shape(self._model)
        return BlockShape(
            n_blocks=config.num_hidden_layers,
            hidden=config.hidden_size,
            inner=config.intermediate_size,
            queries=heads.queries * heads.channels,
            keys=heads.keys * heads.channels,
            width=self._model.dtype.itemsize,
            dora=self.adapter.settings.dora,
        )

    def set_plan(self, plan: RecomputePlan) -> None:
        """Use this plan from now on."""
        self.plan = plan
        for weight in self.weights.values():
            if plan.dense:
                weight.cache_dense()
            else:
                weight.release_dense()

    def loss(self, sample: Sample, scale: float, seed: int) -> Tensor:
        """`scale` times the summed loss of the answer's tokens; `seed` determines dropout."""
        hidden, targets = self._answer(sample, self.adapter.settings.dropout, seed)
        return response_loss(hidden, self._model.lm_head.weight, targets, scale)

    def backward(self, sample: Sample, scale: float, seed: int) -> Tensor:
        """Add the gradients of `loss` to the adapter's; returns the loss."""
        loss: Any = self.loss(sample, scale, seed)
        loss.backward()
        value: Tensor = loss.detach()
        return value

    @torch.no_grad()
    def token_losses(self, sample: Sample) -> Tensor:
        """Negative log-likelihood of each of the answer's tokens, without dropout."""
        hidden, targets = self._answer(sample, 0.0, 0)
        return token_losses(hidden, self._model.lm_head.weight, targets)

    def _answer(self, sample: Sample, dropout: float, seed: int) -> tuple[Tensor, Tensor]:
        """Normed hidden states that predict the answer, and the answer."""
        ids = torch.tensor(self._padded_ids(sample), device=self._model.device)
        n_prompt, n_response = len(sample.prompt_ids), len(sample.response_ids)
        rows = slice(n_prompt - 1, n_prompt + n_response - 1)
        hidden = self._model.model.embed_tokens(ids)
        places = torch.arange(len(ids), device=ids.device)[None]
        cos, sin = self._model.model.rotary_emb(hidden[None], places)
        shared = _ForwardState(cos, sin, dropout, seed, rows)
        for number in range(len(self._model.model.layers)):
            hidden = self._run(number, hidden, shared)
        norm = self._model.model.norm
        targets = ids[n_prompt : n_prompt + n_response]
        return self._elementwise.norm(hidden, norm.weight, _eps(norm)), targets

    def _padded_ids(self, sample: Sample) -> tuple[int, ...]:
        ids = (*sample.prompt_ids, *sample.response_ids)
        missing = -len(ids) % LENGTH_STEP if self._model.device.type == "cuda" else 0
        return (*ids, *ids[-1:] * missing)

    def _run(self, number: int, hidden: Tensor, shared: _ForwardState) -> Tensor:
        mode = self.plan.mode(number)
        if mode == "stored" or not torch.is_grad_enabled():
            return self._block(number, hidden, shared)
        contexts = (
            self._recompute_all_but_attention if mode == "attention" else self._recompute_block
        )
        result: Tensor = checkpoint(
            self._block,
            number,
            hidden,
            shared,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=contexts,
        )
        return result

    def _recompute_block(self) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), self._recomputation

    def _recompute_all_but_attention(
        self,
    ) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        def policy(_: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
            keep = operation in self._keep
            return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE

        make: Callable[..., Any] = create_selective_checkpoint_contexts
        first, again = make(policy)
        return first, _CombinedContext(again, self._recomputation)

    def _block(self, number: int, hidden: Tensor, shared: _ForwardState) -> Tensor:
        layer = self._model.model.layers[number]
        elementwise, dora = self._elementwise, self.adapter.settings.dora
        last = number == len(self._model.model.layers) - 1

        def norm(module: Any) -> Callable[[Tensor], Tensor]:
            return lambda values: elementwise.norm(values, module.weight, _eps(module))

        def call(
            name: str, prologue: Any, inputs: Sequence[Tensor], **more: Any
        ) -> tuple[Tensor, ...]:
            return self._project(number, shared, name, prologue, inputs, **more)

        query, key, value = call("qkv", norm(layer.input_layernorm), [hidden])
        mixed = self._attend(query, key, value, shared)
        if last:
            mixed, hidden = mixed[shared.rows], hidden[shared.rows]
        (hidden,) = call("out", lambda value: value, [mixed], residual=hidden)
        gate_up = call("gate_up", norm(layer.post_attention_layernorm), [hidden])
        # DoRA's gradients read gate and up again, so they must not be overwritten.
        gate: Any = _copying_inputs(elementwise.gate) if dora else elementwise.gate
        (hidden,) = call(
            "down", gate, list(gate_up), residual=hidden, recomputation=self._recomputation
        )
        return hidden

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, shared: _ForwardState) -> Tensor:
        channels = head_shape(self._model).channels

        def heads(flat: Tensor) -> Tensor:
            return flat.view(1, len(flat), -1, channels).transpose(1, 2)

        if self.adapter.settings.dora:
            # Its gradients read query and key again, so they must not be overwritten.
            query, key = query.clone(), key.clone()
        query, key = self._elementwise.rotate(heads(query), heads(key), shared.cos, shared.sin)
        mixed = self._attention.attend(query, key, heads(value)).transpose(1, 2)
        return mixed.reshape(mixed.shape[1], -1)

    def _project(
        self,
        number: int,
        shared: _ForwardState,
        name: str,
        prologue: Any,
        inputs: Sequence[Tensor],
        *,
        residual: Tensor | None = None,
        recomputation: RecomputeContext | None = None,
    ) -> tuple[Tensor, ...]:
        paths = [f"model.layers.{number}.{target}" for target in GROUPS[name]]
        parts = [self.adapter[path] for path in paths]
        dtype = inputs[0].dtype
        place = number * len(GROUPS) + list(GROUPS).index(name)
        # A large odd factor keeps the seeds of consecutive samples apart.
        dropout = Dropout(shared.dropout, (shared.seed * 1_000_003 + place) % 2**63)
        return project(
            ProjectionGroup(
                [self.weights[path] for path in paths], prologue, dropout, recomputation
            ),
            inputs,
            torch.cat([part.down for part in parts]).to(dtype),
            [part.scaled_up(dtype) for part in parts],
            magnitudes=[part.magnitude for part in parts if part.magnitude is not None],
            residual=residual,
        )


class _CombinedContext:
    """Two contexts as one."""

    def __init__(self, outer: AbstractContextManager[Any], inner: RecomputeContext) -> None:
        self._outer, self._inner = outer, inner

    def __enter__(self) -> None:
        self._outer.__enter__()
        self._inner.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._inner.__exit__(*error)
        self._outer.__exit__(*error)


def head_shape(model: Any) -> HeadShape:
    """The attention heads of a transformers model."""
    config = model.config
    channels = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    return HeadShape(config.num_attention_heads, config.num_key_value_heads, channels)


def _weights(model: Any) -> Mapping[str, FrozenWeight]:
    """Every projection of the blocks by its path, in order."""
    targets = {target for group in GROUPS.values() for target in group}
    return {
        path: FrozenWeight(module)
        for path, module in model.named_modules()
        if isinstance(module, Linear4bit) and path.split(".", 3)[-1] in targets
    }


def _eps(norm: Any) -> float:
    eps: float = norm.variance_epsilon
    return eps


def _copying_inputs(gate: Any) -> Any:
    return lambda left, right: gate(left.clone(), right.clone())
