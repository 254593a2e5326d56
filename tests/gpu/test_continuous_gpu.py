"""ContinuousEngine on CUDA generates the reference engine's tokens, for all kernels and modes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig

from errors import EngineLost
from models.engines.capacity import limit_gpu_memory
from models.engines.continuous import ContinuousEngine, EngineOptions
from models.engines.decoder import Decoder
from models.engines.generate import GenerateEngine
from models.hashes import adapter_sha256
from models.kernels.attention_backends import FLASH_PACKAGES, FlashStep, SdpaStep, TritonStep
from models.kernels.attention_selection import AttentionName
from models.kernels.device_support import Precision
from models.kernels.fp8 import FP8
from models.kernels.fp8_product import unavailable
from models.kernels.paged_attention import DecodePlan, StepAttention
from models.kernels.paged_cache import CacheKind, CacheShape, PagedCache
from models.text.aspects import FOUR
from models.text.generation import Arithmetic, GenerationRequest
from models.weights.loading import LoadedModel, load
from testing.small_models import small_base, small_model_folder, write_tiny_llama
from testing.teacher_forcing import Reference, make_decoder, read_answers
from tests.engine_cases import (
    LLAMA31,
    REQUEST,
    compare_with_reference,
    load_exact,
    mixed_requests,
    write_adapters,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

GPU = torch.device("cuda")
#: Answer tokens whose scores are compared: 2,048 positions in 8 prompts.
REFERENCE_TOKENS = 256
PRECISIONS = (torch.float32, torch.bfloat16)
#: Enough tokens for a guided review of four aspects.
GUIDED_TOKENS = 240
#: Lengths below, at and above one block of 256 tokens.
PROMPT_TOKENS = (40, 255, 256, 257, 511, 700, 1000, 1300)
#: Largest share of positions whose best token may differ, and the largest difference between the
#: reference's two best scores there, in standard deviations: for rounding to a mantissa of 8 bits,
#: or of 3 bits in the cache.
TOLERANCE = {"bf16": (0.01, 0.1), "fp8": (0.03, 0.5)}
KERNELS = ["triton", *(name for name, package in FLASH_PACKAGES.items() if find_spec(package))]
#: Weights, cache and kernel; FlashAttention-2 does not support an fp8 cache.
READERS = [
    (weights, kind, kernel)
    for weights, kind in (("nf4", "bf16"), ("bf16", "bf16"), ("nf4", "fp8"))
    for kernel in KERNELS
    if kind == "bf16" or kernel != "flash_attention_2"
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with the head dimension of the 8B."""
    return write_tiny_llama(
        tmp_path_factory.mktemp("llama31"), "llama31", hidden_size=512, num_attention_heads=4
    )


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_adapters(folder, tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="module")
def mild_adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An adapter of the small model with small weights, so that its text remains plausible."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(small_model_folder(), dtype=torch.float32)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        init_lora_weights=False,
        target_modules="all-linear",
        r=16,
        lora_alpha=1,
    )
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = small_base().hub
    folder = tmp_path_factory.mktemp("mild")
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder, adapter_sha256(folder)


def load_as(folder: Path, weights: Any) -> LoadedModel:
    return load(
        folder,
        LLAMA31.base,
        template=LLAMA31.template,
        weights=weights,
        device=GPU,
        attention="sdpa",
    )


def load_small(weights: Any, dtype: torch.dtype = torch.bfloat16) -> LoadedModel:
    return load(
        small_model_folder(),
        small_base(),
        template="chatml",
        weights=weights,
        device=GPU,
        attention="sdpa",
        precision=Precision(dtype, "for the test"),
    )


def decoder_of(
    loaded: LoadedModel, rows: int, *, graphs: bool, attention: AttentionName
) -> Decoder:
    """A decoder of `rows` slots of 2,048 tokens."""
    build = partial(Decoder, graphs=graphs)
    return make_decoder(loaded, build, slots=rows, max_tokens=2048, attention=attention)


def prompts() -> list[tuple[int, ...]]:
    draw = torch.Generator().manual_seed(1)
    return [tuple(torch.randint(0, 250, (n,), generator=draw).tolist()) for n in PROMPT_TOKENS]


