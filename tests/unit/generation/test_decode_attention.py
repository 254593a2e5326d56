"""Our attention kernels without a GPU: by Triton's interpreter, and compiled for every GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from errors import MissingPart
from models.kernels.attention_selection import select_attention
from models.kernels.decode_attention import unavailable
from models.kernels.paged_cache import CacheShape
from tests.triton_interpreter import interpreted

CPU = torch.device("cpu")
#: Compute capabilities from Ampere to Blackwell.
CAPABILITIES = (80, 86, 89, 90, 100, 120)
#: Shared memory that a block of threads can have, in bytes: that of 8.6, 8.9 and 12.0.
SHARED_MEMORY = 99 * 1024
#: Run by Triton's interpreter.
_INTERPRETED = """
import torch
from tests.decode_attention_cases import attended, expected, random_case, relative_error

for dtype, queries, dim, group in (
    (torch.float32, 1, 128, 4),
    (torch.float32, 8, 64, 3),
    (torch.float8_e4m3fn, 1, 128, 4),
    (torch.float8_e4m3fn, 8, 64, 1),
):
    case = random_case(
        (1, 70, 256, 1025), dtype, torch.device("cpu"), queries=queries, dim=dim, group=group
    )
    print(relative_error(attended(case, ptx=False), expected(case)))

counts = (1, 3, 8, 2)
case = random_case((1, 70, 256, 1025), torch.float32, torch.device("cpu"), queries=8, dim=64)
found, wanted = attended(case, counts=counts, ptx=False), expected(case)
used = [(row, token) for row, n in enumerate(counts) for token in range(n)]
rows, tokens = (list(column) for column in zip(*used))
print(relative_error(found[rows, tokens], wanted[rows, tokens]))
found[rows, tokens] = 0
print(found.abs().max().item())
"""


def test_results_are_those_of_float32() -> None:
    printed = interpreted(_INTERPRETED)
    exact, exact_8, fp8, fp8_8, ragged, padding = map(float, printed)
    assert max(exact, exact_8, ragged) < 1e-6
    assert padding == 0
    assert max(fp8, fp8_8) < 0.005


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_kernels_compile_for_every_gpu_since_ampere(
    capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from tests.triton_compilation import compiled_decode_attention

    for dtype, queries in ((torch.bfloat16, 8), (torch.float8_e4m3fn, 1)):
        kernel = compiled_decode_attention(capability, dtype, queries)
        assert kernel.asm["cubin"]
        assert kernel.metadata.shared <= SHARED_MEMORY
        # Tiles go from memory to tensor cores without a detour: e4m3 in pairs, by ldmatrix.
        assert "cp.async" in kernel.asm["ptx"]
        assert "ldmatrix" in kernel.asm["ptx"]


def test_a_cpu_gets_pytorchs_attention() -> None:
    assert unavailable(CPU, 128) == "no GPU"
    shape = CacheShape(1, 8, 128, torch.float32, CPU, torch.float32)
    for wanted in ("auto", "sdpa"):
        assert select_attention(shape, 32, wanted).name == "sdpa"
    with pytest.raises(MissingPart, match="REFEREE_ATTENTION=triton needs an NVIDIA GPU"):
        select_attention(shape, 32, "triton")
