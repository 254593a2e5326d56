"""Our attention kernels on CUDA, compared with float32, and their selection."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

import pytest
import torch

from errors import MissingPart
from models.kernels import attention_selection, decode_attention
from models.kernels.attention_backends import CudnnPrompt, SdpaPrompt, TorchFlashPrompt, TritonStep
from models.kernels.attention_selection import select_attention
from models.kernels.device_support import NO_COMPILER
from models.kernels.fp8 import FP8
from models.kernels.paged_cache import CacheShape
from tests.decode_attention_cases import Case, attended, expected, random_case, relative_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

GPU = torch.device("cuda")
#: Tokens at, before and behind the edges of blocks (256) and of splits (1,024).
LENGTHS = (1, 70, 255, 256, 257, 1023, 1024, 1025, 2600)
#: Rounding of queries, weights and results; keys and values are those of the cache.
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 0.005, FP8: 0.005}
LLAMA_8B = CacheShape(1, 8, 128, torch.bfloat16, GPU)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("queries", [1, 2, 8])
@pytest.mark.parametrize(("dim", "group"), [(128, 4), (128, 8), (64, 3), (64, 1)])
def test_results_are_those_of_float32(
    dtype: torch.dtype, queries: int, dim: int, group: int
) -> None:
    case = random_case(LENGTHS, dtype, GPU, queries=queries, dim=dim, group=group)
    found = attended(case)
    assert relative_error(found, expected(case)) < TOLERANCE[dtype]
    assert torch.equal(found, attended(case))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_rows_may_differ_in_their_number_of_tokens(dtype: torch.dtype) -> None:
    counts = [1, 4, 2, 1, 3, 4, 1, 1, 2]
    case = random_case(LENGTHS, dtype, GPU, queries=4)
    found, wanted = attended(case, counts=counts), expected(case)
    used = [(row, token) for row, n in enumerate(counts) for token in range(n)]
    rows, tokens = (list(column) for column in zip(*used, strict=True))
    assert relative_error(found[rows, tokens], wanted[rows, tokens]) < TOLERANCE[dtype]
    alone = attended(case)
    assert torch.equal(found[rows, tokens], alone[rows, tokens])
    found[rows, tokens] = 0.0
    assert (found == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, FP8], ids=str)
def test_a_rows_result_does_not_depend_on_other_rows(dtype: torch.dtype) -> None:
    case = random_case(LENGTHS, dtype, GPU)
    together = attended(case)
    for row in range(len(LENGTHS)):
        assert torch.equal(attended(case.rows(row)), together[row : row + 1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, FP8], ids=str)
def test_a_graph_reads_the_lengths_and_blocks_of_its_replay(dtype: torch.dtype) -> None:
    case = random_case(LENGTHS, dtype, GPU)
    attended(case)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = attended(case)
    case.lengths.copy_(case.lengths.flip(0))
    case.tables.copy_(case.tables.flip(0))
    graph.replay()
    assert relative_error(found, expected(case)) < TOLERANCE[dtype]


@pytest.mark.parametrize("attention", [CudnnPrompt(), TorchFlashPrompt()], ids=lambda a: a.name)
@pytest.mark.parametrize("n_tokens", [1, 127, 128, 1000])
def test_prompts_are_attended_to_as_by_float32(attention: CudnnPrompt, n_tokens: int) -> None:
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(1, n_tokens, heads, 128, device=GPU, dtype=torch.bfloat16)
        for heads in (32, 8, 8)
    )
    found = attention(query, key, value, 0.1)
    assert found.shape == query.shape
    exact = SdpaPrompt()(query.float(), key.float(), value.float(), 0.1)
    assert relative_error(found, exact) < 0.005


@pytest.mark.parametrize("dtype", [torch.bfloat16, FP8], ids=str)
def test_a_plain_installation_gets_our_kernels(dtype: torch.dtype) -> None:
    shape = CacheShape(1, 8, 128, dtype, GPU)
    selected = select_attention(shape, 32, "triton")
    assert selected.step.name == "triton"
    assert selected.step.capturable
    assert selected.prompt.name in ("cudnn", "torch_flash")
    assert "triton" in selected.reason


def test_what_is_wrong_is_not_selected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(TritonStep, "__call__", lambda *_: torch.zeros(29, 32, 128, device=GPU))
    with caplog.at_level(logging.WARNING), pytest.raises(MissingPart, match="cannot be used"):
        select_attention(LLAMA_8B, 32, "triton")
    assert "triton attention is not used: its error is 1.0" in caplog.text
    assert select_attention(LLAMA_8B, 32).step.name != "triton"


def test_without_memory_to_measure_our_kernels_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_selection, "_STEP_BYTES", 1 << 50)
    selected = select_attention(LLAMA_8B, 32)
    assert selected.step.name == "triton"
    assert "for lack of memory" in selected.reason


def test_one_warning_says_what_a_missing_compiler_costs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decode_attention, "triton_unavailable", lambda: NO_COMPILER)
    with caplog.at_level(logging.WARNING):
        selected = select_attention(LLAMA_8B, 32)
    assert selected.step.name != "triton"
    assert [record.getMessage() for record in caplog.records if NO_COMPILER in record.getMessage()]


def test_the_cache_is_read_at_nearly_the_copy_rate() -> None:
    copied = torch.empty(1 << 31, dtype=torch.uint8, device=GPU)
    target = torch.empty_like(copied)
    copy_rate = 2 * copied.numel() / _seconds(lambda: target.copy_(copied))
    for dtype, rows in itertools.product((torch.bfloat16, FP8), (30, 113, 190)):
        case = random_case([9_000] * rows, dtype, GPU, group=4, kv_heads=8)
        n_bytes = rows * 9_000 * 2 * 8 * 128 * dtype.itemsize
        rate = n_bytes / _seconds(_captured(case).replay)
        print(f"{dtype} {rows} rows: {rate / 1e12:.2f} of {copy_rate / 1e12:.2f} TB/s")
        # The conversion of fp8 to float16 is hidden behind the reads of many rows only: 113 rows
        # were read at 88 to 92 % on four cards.
        least = 0.9 if dtype == torch.bfloat16 else 0.85 if rows > 100 else 0.75
        assert rate > least * copy_rate


def _captured(case: Case) -> torch.cuda.CUDAGraph:
    """A graph, as engines use them: it is started in no time."""
    attended(case)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        attended(case)
    return graph


def _seconds(run: Callable[[], object]) -> float:
    times = []
    for _ in range(7):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return sorted(times)[3]
