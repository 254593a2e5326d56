"""The product's engine on tiny random models: the same answers as the reference engine's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from errors import EngineLost, RequestRefused
from models.aspects import FOUR, SEVEN
from models.continuous import ContinuousEngine, EngineOptions
from models.engine import ReviewRequest, Suppression
from models.generate import GenerateEngine
from models.hashes import adapter_sha256
from models.loading import LoadedModel, load
from models.parse import parse
from models.precision import Precision
from tests.small_models import FAMILIES, write_tiny_llama

#: Seconds after which a future that has not ended is a failure.
DEADLINE = 120.0
CPU = torch.device("cpu")
LLAMA31 = FAMILIES["llama31"]
REQUEST = ReviewRequest(
    id="r1",
    system=FOUR.system_prompt,
    paper_text="[TITLE] Counting sheep [CONTENT] We count sheep and find that they are many.",
    aspects=FOUR,
    template="llama3",
    max_prompt_tokens=1500,
    max_new_tokens=24,
    temperature=1.0,
    guided=False,
)
GREEDY = replace(REQUEST, temperature=0.0)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama31"), "llama31")


@pytest.fixture(scope="module")
def adapters(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A LoRA on all linear layers, a DoRA on some, a LoRA of another rank; by their SHA-256."""
    shapes: list[dict[str, Any]] = [
        {"target_modules": "all-linear", "r": 8},
        {"target_modules": ["q_proj", "down_proj"], "r": 4, "use_dora": True},
        {"target_modules": ["v_proj", "o_proj"], "r": 16, "use_rslora": True},
    ]
    folders = {}
    for seed, shape in enumerate(shapes):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
        config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **shape)
        adapted = get_peft_model(base, config)
        adapted.peft_config["default"].base_model_name_or_path = LLAMA31.base.hub
        folder = tmp_path_factory.mktemp("adapter")
        adapted.save_pretrained(folder, save_embedding_layers=False)
        folders[adapter_sha256(folder)] = folder
    return folders


def load_tiny(folder: Path) -> LoadedModel:
    """In float32 on every CPU: rounding must not decide between two tokens."""
    exact = Precision(torch.float32, "for comparison")
    template = LLAMA31.template
    loaded = load(folder, LLAMA31.base, template=template, device=CPU, precision=exact)
    for module in loaded.model.modules():
        if isinstance(module, Linear4bit):
            # Its kernel for CPUs with bfloat16 instructions rounds what it multiplies.
            module.support_avx512bf16_for_cpu = False
    return loaded


@contextmanager
def continuous(folder: Path, adapters: dict[str, Path], slots: int) -> Iterator[ContinuousEngine]:
    options = EngineOptions(max_tokens=2048, slots=slots, threads=1)
    engine = ContinuousEngine(load_tiny(folder), find_adapter=adapters.__getitem__, options=options)
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture
def engine(tiny_folder: Path, adapters: dict[str, Path]) -> Iterator[ContinuousEngine]:
    with continuous(tiny_folder, adapters, slots=4) as engine:
        yield engine


@pytest.fixture(scope="module")
def reference(tiny_folder: Path, adapters: dict[str, Path]) -> Iterator[GenerateEngine]:
    engine = GenerateEngine(load_tiny(tiny_folder), find_adapter=adapters.__getitem__, threads=1)
    yield engine
    engine.close()


def mixed_requests(n: int, adapters: list[str]) -> list[ReviewRequest]:
    """Requests that differ in everything a request can differ in."""
    draw = random.Random(7)
    requests = []
    for number in range(n):
        guided = number % 8 == 0
        requests.append(
            replace(
                REQUEST,
                id=f"r{number}",
                paper_text="We count sheep. " * draw.randint(1, 40),
                aspects=SEVEN if number % 32 == 0 else FOUR,
                max_new_tokens=(560 if number % 32 == 0 else 300)
                if guided
                else draw.randint(1, 40),
                temperature=draw.choice([0.0, 0.35, 1.0]),
                top_p=draw.choice([0.9, 1.0]),
                seed=draw.randint(0, 1 << 40),
                suppression=draw.choice([None, Suppression(), Suppression("probability", 0.5)]),
                guided=guided,
                adapter_sha256=draw.choice([None, *adapters]),
            )
        )
    return requests


