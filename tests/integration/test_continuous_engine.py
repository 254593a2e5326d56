"""ContinuousEngine on tiny random models: the same answers as GenerateEngine's."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, Literal

import pytest
import torch

from errors import EngineCrashed, EngineLost, MissingPart, NeverStarted, RequestRefused
from models.engines import decoder
from models.engines.continuous import ContinuousEngine, EngineOptions
from models.engines.decoder import Decoder
from models.engines.generate import GenerateEngine
from models.kernels.paged_cache import CacheKind
from models.text.aspects import FOUR
from models.text.generation import GenerationRequest, Suppression
from models.text.parsing import parse
from models.weights.loading import LoadedModel
from testing.small_models import write_tiny_llama
from tests.engine_cases import (
    GREEDY,
    REQUEST,
    compare_with_reference,
    load_exact,
    mixed_requests,
    write_adapters,
)
from tests.site import wait_until

#: Seconds after which a future that has not ended is a failure.
DEADLINE = 120.0


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama31"), "llama31")


@pytest.fixture(scope="module")
def adapters(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_adapters(tiny_folder, tmp_path_factory.mktemp("adapters"))


@contextmanager
def continuous(
    model: LoadedModel,
    adapters: dict[str, Path],
    slots: int,
    kv_cache: CacheKind = "bf16",
    *,
    forced_runs: bool = True,
) -> Iterator[ContinuousEngine]:
    options = EngineOptions(
        max_tokens=2048, slots=slots, threads=1, kv_cache=kv_cache, forced_runs=forced_runs
    )
    engine = ContinuousEngine(model, find_adapter=adapters.__getitem__, options=options)
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture
def engine(tiny_folder: Path, adapters: dict[str, Path]) -> Iterator[ContinuousEngine]:
    with continuous(load_exact(tiny_folder), adapters, slots=4) as engine:
        yield engine


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("weights", "n_requests"), [("bf16", 64), ("nf4", 8)])
def test_mixed_requests_get_the_reference_engines_tokens(
    weights: Literal["bf16", "nf4"], n_requests: int, tiny_folder: Path, adapters: dict[str, Path]
) -> None:
    """On a CPU either is float32; 4 bits take thrice the time."""

    def model() -> LoadedModel:
        return load_exact(tiny_folder, weights=weights)

    reference = GenerateEngine(model(), find_adapter=adapters.__getitem__, threads=1)
    with closing(reference), continuous(model(), adapters, slots=12) as engine:
        requests = mixed_requests(64, list(adapters))
        compare_with_reference(engine, reference, requests[-n_requests:])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("room", ["as needed", "fixed", "too little"])
def test_runs_of_forced_tokens_change_no_token(
    room: str, tiny_folder: Path, adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guided, unguided and sampled requests with adapters, with runs of forced tokens and without.

    A graph's step has a fixed number of tokens, which may be less than the rows would read.
    """
    requests = mixed_requests(24, list(adapters))
    answers, n_steps = [], []
    if room != "as needed":
        monkeypatch.setattr(decoder, "n_further_tokens", lambda *_: 40 if room == "fixed" else 2)
    for forced_runs in (False, True):
        model = load_exact(tiny_folder, weights="bf16")
        with continuous(model, adapters, slots=6, forced_runs=forced_runs) as engine:
            engine._decoder._fixed_shapes = room != "as needed"
            counted: list[int] = []
            step = engine._decoder.step
            monkeypatch.setattr(
                engine._decoder, "step", lambda n, s=step, c=counted: (c.append(n), s(n))[1]
            )
            futures = [engine.submit(request) for request in requests]
            answers.append([future.result(DEADLINE).token_ids for future in futures])
        n_steps.append(len(counted))
    assert answers[0] == answers[1]
    assert n_steps[1] < n_steps[0]


