"""PTX instructions that turn NF4 bytes into bf16 weights by table look-up."""

from __future__ import annotations

import torch
from bitsandbytes.functional import get_4bit_type
from torch import Tensor

#: The table of 16 values is kept in bf16, multiplied by this, and the scales divided by it: of all
#: factors from 1 to 2 the one whose products lose least in rounding (0.08 % in root mean square).
TABLE_FACTOR = 1.43675


def dequantise_asm() -> str:
    """Instructions that turn 4 bytes into their 8 weights, pairs of bf16 in 4 registers.

    $0 and $1 get the upper halves' weights, $2 and $3 the lower ones'; $4 holds the bytes, $5 to $8
    their scales' upper parts, twice each, $9 to $12 the lower ones. Only two and two bytes are of
    one output. A byte of the table is looked up for four weights at once: `prmt` picks from 8 bytes
    by 3 bits, the fourth bit chooses between two picks.
    """
    upper, lower = _table_words()
    lines = [".reg .b32 bits, high, a, b, u, l, pair, rest, none;"]
    lines += [f".reg .b32 U{i}, L{i};" for i in range(4)]
    lines += [f"mov.b32 U{i}, {word:#010x};" for i, word in enumerate(upper)]
    lines += [f"mov.b32 L{i}, {word:#010x};" for i, word in enumerate(lower)]
    lines += ["mov.b32 none, 0x80008000;"]  # minus zero twice: adds nothing
    lines += ["and.b32 bits, $4, 0x77777777;"]
    lines += ["shr.u32 high, $4, 1;", "and.b32 high, high, 0x44444444;"]
    lines += ["or.b32 high, high, 0x32103210;"]
    for pair in (0, 1):
        if pair:
            lines += ["shr.u32 bits, bits, 16;", "shr.u32 high, high, 16;"]
        for plane, name in (("U", "u"), ("L", "l")):
            lines += [f"prmt.b32 a, {plane}0, {plane}1, bits;"]
            lines += [f"prmt.b32 b, {plane}2, {plane}3, bits;"]
            lines += [f"prmt.b32 {name}, a, b, high;"]
        for target, order in ((pair, 0x7351), (2 + pair, 0x6240)):
            lines += [f"prmt.b32 pair, l, u, {order:#x};"]
            lines += [f"fma.rn.bf16x2 rest, pair, ${9 + 2 * pair}, none;"]
            lines += [f"fma.rn.bf16x2 ${target}, pair, ${5 + 2 * pair}, rest;"]
    return "{" + " ".join(lines) + "}"


def _table_words() -> tuple[list[int], list[int]]:
    """The 16 values' upper bytes in 4 words, and their lower bytes."""
    table = get_4bit_type("nf4", device="cpu").double() * TABLE_FACTOR
    values = [bits & 0xFFFF for bits in _bits(table.bfloat16()).tolist()]
    planes = [bits >> 8 for bits in values], [bits & 0xFF for bits in values]
    upper, lower = (
        [int.from_bytes(bytes(plane[i : i + 4]), "little") for i in range(0, 16, 4)]
        for plane in planes
    )
    return upper, lower


def _bits(values: Tensor) -> Tensor:
    return values.view(torch.int16).int()
