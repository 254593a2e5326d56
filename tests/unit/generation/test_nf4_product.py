"""The host side of the NF4 product, and its kernel's instructions emulated on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import pytest
import torch
from bitsandbytes.functional import get_4bit_type
from hypothesis import given
from hypothesis import strategies as st

from models.kernels.nf4_dequantise import TABLE_FACTOR, dequantise_asm
from models.kernels.nf4_product import pack_scales
from models.kernels.nf4_tiling import fits, tiling_for

#: Largest relative error of a weight: from the table's value in bf16 and the product's rounding.
WORST = 2**-8 + 2**-8


class Lane:
    """One thread's registers; runs the few instructions that the kernel uses."""

    def __init__(self, **registers: int) -> None:
        self.registers = {f"${name[1:]}": value for name, value in registers.items()}

    def run(self, text: str) -> None:
        for statement in text.strip("{} ").split(";"):
            operation, _, rest = statement.strip().partition(" ")
            if operation and operation != ".reg":
                target, *sources = (name.strip() for name in rest.split(","))
                values = [self._value(name) for name in sources]
                self.registers[target] = _OPERATIONS[operation](*values)

    def _value(self, name: str) -> int:
        return self.registers[name] if name in self.registers else int(name, 0)


def _permute(a: int, b: int, selector: int) -> int:
    """PTX `prmt`: each of 4 bytes is one of 8, or 8 times its sign."""
    pool = a.to_bytes(4, "little") + b.to_bytes(4, "little")
    chosen = []
    for place in range(4):
        nibble = selector >> (4 * place) & 15
        byte = pool[nibble & 7]
        chosen.append((255 if byte & 128 else 0) if nibble & 8 else byte)
    return int.from_bytes(bytes(chosen), "little")


def _multiply_add(a: int, b: int, c: int) -> int:
    """PTX `fma.rn.bf16x2`: two products, each rounded once."""
    results = [
        (_bf16(a, half).double() * _bf16(b, half).double() + _bf16(c, half).double()).bfloat16()
        for half in (0, 1)
    ]
    low, high = (int(value.view(torch.int16)) & 0xFFFF for value in results)
    return low | high << 16


def _bf16(register: int, half: int) -> torch.Tensor:
    bits = register >> (16 * half) & 0xFFFF
    signed = bits - (bits >> 15 << 16)
    return torch.tensor(signed, dtype=torch.int16).view(torch.bfloat16)


_OPERATIONS: dict[str, Callable[..., int]] = {
    "mov.b32": lambda a: a,
    "and.b32": lambda a, b: a & b,
    "or.b32": lambda a, b: a | b,
    "shr.u32": lambda a, b: a >> b,
    "prmt.b32": _permute,
    "fma.rn.bf16x2": _multiply_add,
}


@pytest.mark.parametrize("scales", [(1e-3, 0.0173), (0.31, 0.0173)])
def test_every_byte_becomes_its_two_weights(scales: tuple[float, float]) -> None:
    code = get_4bit_type("nf4", device="cpu").tolist()
    for first in range(0, 256, 4):
        four = range(first, first + 4)
        got = _dequantise(list(four), scales)
        for byte, scale, (upper, lower) in zip(four, _each_twice(scales), got, strict=True):
            assert upper == pytest.approx(code[byte >> 4] * scale, rel=WORST)
            assert lower == pytest.approx(code[byte & 15] * scale, rel=WORST)


def test_weights_have_the_precision_of_bf16() -> None:
    code = get_4bit_type("nf4", device="cpu").double()
    scales = torch.rand(64, generator=torch.manual_seed(0)) + 0.01
    errors = []
    for scale in scales.tolist():
        got = _dequantise([n << 4 for n in range(3, 7)], (scale, scale))
        errors += [got[n][0] / (code[3 + n].item() * scale) - 1 for n in range(4)]
    assert torch.tensor(errors).pow(2).mean().sqrt() < 0.0025


def _dequantise(four_bytes: list[int], scales: tuple[float, float]) -> list[tuple[float, float]]:
    """Upper and lower half's weight of each byte, by the kernel's instructions.

    Two and two bytes have a scale of their own, as they are of two outputs.
    """
    registers = {"r4": int.from_bytes(bytes(four_bytes), "little")}
    for place, scale in enumerate(_each_twice(scales)):
        packed = int(pack_scales(torch.tensor([scale]), 1)) & 0xFFFFFFFF
        registers[f"r{5 + place}"] = packed & 0xFFFF0000 | packed >> 16
        registers[f"r{9 + place}"] = packed & 0xFFFF | packed << 16 & 0xFFFF0000
    lane = Lane(**registers)
    lane.run(dequantise_asm())
    values = [
        [float(_bf16(lane.registers[f"${register}"], half)) for half in (0, 1)]
        for register in range(4)
    ]
    return list(zip(values[0] + values[1], values[2] + values[3], strict=True))


def _each_twice(scales: tuple[float, float]) -> list[float]:
    return [scale for scale in scales for _ in range(2)]


@given(st.integers(1, 8), st.integers(1, 8), st.data())
def test_rounding_of_scales_is_smaller_than_rounding_of_products(
    n_outputs: int, n_blocks: int, data: st.DataObject
) -> None:
    values = data.draw(
        st.lists(
            st.floats(2**-20, 10.0, width=32),
            min_size=n_outputs * n_blocks,
            max_size=n_outputs * n_blocks,
        )
    )
    packed = pack_scales(torch.tensor(values), n_outputs)
    upper = (packed & -65536).view(torch.float32)
    lower = (packed << 16).view(torch.float32)
    restored = ((upper + lower) * TABLE_FACTOR).T.flatten()
    torch.testing.assert_close(restored, torch.tensor(values), rtol=2**-16, atol=0)


@given(
    st.integers(1, 256),
    st.lists(st.integers(1, 224), min_size=1, max_size=3),
    st.integers(1, 224),
    st.integers(1, 150),
)
def test_tiles_cover_matrices_exactly(
    n_rows: int, output_blocks: list[int], input_blocks: int, n_processors: int
) -> None:
    outputs, n_inputs = [64 * blocks for blocks in output_blocks], 64 * input_blocks
    n_outputs = sum(outputs)
    assert all(fits(n, n_inputs) for n in outputs)
    tiling = tiling_for(n_rows, outputs, n_inputs, n_processors)
    assert all(n % tiling.outputs == 0 for n in outputs)
    assert input_blocks % tiling.parts == 0
    assert tiling.rows * ceil(n_rows / tiling.rows) >= n_rows
    # As many blocks of threads as are counted with find registers
    assert (3 if n_rows <= 128 else 2) * 32 * tiling.warps * tiling.registers <= 1 << 16
    assert n_outputs // tiling.outputs * ceil(n_rows / tiling.rows) <= 1 << 12


def test_sizes_that_are_not_a_multiple_of_a_block_are_unsupported() -> None:
    assert not fits(4096, 100)
    assert not fits(100, 4096)
