"""FP8 products without a GPU: the rounding of rows interpreted, the kernels compiled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from models.kernels.fp8_product import unavailable
from models.kernels.nf4_product import LowRank
from models.kernels.prompt_arithmetic import PromptArithmetic
from tests.triton_interpreter import interpreted

CPU = torch.device("cpu")
#: Compute capabilities with FP8 tensor cores.
CAPABILITIES = (89, 90, 100, 120)
#: Run by Triton's interpreter.
_INTERPRETED = """
import torch
from models.kernels.fp8 import FP8
from models.kernels.fp8_product import quantise_rows

torch.manual_seed(0)
rows = torch.randn(7, 576) * torch.logspace(-6, 4, 7)[:, None]
rows[0] = 0.0
rows[3, 100] = 1e4
found = quantise_rows(rows)
wanted = rows / found.scales
# Triton's interpreter truncates numbers below 2**-6, and loses the carry of a number that is
# rounded up to a power of two: tests/gpu compares every value with PyTorch's rounding.
carried = torch.frexp(wanted.to(FP8).float())[0].abs() == 0.5
error = (found.values.float() - wanted).abs()
print(((error <= (wanted.abs() / 15).clamp(min=2**-9)) | carried).all().item())
print((found.scales[:, 0] * 448 - rows.abs().amax(1)).abs().max().item())
print(found.values[0].float().abs().max().item(), carried.float().mean().item())
"""


def test_rows_are_rounded_in_units_of_their_largest_value() -> None:
    printed = interpreted(_INTERPRETED)
    equal, scale_error, zeros, left_out = printed
    assert equal == "True"
    assert float(scale_error) < 0.01
    assert float(zeros) == 0
    assert float(left_out) < 0.2


_STORED = """
import torch
from models.kernels.fp8 import FP8
from models.kernels.fp8_product import store_in_units

torch.manual_seed(0)
# Numbers that e4m3 holds: Triton's interpreter rounds others, and NaN, differently
keys, values = (torch.randn(2, 5, 6, 16) * 20).to(FP8).float()
keys[2] = 1e9
pools = [torch.zeros(3, 4, 6, 16, dtype=FP8) for _ in range(2)]
slot_mapping, rows = torch.tensor([4, 11, 5, 9, 0]), torch.tensor([1, 0, 1, 2, 2])
scales = 2.0 ** torch.randint(-2, 3, (2, 3, 6))
for rows in (rows, None):
    unit = scales[:, rows if rows is not None else [0] * 5][..., None]
    # In one piece, and as views of a tensor [token, head, kind, dim]
    for each in ((keys, values), torch.stack([keys, values], 2).unbind(2)):
        store_in_units(*(e * u for e, u in zip(each, unit)), *pools, slot_mapping, scales, rows)
        for pool, wanted in zip(pools, (keys, values)):
            stored = pool.view(12, 6, 16)[slot_mapping].float()
            print(torch.equal(stored, wanted.clamp(-448, 448)))
"""


def test_tokens_are_stored_in_units_of_their_rows() -> None:
    printed = interpreted(_STORED)
    assert printed == ["True"] * 8


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_kernels_compile_for_every_gpu_with_fp8(
    capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from tests.triton_compilation import (
        compiled_dequantise_to_fp8,
        compiled_quantise_row,
        compiled_store_token_in_units,
    )

    for kernel in (
        compiled_store_token_in_units(capability),
        compiled_quantise_row(capability),
        compiled_dequantise_to_fp8(capability, added=False),
        compiled_dequantise_to_fp8(capability, added=True),
    ):
        assert "cvt.rn.satfinite.e4m3x2" in kernel.asm["ptx"]


def test_a_low_rank_product_never_exceeds_its_limits() -> None:
    torch.manual_seed(0)
    for scale in (1e-3, 1.0, 30.0):
        added = LowRank.of(torch.randn(64, 32) * scale, torch.randn(32, 128))
        product = (added.up @ added.down).abs().amax(dim=1)
        assert (product <= added.up.abs() @ added.down_limits).all()
        part = added.select_ranks(slice(16, 32))
        assert torch.equal(part.down_limits, part.down.abs().amax(dim=1))


def test_without_a_gpu_every_prompt_is_read_exactly() -> None:
    assert unavailable(CPU) == "no GPU"
    arithmetic = PromptArithmetic(nn.Sequential(nn.Linear(64, 64)))
    assert arithmetic.available == ("exact",)
    assert arithmetic.choose("fp8") == "exact"
    assert PromptArithmetic(nn.Linear(1, 1), allow_fp8=False).fp8_unavailable == "switched off"