def test_a_request_that_fills_the_cache_ends(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token of a step, used or not, lies behind the last block of the cache."""
    monkeypatch.setattr(decoder, "n_further_tokens", lambda *_: 12)
    request = replace(
        REQUEST,
        messages=(),
        token_ids=(7,) * (2048 - 260),
        form=FOUR,
        guided=True,
        max_prompt_tokens=2048,
        max_new_tokens=260,
    )
    with continuous(load_exact(tiny_folder), {}, slots=1) as engine:
        engine._decoder._fixed_shapes = True
        assert engine.submit(request).result(DEADLINE).n_output_tokens > 100


def test_failed_prefill_fails_only_its_request(
    engine: ContinuousEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefill = engine._decoder.prefill

    def fail_on_bad(slot: int, request: GenerationRequest, *rest: Any) -> None:
        if request.id == "bad":
            raise RuntimeError("the kernel failed")
        prefill(slot, request, *rest)

    monkeypatch.setattr(engine._decoder, "prefill", fail_on_bad)
    good, bad = engine.submit(GREEDY), engine.submit(replace(GREEDY, id="bad"))
    with pytest.raises(EngineLost, match="the kernel failed"):
        bad.result(DEADLINE)
    assert good.result(DEADLINE).n_output_tokens == 24


@pytest.mark.parametrize(
    "error", [RuntimeError("the step failed"), torch.OutOfMemoryError("out of memory")]
)
def test_failed_step_fails_its_requests_and_the_engine_continues(
    error: Exception, engine: ContinuousEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(n_rows: int) -> None:
        raise error

    monkeypatch.setattr(engine._decoder, "step", fail)
    with pytest.raises(EngineCrashed, match=str(error)):
        engine.submit(GREEDY).result(DEADLINE)
    # The cache was allocated again, with fewer slots if the memory was too small.
    assert engine.alive
    assert engine.submit(GREEDY).result(DEADLINE).n_output_tokens == 24
    assert engine.slots == (3 if isinstance(error, torch.OutOfMemoryError) else 4)


def test_cache_of_a_failed_step_is_freed_before_the_next_is_allocated(
    engine: ContinuousEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a step that fails in a nested call whose frames refer to the cache
    held, still_there, build = weakref.ref(engine._cache), [], engine._build

    def fail(*_: Any) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(engine, "_build", look_and_build)
        raise torch.OutOfMemoryError("out of memory")

    def look_and_build() -> None:
        still_there.append(held() is not None)
        build()

    monkeypatch.setattr(Decoder, "_sample", fail)
    with pytest.raises(EngineCrashed, match="out of memory"):
        engine.submit(GREEDY).result(DEADLINE)
    # Then the next cache fits: a GPU has no memory for two
    assert still_there == [False]


def test_request_that_fails_in_prefill_is_not_admitted_again(
    engine: ContinuousEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a prompt that runs out of memory, and others in the slots
    prefill = engine._decoder.prefill

    def fail_on_bad(slot: int, request: GenerationRequest, *rest: Any) -> None:
        if request.id == "bad":
            raise torch.OutOfMemoryError("out of memory")
        prefill(slot, request, *rest)

    monkeypatch.setattr(engine._decoder, "prefill", fail_on_bad)
    long = [engine.submit(replace(REQUEST, id=str(n), max_new_tokens=400)) for n in range(2)]
    bad = engine.submit(replace(GREEDY, id="bad"))
    # Then all requests in flight fail together, and the rest of the queue is served
    for future in (*long, bad):
        with pytest.raises(EngineCrashed, match="out of memory"):
            future.result(DEADLINE)
    after = [engine.submit(replace(GREEDY, id=f"after {n}")) for n in range(5)]
    assert {future.result(DEADLINE).n_output_tokens for future in after} == {24}


@pytest.mark.parametrize("where", ["reserve", "clear_slot"])
def test_request_whose_admission_fails_ends_with_the_others(
    where: str, engine: ContinuousEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner: Any = engine._cache if where == "reserve" else engine._decoder

    def fail(*_: Any) -> None:
        monkeypatch.undo()
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(owner, where, fail)
    with pytest.raises(EngineCrashed, match="out of memory"):
        engine.submit(GREEDY).result(DEADLINE)
    assert engine.submit(replace(GREEDY, id="after")).result(DEADLINE).n_output_tokens == 24


def test_urgent_request_starts_before_one_that_waits_for_memory(engine: ContinuousEngine) -> None:
    # Given a cache that holds one request, which runs, and another one that waits for it
    running = engine.submit(replace(GREEDY, max_new_tokens=400))
    wait_until(lambda: bool(engine._running), DEADLINE)
    engine._cache._free.clear()
    waiting = engine.submit(replace(GREEDY, id="waiting"))
    # When an urgent one arrives
    urgent = engine.submit(replace(GREEDY, id="urgent", priority=0))
    started_before: list[bool] = []
    urgent.add_done_callback(lambda _: started_before.append(waiting.running()))
    # Then it is the next one to run
    assert running.result(DEADLINE).n_output_tokens == 400
    assert urgent.result(DEADLINE).n_output_tokens == 24
    assert waiting.result(DEADLINE).n_output_tokens == 24
    assert started_before == [False]


def test_idle_time_does_not_count_as_seconds_without_a_token(
    engine: ContinuousEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine.submit(GREEDY).result(DEADLINE)
    wait, go_on = engine._queue.wait, Event()

    def slow() -> None:
        wait()
        go_on.wait(DEADLINE)

    monkeypatch.setattr(engine._queue, "wait", slow)
    first = engine.submit(replace(GREEDY, id="first"))  # the wait in progress is the old one
    go_on.set()
    first.result(DEADLINE)
    go_on.clear()
    engine._progress_at = time.monotonic() - 3600
    # When the engine's thread has not yet seen the new request
    second = engine.submit(replace(GREEDY, id="second"))
    assert engine.seconds_without_progress < DEADLINE
    go_on.set()
    assert second.result(DEADLINE).n_output_tokens == 24


def test_start_without_enough_memory_names_the_missing_amount(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(ContinuousEngine, "_build", fail)
    with pytest.raises(MissingPart, match="too little free memory for the weights and the longest"):
        ContinuousEngine(load_exact(tiny_folder))


def test_hanging_engine_reports_seconds_without_a_token(
    engine: ContinuousEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, step = Event(), engine._decoder.step

    def hang(n_rows: int) -> Any:
        stuck.wait(DEADLINE)
        return step(n_rows)

    monkeypatch.setattr(engine._decoder, "step", hang)
    assert engine.seconds_without_progress == 0.0
    future = engine.submit(GREEDY)
    wait_until(lambda: engine.seconds_without_progress > 0.2, DEADLINE)
    stuck.set()
    assert future.result(DEADLINE).n_output_tokens == 24
    assert engine.seconds_without_progress == 0.0


def test_row_with_non_finite_scores_fails_alone(
    engine: ContinuousEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefill = engine._decoder.prefill

    def spoil(slot: int, request: GenerationRequest, *rest: Any) -> None:
        prefill(slot, request, *rest)
        if request.id == "bad":
            engine._cache.keys[:, engine._cache.first_block(slot)] = float("nan")

    monkeypatch.setattr(engine._decoder, "prefill", spoil)
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
    # Four get a slot and two wait; the waiting ones cannot be the cause.
    futures = [engine.submit(replace(GREEDY, id=str(n))) for n in range(6)]
    errors = [type(future.exception(DEADLINE)) for future in futures]
    assert errors == [EngineCrashed] * 4 + [NeverStarted] * 2
    with pytest.raises(NeverStarted):
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
def test_unsupported_request_is_refused(
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


def test_review_with_an_fp8_cache_depends_only_on_its_seed(
    tiny_folder: Path, adapters: dict[str, Path]
) -> None:
    # Given one request for a guided review, alone and among others
    request = replace(REQUEST, guided=True, max_new_tokens=230, seed=7)
    others = mixed_requests(8, list(adapters))[1:]
    with continuous(load_exact(tiny_folder), adapters, slots=4, kv_cache="fp8") as engine:
        alone = engine.submit(request).result(DEADLINE)
        crowd = [engine.submit(each) for each in (*others, replace(request, id="again"))]
        assert crowd[-1].result(DEADLINE).token_ids == alone.token_ids
        assert engine.versions["kv_cache"] == "fp8"
    assert parse(alone.text, FOUR).strict


def test_close_fails_requests_in_flight(engine: ContinuousEngine) -> None:
    futures = [engine.submit(replace(REQUEST, id=str(n), max_new_tokens=500)) for n in range(6)]
    engine.close()
    for future in futures:
        with pytest.raises((EngineLost, CancelledError)):
            future.result(DEADLINE)
    assert not engine.alive