def texts(tokenizer: Tokenizer) -> list[tuple[int, ...]]:
    """Prompts of English text, from a file that does not change."""
    words = (Path(__file__).resolve().parents[2] / "LICENSE").read_text()
    ids = tokenizer.encode(words, add_special_tokens=False).ids
    return [tuple(ids[place * 100 : place * 100 + n]) for place, n in enumerate(PROMPT_TOKENS)]


@cache
@torch.inference_mode()
def greedy_references(
    weights: str, adapter: tuple[Path, str] | None
) -> tuple[list[Reference], Tensor, float]:
    """Greedy answers of transformers' own model in float32, and its scores.

    Scores are [prompt, answer token, vocabulary]; the last number is the share of positions where
    the best token of the same model in bf16 differs.
    """
    exact, rounded = (adapted_small(weights, adapter, dtype) for dtype in PRECISIONS)
    references = generate_greedily(exact, texts(exact.tokenizer))
    expected = plain_scores(exact, references)
    differs = plain_scores(rounded, references).argmax(-1) != expected.argmax(-1)
    return references, expected, differs.float().mean().item()


def adapted_small(
    weights: str, adapter: tuple[Path, str] | None, dtype: torch.dtype
) -> LoadedModel:
    loaded = load_small(weights, dtype)
    if adapter is not None:
        loaded.adapters.attach(*adapter)
        loaded.adapters.activate(adapter[1])
    return loaded


@torch.inference_mode()
def plain_scores(loaded: LoadedModel, references: list[Reference]) -> Tensor:
    """Scores [prompt, answer token, vocabulary] of transformers' own model."""
    scores = []
    for reference in references:
        ids = torch.tensor([reference.prompt + reference.answer[:-1]], device=GPU)
        kept = len(reference.answer)
        scores.append(loaded.model(ids, logits_to_keep=kept).logits[0].float())
    return torch.stack(scores)


def generate_greedily(loaded: LoadedModel, prompts: list[tuple[int, ...]]) -> list[Reference]:
    """Greedy answers of a fixed length to a batch of prompts."""
    longest = max(map(len, prompts))
    padded = torch.tensor([(0,) * (longest - len(p)) + p for p in prompts], device=GPU)
    seen = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=GPU)
    ids = loaded.model.generate(
        padded,
        attention_mask=seen,
        generation_config=GenerationConfig(
            max_new_tokens=REFERENCE_TOKENS, do_sample=False, eos_token_id=-1, pad_token_id=0
        ),
    )
    answers = ids[:, longest:].tolist()
    return [Reference(p, tuple(a)) for p, a in zip(prompts, answers, strict=True)]


def teacher_forced_scores(
    loaded: LoadedModel,
    references: list[Reference],
    kv_cache: CacheKind,
    adapter: tuple[Path, str] | None,
    attention: AttentionName,
) -> Tensor:
    """The decoder's scores [prompt, answer token, vocabulary] on the references' tokens."""
    steps = read_answers(
        loaded,
        references,
        lambda scores, _: scores.clone(),
        adapter=adapter and adapter[0],
        kv_cache=kv_cache,
        attention=attention,
    )
    return torch.stack(steps, dim=1)


@pytest.mark.timeout(300)
def test_mixed_requests_match_the_reference_engine(folder: Path, adapters: dict[str, Path]) -> None:
    options = EngineOptions(max_tokens=2048, slots=12)
    find = adapters.__getitem__
    reference = GenerateEngine(load_exact(folder, "cuda"), find_adapter=find)
    engine = ContinuousEngine(load_exact(folder, "cuda"), find_adapter=find, options=options)
    try:
        compare_with_reference(engine, reference, mixed_requests(64, list(adapters)))
    finally:
        engine.close()
        reference.close()


