"""Apply several LoRA and DoRA adapters to one model, a different one for each row of a batch.

The A and B matrices of all adapters of a layer are concatenated into one pair. A mask for each row
selects the columns of its adapter, so rows with different adapters share a batch at the cost of one
adapter of their summed rank (compare S-LoRA: Sheng et al. 2023, arXiv:2311.03285). A prompt has one
adapter: for a long prompt, B A is added to a copy of the weights instead. The weights of the base
model are never changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import torch
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn

from models.adapters.adapter_files import AdapterFile, adapter_refused, read_adapter
from models.kernels.nf4_linear import Nf4Linear, fused_layer_groups
from models.kernels.nf4_product import LowRank
from models.kernels.nf4_tiling import RANK_STEP
from models.kernels.transfer import set_entry, upload
from models.text.bases import BaseModel

#: Unused adapters that stay attached, so that the next batch need not read its adapter again.
MAX_ATTACHED = 4


@dataclass
class RowSelection:
    """Which adapter each row of the coming forward pass uses; None while no row uses any."""

    #: 1 in the columns of the row's adapter, [row, 1, rank].
    columns: Tensor | None = None
    #: Number of the row's adapter, 0 for none, [row].
    number: Tensor | None = None
    #: The columns of the one adapter that a whole prompt uses; None in a step.
    span: slice | None = None


class MultiAdapterLinear(nn.Module):
    """A linear layer of the base model with the matrices of every attached adapter."""

    def __init__(self, base_layer: nn.Module, selection: RowSelection) -> None:
        super().__init__()
        self.base_layer = base_layer
        self._selection = selection
        #: A and B of every adapter, concatenated; B is already scaled.
        self.added: LowRank | None = None
        #: DoRA's factor for each adapter's number, [number, out]; None while all are plain LoRA.
        self.magnitude: Tensor | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [row, token, in] to [row, token, out]."""
        if self._selection.columns is None or self.added is None:
            plain: Tensor = self.base_layer(hidden)
            return plain
        output = self._fused_output(hidden, self._selection.columns)
        if output is None:
            output = self._prompt_output(hidden, self.added)
        if output is None:
            output = self._summed_output(hidden, self.added, self._selection.columns)
        if self.magnitude is None:
            return output
        return output * self.magnitude[self._selection.number][:, None]

    def _fused_output(self, hidden: Tensor, columns: Tensor) -> Tensor | None:
        """Multiply a small batch by weights and adapters in one kernel; None if there is none."""
        if isinstance(self.base_layer, Nf4Linear) and self.base_layer.supports_rows(hidden):
            return self.base_layer.multiply_rows(hidden, columns)
        return None

    def _prompt_output(self, hidden: Tensor, added: LowRank) -> Tensor | None:
        """Multiply by the weights plus B A; None for few rows, or without weights to add to."""
        span, n_rows = self._selection.span, hidden.numel() // hidden.shape[-1]
        n_outputs, n_inputs = len(added.up), added.down.shape[1]
        # Compare the values read and written: results twice and rows, or the weights.
        if span is None or n_rows * (2 * n_outputs + n_inputs) <= 2 * n_outputs * n_inputs:
            return None
        base, selected = self.base_layer, added.select_ranks(span)
        if isinstance(base, Nf4Linear):
            return base.multiply_prompt(hidden, selected)
        weights = merged_weights(base, selected)
        return None if weights is None else nn.functional.linear(hidden, weights)

    def _summed_output(self, hidden: Tensor, added: LowRank, columns: Tensor) -> Tensor:
        """Add the output of each row's adapter to the output of the weights."""
        output: Tensor = self.base_layer(hidden)
        inner = nn.functional.linear(hidden, added.down) * columns
        # In place: the sum is rounded once, and a prefill needs no second tensor of that size.
        output.view(-1, len(added.up)).addmm_(inner.flatten(0, 1), added.up.T)
        return output


@dataclass(frozen=True)
class _AttachedAdapter:
    file: AdapterFile
    #: The adapter's rank, padded with zeros to a multiple of RANK_STEP.
    rank: int