@pytest.mark.timeout(300)
def test_mixed_requests_get_the_reference_engines_tokens(
    tiny_folder: Path, adapters: dict[str, Path], reference: GenerateEngine
) -> None:
    # Given 64 requests of all kinds, of which some come late and some are cancelled early
    requests = mixed_requests(64, list(adapters))
    with continuous(tiny_folder, adapters, slots=12) as engine:
        futures = [engine.submit(request) for request in requests[:40]]
        futures[0].result(DEADLINE)
        for request in requests[1:8]:
            engine.cancel(request.id)
        futures += [engine.submit(request) for request in requests[40:]]
        for future in futures:
            future.exception(DEADLINE) if not future.cancelled() else None
    # Then those that were not cancelled have the very tokens of the reference
    compared = 0
    for request, future in zip(requests, futures, strict=True):
        if future.cancelled() or isinstance(future.exception(), CancelledError):
            continue
        expected = reference.submit(request).result(DEADLINE)
        found = future.result()
        assert found.token_ids == expected.token_ids, request
        assert found.text == expected.text
        assert found.finish == expected.finish
        compared += 1
    assert compared >= 50


def test_a_failure_of_one_prompt_costs_one_request(
    engine: ContinuousEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = engine._decoder.enter

    def fail_on_bad(slot: int, request: ReviewRequest, *rest: Any) -> None:
        if request.id == "bad":
            raise RuntimeError("the kernel failed")
        enter(slot, request, *rest)

    monkeypatch.setattr(engine._decoder, "enter", fail_on_bad)
    good, bad = engine.submit(GREEDY), engine.submit(replace(GREEDY, id="bad"))
    with pytest.raises(EngineLost, match="the kernel failed"):
        bad.result(DEADLINE)
    assert good.result(DEADLINE).n_output_tokens == 24


@pytest.mark.parametrize(
    "error", [RuntimeError("the step failed"), torch.OutOfMemoryError("out of memory")]
)
def test_a_failure_of_a_step_fails_who_is_in_it_and_the_engine_goes_on(
    error: Exception, engine: ContinuousEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(n_rows: int) -> None:
        raise error

    monkeypatch.setattr(engine._decoder, "step", fail)
    with pytest.raises(EngineLost, match=str(error)):
        engine.submit(GREEDY).result(DEADLINE)
    # The slots were built anew.
    assert engine.alive
    assert engine.submit(GREEDY).result(DEADLINE).n_output_tokens == 24


def test_a_row_without_numbers_fails_alone(
    engine: ContinuousEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = engine._decoder.enter

    def spoil(slot: int, request: ReviewRequest, *rest: Any) -> None:
        enter(slot, request, *rest)
        if request.id == "bad":
            engine._cache.keys[:, engine._cache.block_of(slot)] = float("nan")

    monkeypatch.setattr(engine._decoder, "enter", spoil)
    good, bad = engine.submit(GREEDY), engine.submit(replace(GREEDY, id="bad"))
    with pytest.raises(EngineLost, match="not finite"):
        bad.result(DEADLINE)
    assert good.result(DEADLINE).n_output_tokens == 24


def test_a_lost_device_ends_the_engine(
    engine: ContinuousEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    def fail(n_rows: int) -> None:
        raise error

    monkeypatch.setattr(engine._decoder, "step", fail)
    with pytest.raises(EngineLost, match="illegal memory access"):
        engine.submit(GREEDY).result(DEADLINE)
    with pytest.raises(EngineLost):
        engine.submit(GREEDY).result(DEADLINE)
    assert not engine.alive


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"max_new_tokens": 131_072}, "too_long"),
        ({"template": "chatml"}, "template"),
        ({"max_prompt_tokens": 20}, "prompt_too_small"),
    ],
)
def test_what_cannot_be_served_is_refused(
    changes: dict[str, Any], kind: str, engine: ContinuousEngine
) -> None:
    with pytest.raises(RequestRefused) as refusal:
        engine.submit(replace(GREEDY, **changes)).result(DEADLINE)
    assert refusal.value.kind == kind
    assert engine.submit(GREEDY).result(DEADLINE).n_output_tokens == 24


def test_a_guided_answer_parses_strictly(engine: ContinuousEngine) -> None:
    request = replace(REQUEST, guided=True, suppression=Suppression(), max_new_tokens=300)
    generation = engine.submit(request).result(DEADLINE)
    assert generation.finish == "stop"
    assert parse(generation.text, FOUR).strict


def test_closing_loses_what_is_in_flight(engine: ContinuousEngine) -> None:
    futures = [engine.submit(replace(REQUEST, id=str(n), max_new_tokens=500)) for n in range(6)]
    engine.close()
    for future in futures:
        with pytest.raises((EngineLost, CancelledError)):
            future.result(DEADLINE)
    assert not engine.alive