@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapter"])
@pytest.mark.parametrize(("weights", "kv_cache", "kernel"), READERS)
def test_every_attention_matches_the_reference_model(
    weights: str,
    kv_cache: CacheKind,
    adapted: bool,
    kernel: AttentionName,
    mild_adapter: tuple[Path, str],
    record_property: Callable[[str, object], None],
) -> None:
    adapter = mild_adapter if adapted else None
    references, expected, floor = greedy_references(weights, adapter)
    found = teacher_forced_scores(load_small(weights), references, kv_cache, adapter, kernel)
    differs = found.argmax(-1) != expected.argmax(-1)
    best, second = expected.topk(2, dim=-1).values.unbind(-1)
    margins = (best - second) / expected.std()
    widest = margins[differs].max().item() if differs.any() else 0.0
    record_property("disagree", differs.float().mean().item())
    record_property("widest_margin", widest)
    record_property("disagree_of_plain_bf16", floor)
    share, close = TOLERANCE[kv_cache]
    # At nearly all positions the best token is the same
    assert differs.float().mean() <= share
    # And where it differs, the reference's two best scores are close
    assert widest < close


@pytest.mark.parametrize("kernel", KERNELS)
def test_graph_replay_matches_eager_steps(
    kernel: AttentionName, folder: Path, adapters: dict[str, Path]
) -> None:
    answers = []
    for graphs in (False, True):
        with torch.inference_mode():
            answers.append(_decoded(load_as(folder, "nf4"), adapters, kernel, graphs=graphs))
    assert answers[0] == answers[1]
    assert all(len(set(answer)) > 1 for answer in answers[0])


def _decoded(
    loaded: LoadedModel, adapters: dict[str, Path], kernel: AttentionName, *, graphs: bool
) -> list[list[int]]:
    """Answers of four rows with and without adapters, always in a step of four."""
    decoder = decoder_of(loaded, 4, graphs=graphs, attention=kernel)
    for slot, (prompt, adapter) in enumerate(zip(prompts()[2:6], [None, *adapters], strict=True)):
        if adapter is not None:
            decoder._bank.attach(adapters[adapter], adapter)
        request = replace(REQUEST, seed=slot, temperature=slot / 2, guided=slot == 3)
        request = replace(request, max_new_tokens=GUIDED_TOKENS)
        decoder._cache.reserve(slot, len(prompt) + GUIDED_TOKENS)
        decoder.prefill(slot, request, prompt, adapter)
    for _ in range(GUIDED_TOKENS):
        ended = decoder.step(4)
    ended.read()
    return [decoder.answer(slot) for slot in range(4)]


@pytest.mark.parametrize("kernel", KERNELS)
@torch.inference_mode()
def test_reading_an_answer_does_not_wait_for_the_device(
    kernel: AttentionName, folder: Path
) -> None:
    decoder, prompt = (
        decoder_of(load_as(folder, "nf4"), 1, graphs=False, attention=kernel),
        prompts()[0],
    )
    decoder._cache.reserve(0, len(prompt) + 3)
    decoder.prefill(0, replace(REQUEST, max_new_tokens=3, guided=False), prompt, None)
    for _ in range(3):
        ended = decoder.step(1)
    ended.read()
    wanted, done = decoder.answer(0), torch.cuda.Event()
    torch.cuda._sleep(1 << 31)  # about a second
    done.record()
    assert decoder.answer(0) == wanted
    assert not done.query()


def test_engine_stays_within_its_memory_limit(folder: Path) -> None:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    limit = torch.cuda.memory_reserved() + (3 << 30)
    loaded = load_as(folder, "nf4")
    options = EngineOptions(max_tokens=2048, memory_limit=limit)
    limit_gpu_memory(limit)
    engine = ContinuousEngine(loaded, options=options)
    try:
        requests = [replace(r, adapter_sha256=None) for r in mixed_requests(64, [])]
        futures = [engine.submit(request) for request in requests]
        assert all(future.result(120).n_output_tokens for future in futures)
        assert torch.cuda.max_memory_reserved() <= limit
    finally:
        engine.close()
        limit_gpu_memory(None)