class AdapterBank:
    """The adapters of one model, by their SHA-256."""

    def __init__(self, model: Any, base: BaseModel, slots: int) -> None:
        self._model, self._base = model, base
        self._device, self._dtype = model.device, model.dtype
        self._selection = RowSelection()
        self._layers: dict[str, MultiAdapterLinear] = {}
        self._fused_groups = {path: group for group in fused_layer_groups(model) for path in group}
        self._attached: dict[str, _AttachedAdapter] = {}
        self._used: list[str | None] = [None] * slots
        self._columns = torch.zeros(slots, 1, 0, device=self._device, dtype=self._dtype)
        self._number = torch.zeros(slots, dtype=torch.long, device=self._device)
        #: Changes whenever tensors move: CUDA graphs captured before are then invalid.
        self.layout = 0

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._attached

    def attach(self, folder: Path, sha256: str) -> None:
        """Read the adapter in `folder` and attach it beside the others.

        RequestRefused (kind `adapter`) when it does not fit this model.
        """
        if sha256 in self._attached:
            return
        file = read_adapter(folder, sha256, self._base, self._model)
        _check_ranks(folder, file)
        self._drop_unused()
        rank = max(tensors["A"].shape[0] for tensors in file.modules().values())
        self._attached[sha256] = _AttachedAdapter(file, ceil(rank / RANK_STEP) * RANK_STEP)
        try:
            self._rebuild()
        except BaseException:
            del self._attached[sha256]
            raise

    def select(self, slot: int, sha256: str | None) -> None:
        """Use this adapter, or none, for the slot's row from now on."""
        self._used[slot] = sha256
        if self._attached:
            self._columns[slot] = self._mask(sha256)
            set_entry(self._number, slot, self._number_of(sha256))

    def reset_rows(self) -> None:
        """Deselect all adapters and rebuild the tensors, which may be incomplete after an error."""
        self._used = [None] * len(self._used)
        self._rebuild()

    @contextmanager
    def for_prompt(self, sha256: str | None) -> Iterator[None]:
        """Run a forward pass of one row with this adapter."""
        if sha256 is not None:
            number = torch.tensor([self._number_of(sha256)])
            self._selection.columns = self._mask(sha256)[None]
            self._selection.number = upload(number, self._device)
            self._selection.span = self._span(sha256)
        yield from self._reset_after()

    @contextmanager
    def for_rows(self, n_rows: int, rows: Tensor | None = None) -> Iterator[None]:
        """Run a forward pass of the first rows, each with its own adapter.

        `rows` int64 [token] is the row of each token, unless each row has one.
        """
        if self._attached:
            columns, number = self._columns[:n_rows], self._number[:n_rows]
            self._selection.columns = columns if rows is None else columns[rows]
            self._selection.number = number if rows is None else number[rows]
        yield from self._reset_after()

    def _reset_after(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._selection.columns = self._selection.number = self._selection.span = None

    def _drop_unused(self) -> None:
        idle = [sha256 for sha256 in self._attached if sha256 not in self._used]
        for sha256 in idle[: max(0, len(self._attached) + 1 - MAX_ATTACHED)]:
            del self._attached[sha256]

    def _number_of(self, sha256: str | None) -> int:
        return 0 if sha256 is None else 1 + list(self._attached).index(sha256)

    def _span(self, sha256: str) -> slice:
        ranks = {name: member.rank for name, member in self._attached.items()}
        start = sum(ranks[name] for name in list(ranks)[: self._number_of(sha256) - 1])
        return slice(start, start + ranks[sha256])

    def _mask(self, sha256: str | None) -> Tensor:
        parts = [
            torch.full((member.rank,), float(name == sha256))
            for name, member in self._attached.items()
        ]
        return upload(torch.cat(parts)[None].to(self._dtype), self._device)

    def _rebuild(self) -> None:
        """Rebuild the tensors of every layer and the mask of every row."""
        self.layout += 1
        paths = {path for member in self._attached.values() for path in member.file.modules()}
        groups = {
            tuple(self._fused_groups.get(path, [path])) for path in paths | self._layers.keys()
        }
        for group in sorted(groups):
            self._rebuild_group(group)
        used = list(self._used)
        rank = sum(member.rank for member in self._attached.values())
        self._columns = torch.zeros(len(used), 1, rank, device=self._device, dtype=self._dtype)
        for slot, sha256 in enumerate(used):
            self.select(slot, sha256)

    def _layer(self, path: str) -> MultiAdapterLinear:
        if path not in self._layers:
            layer = MultiAdapterLinear(self._model.get_submodule(path), self._selection)
            self._model.set_submodule(path, layer)
            self._layers[path] = layer
        return self._layers[path]

    def _rebuild_group(self, paths: Sequence[str]) -> None:
        """Build the concatenated tensors of layers that share a product, or of a single layer."""
        layers = [self._layer(path) for path in paths]
        parts = [self._parts(layer, path) for layer, path in zip(layers, paths, strict=True)]
        added = LowRank.of(torch.cat([p.up for p in parts]), torch.cat([p.down for p in parts]))
        outputs, ranks = ([len(p.up) for p in parts], [len(p.down) for p in parts])
        for layer, up, down, limits in zip(
            layers,
            torch.split(added.up, outputs),
            torch.split(added.down, ranks),
            torch.split(added.down_limits, ranks),
            strict=True,
        ):
            layer.added = LowRank(up, down, limits)
            if isinstance(layer.base_layer, Nf4Linear):
                layer.base_layer.fused.adapters = added

    def _parts(self, layer: MultiAdapterLinear, path: str) -> LowRank:
        """Concatenate every adapter's matrices of a layer; sets the layer's DoRA factors."""
        base: Any = layer.base_layer
        # Without adapters, a pair of rank 0 remains.
        a, b = [torch.zeros(0, base.in_features)], [torch.zeros(base.out_features, 0)]
        factors = [torch.ones(base.out_features)]
        for member in self._attached.values():
            tensors = member.file.modules().get(path, {})
            down, up = _zero_padded(tensors, member.rank, base.in_features, base.out_features)
            up = up * _scaling(member.file.config)
            a.append(down)
            b.append(up)
            factors.append(_factor(tensors, base, down, up))
        plain = all(member.file.config.use_dora is False for member in self._attached.values())
        magnitude = torch.stack(factors).to(self._device, self._dtype)
        layer.magnitude = None if plain else magnitude
        return LowRank.of(
            torch.cat(b, dim=1).to(self._device, self._dtype),
            torch.cat(a).to(self._device, self._dtype),
        )


def merged_weights(linear: nn.Module, added: LowRank) -> Tensor | None:
    """A copy of a layer's weights plus B A, [out, in]; None if they exist in 4 bits only."""
    if type(linear) is nn.Linear and linear.bias is None:
        return torch.addmm(linear.weight, added.up, added.down)
    return None


def _check_ranks(folder: Path, file: AdapterFile) -> None:
    for path, tensors in file.modules().items():
        if not len(tensors["A"]) == tensors["B"].shape[1] == file.config.r:
            raise adapter_refused(folder, f"the matrices of {path} differ in rank")


def _zero_padded(
    tensors: dict[str, Tensor], rank: int, n_in: int, n_out: int
) -> tuple[Tensor, Tensor]:
    """A and B of one adapter in float32, padded with zeros; all zeros without such a layer."""
    down, up = torch.zeros(rank, n_in), torch.zeros(n_out, rank)
    if tensors:
        down[: len(tensors["A"])] = tensors["A"]
        up[:, : len(tensors["A"])] = tensors["B"]
    return down, up


def _scaling(config: Any) -> float:
    root = config.r**0.5 if config.use_rslora else config.r
    scaling: float = config.lora_alpha / root
    return scaling


def _factor(tensors: dict[str, Tensor], base: Any, down: Tensor, up: Tensor) -> Tensor:
    """DoRA's magnitude divided by each output's weight norm (Liu et al. 2024, arXiv:2402.09353)."""
    if "magnitude" not in tensors:
        return torch.ones(base.out_features)
    weight = dequantize_module_weight(base).float()
    whole = weight + (up.to(weight.device) @ down.to(weight.device))
    factor: Tensor = tensors["magnitude"].float() / whole.norm(dim=1).cpu()
    return factor