@pytest.mark.parametrize("arithmetic", ["exact", "fp8"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_non_finite_prompt_fails_only_its_own_request(
    kernel: AttentionName,
    arithmetic: Arithmetic,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = replace(REQUEST, token_ids=prompts()[-1], messages=(), arithmetic=arithmetic)
    loaded = load_as(folder, "nf4")
    engine = ContinuousEngine(
        loaded, options=EngineOptions(max_tokens=2048, slots=1, attention=kernel)
    )
    prefill, factor = engine._decoder.prefill, [1.0]
    embed = loaded.model.get_input_embeddings()
    embed.register_forward_hook(lambda module, ids, embedded: embedded * factor[0])

    def prefill_with_nan(slot: int, request: GenerationRequest, *rest: Any) -> None:
        factor[0] = float("nan") if request.id == "bad" else 1.0
        prefill(slot, request, *rest)

    monkeypatch.setattr(engine._decoder, "prefill", prefill_with_nan)
    try:
        before = engine.submit(wanted).result(120)
        with pytest.raises(EngineLost, match="not finite"):
            engine.submit(replace(wanted, id="bad")).result(120)
        assert engine.submit(wanted).result(120).token_ids == before.token_ids
    finally:
        engine.close()


def test_fp8_prompts_change_no_other_request(folder: Path, adapters: dict[str, Path]) -> None:
    """An FP8 prompt is read as its request says, and the next exact one as if alone."""
    if reason := unavailable(GPU):
        pytest.skip(reason)
    sha256, path = next(iter(adapters.items()))
    exact = replace(REQUEST, token_ids=prompts()[-1], messages=())
    engine = ContinuousEngine(
        load_as(folder, "nf4"),
        find_adapter=lambda _: path,
        options=EngineOptions(max_tokens=2048, slots=1),
    )
    try:
        for adapter in (None, sha256):
            request = replace(exact, adapter_sha256=adapter)
            before, fp8, again, after = (
                engine.submit(replace(request, arithmetic=each)).result(120)
                for each in ("exact", "fp8", "fp8", "exact")
            )
            assert (before.arithmetic, fp8.arithmetic) == ("exact", "fp8")
            assert before.token_ids == after.token_ids
            assert fp8.token_ids == again.token_ids
    finally:
        engine.close()
    engine = ContinuousEngine(
        load_as(folder, "nf4"),
        options=EngineOptions(max_tokens=2048, slots=1, fp8_prompts=False),
    )
    try:
        assert engine.submit(replace(exact, arithmetic="fp8")).result(120).arithmetic == "exact"
    finally:
        engine.close()


# PyTorch warns at the first use that the mode does not detect every synchronisation.
@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
@pytest.mark.parametrize("kernel", KERNELS)
@torch.inference_mode()
def test_admitting_and_removing_a_paper_does_not_synchronise(
    kernel: AttentionName, folder: Path, adapters: dict[str, Path]
) -> None:
    decoder = decoder_of(load_as(folder, "nf4"), 2, graphs=True, attention=kernel)
    sha256, path = next(iter(adapters.items()))
    decoder._bank.attach(path, sha256)
    prompt = prompts()[3]

    def admit_and_remove(adapter: str | None) -> None:
        decoder._cache.reserve(0, len(prompt) + 1)
        decoder.prefill(0, replace(REQUEST, max_new_tokens=1, guided=False), prompt, adapter)
        decoder.step(1)
        decoder.clear_slot(0)
        decoder._cache.release(0)

    for adapter in (None, sha256):
        # The first call may synchronise: it compiles kernels and allocates memory
        admit_and_remove(adapter)
        try:
            torch.cuda.set_sync_debug_mode("error")
            admit_and_remove(adapter)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("kernel", KERNELS)
def test_async_steps_and_graphs_do_not_change_tokens(
    kernel: AttentionName, folder: Path, adapters: dict[str, Path]
) -> None:
    requests = [
        replace(request, adapter_sha256=None, form=FOUR)
        for request in mixed_requests(12, list(adapters))
    ]
    answers = []
    # One slot, so that every step has the same shape
    for graphs, async_steps in ((False, False), (True, False), (True, True)):
        options = EngineOptions(
            max_tokens=2048,
            slots=1,
            attention=kernel,
            graphs=graphs,
            async_steps=async_steps,
        )
        engine = ContinuousEngine(load_as(folder, "nf4"), options=options)
        try:
            futures = [engine.submit(request) for request in requests]
            answers.append([future.result(120).token_ids for future in futures])
        finally:
            engine.close()
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("kernel", [k for _, kind, k in READERS if kind == "fp8"])
def test_an_fp8_cache_is_read_as_it_was_stored(kernel: AttentionName) -> None:
    torch.manual_seed(0)
    rows, heads, dim, lengths = 3, 4, 128, [700, 256, 33]
    shape = CacheShape(1, heads, dim, FP8, GPU)
    sizes = {"n_blocks": 24, "slots": rows, "max_tokens": 1024}
    paged = PagedCache(shape, block_tokens=256, **sizes)
    whole = PagedCache(shape, block_tokens=1024, **sizes)
    for slot, length in enumerate(lengths):
        prompt = torch.randn(2, length, heads, dim, device=GPU, dtype=torch.bfloat16)
        prompt *= torch.tensor([3.0, 0.01], device=GPU)[:, None, None, None]
        for blocks in (paged, whole):
            blocks.reserve(slot, length)
            blocks.write_prompt(0, slot, blocks.slot_mapping(slot, length), *prompt)
    query = torch.randn(rows, 8 * heads, dim, device=GPU, dtype=torch.bfloat16)
    found, expected = (
        attention(query, 0, _reads(blocks, lengths), dim**-0.5)
        for attention, blocks in ((step_attention(kernel), paged), (SdpaStep(), whole))
    )
    assert (found - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [(kernel, kind) for weights, kind, kernel in READERS if weights == "nf4"],
)
def test_cache_beyond_the_prompt_is_not_read(kernel: AttentionName, kind: CacheKind) -> None:
    lengths, heads, dim = [700, 256, 33, 1000], 8, 128
    shape = CacheShape(1, heads, dim, FP8 if kind == "fp8" else torch.bfloat16, GPU)
    answers = []
    for earlier in (0.0, float("nan")):
        torch.manual_seed(0)
        cache = PagedCache(shape, n_blocks=24, block_tokens=256, slots=4, max_tokens=1280)
        cache.keys.fill_(earlier)
        cache.values.fill_(earlier)
        for slot, length in enumerate(lengths):
            cache.reserve(slot, length + 200)
            prompt = torch.randn(2, length, heads, dim, device=GPU, dtype=torch.bfloat16)
            cache.write_prompt(0, slot, cache.slot_mapping(slot, length), *prompt)
        query = torch.randn(4, 4 * heads, dim, device=GPU, dtype=torch.bfloat16)
        plan = _reads(cache, lengths)
        answers.append(step_attention(kernel)(query, 0, plan, dim**-0.5))
    assert torch.equal(*answers)


def step_attention(kernel: AttentionName) -> StepAttention:
    return TritonStep() if kernel == "triton" else FlashStep(kernel)


def _reads(cache: PagedCache, lengths: list[int]) -> DecodePlan:
    nothing = torch.zeros(len(lengths), dtype=torch.long, device=GPU)
    read = torch.tensor(lengths, dtype=torch.int32, device=GPU)
    return DecodePlan(SdpaStep(), cache, nothing, nothing, read)


@pytest.mark.parametrize("kernel", KERNELS)
def test_attaching_an_adapter_while_graphs_run_loses_no_answer(
    kernel: AttentionName, folder: Path, adapters: dict[str, Path]
) -> None:
    engine = ContinuousEngine(
        load_as(folder, "nf4"),
        find_adapter=adapters.__getitem__,
        options=EngineOptions(max_tokens=2048, slots=4, attention=kernel),
    )
    try:
        requests = [replace(REQUEST, id=str(n), max_new_tokens=200) for n in range(3)]
        futures = [engine.submit(request) for request in requests]
        futures[0].result(120)
        for sha256 in adapters:
            futures.append(engine.submit(replace(REQUEST, id=sha256, adapter_sha256=sha256)))
        assert all(future.result(120).n_output_tokens for future in futures)
    finally:
        engine.close()
