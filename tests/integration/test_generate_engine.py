"""GenerateEngine, the reference, on tiny random models and once on the real small one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from errors import EngineLost, MissingPart, RequestRefused
from models.engines.generate import GenerateEngine
from models.hashes import adapter_sha256
from models.text.aspects import FOUR
from models.text.generation import GenerationRequest, Suppression
from models.text.parsing import parse
from models.text.prompt import build_prompt
from models.weights.loading import LoadedModel, load
from testing.generation_requests import chat
from testing.small_models import FAMILIES, write_tiny_llama
from tests.site import wait_until

#: Seconds after which a future that has not ended is a failure.
DEADLINE = 120.0
CPU = torch.device("cpu")
REQUEST = GenerationRequest(
    id="r1",
    messages=chat(
        FOUR.system_prompt,
        "[TITLE] Counting sheep [CONTENT] We count sheep and find that they are many.",
    ),
    form=FOUR,
    template="llama3",
    max_prompt_tokens=1200,
    max_new_tokens=24,
    temperature=1.0,
    guided=False,
)
GREEDY = replace(REQUEST, temperature=0.0)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama31"), "llama31")


@pytest.fixture(scope="module")
def adapter(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.bfloat16)
    config = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(base, config)
    adapted.peft_config["default"].base_model_name_or_path = FAMILIES["llama31"].base.hub
    folder = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.fixture
def loaded(tiny_folder: Path) -> LoadedModel:
    family = FAMILIES["llama31"]
    return load(tiny_folder, family.base, template=family.template, device=CPU)


@pytest.fixture
def engine(loaded: LoadedModel, adapter: Path) -> Iterator[GenerateEngine]:
    def find_adapter(sha256: str) -> Path:
        if sha256 != adapter_sha256(adapter):
            raise MissingPart(f"adapter {sha256} is not on this machine")
        return adapter

    # With two, threads of its small steps wait for each other when other tests run besides.
    engine = GenerateEngine(loaded, find_adapter=find_adapter, threads=1)
    yield engine
    engine.close()


@contextmanager
def at_each_step(loaded: LoadedModel, act: Callable[[int], Any]) -> Iterator[list[int]]:
    """Call `act` with the number of each forward pass; what it returns replaces the logits."""
    steps: list[int] = []

    def hook(module: Any, args: Any, output: Any) -> Any:
        steps.append(len(steps))
        logits = act(steps[-1])
        if logits is not None:
            output.logits = logits(output.logits)
        return output

    handle = loaded.model.register_forward_hook(hook)
    try:
        yield steps
    finally:
        handle.remove()


@contextmanager
def busy(engine: GenerateEngine, loaded: LoadedModel) -> Iterator[Any]:
    """An engine that is blocked in the first step of a request until the block ends."""
    started, go_on = Event(), Event()

    def wait(step: int) -> None:
        started.set()
        assert go_on.wait(DEADLINE)

    with at_each_step(loaded, wait):
        future = engine.submit(replace(GREEDY, id="busy"))
        assert started.wait(DEADLINE)
        try:
            yield future
        finally:
            go_on.set()
            future.exception(DEADLINE)


def test_greedy_and_unguided_equals_plain_argmax(
    engine: GenerateEngine, loaded: LoadedModel
) -> None:
    generation = engine.submit(GREEDY).result(DEADLINE)
    prompt = build_prompt(loaded.tokenizer, GREEDY, loaded.template)
    # Each token of the answer is the model's most likely next one
    ids = torch.tensor([[*prompt.token_ids, *generation.token_ids[:-1]]])
    with torch.no_grad():
        likeliest = loaded.model(ids).logits[0, prompt.n_prompt_tokens - 1 :].argmax(-1)
    assert generation.token_ids == tuple(likeliest.tolist())
    assert generation.n_prompt_tokens == prompt.n_prompt_tokens
    assert generation.text == loaded.tokenizer.decode(generation.token_ids)
    assert generation.finish == "length"


def test_review_depends_only_on_its_seed(engine: GenerateEngine) -> None:
    # Given a request among others
    requests = [REQUEST, replace(REQUEST, id="r2", seed=2), replace(REQUEST, id="r3")]
    first, other, again = [engine.submit(request).result(DEADLINE) for request in requests]
    # Then its seed decides, not its position or id
    assert first.token_ids == again.token_ids
    assert first.token_ids != other.token_ids


def test_a_guided_answer_of_random_weights_parses_strictly(engine: GenerateEngine) -> None:
    request = replace(REQUEST, guided=True, suppression=Suppression(), max_new_tokens=240)
    generation = engine.submit(request).result(DEADLINE)
    assert generation.finish == "stop"
    assert parse(generation.text, FOUR).strict


def test_requests_run_one_after_the_other(engine: GenerateEngine, loaded: LoadedModel) -> None:
    with busy(engine, loaded) as running:
        waiting = [engine.submit(replace(GREEDY, id=f"w{number}")) for number in range(2)]
        assert not any(future.running() or future.done() for future in waiting)
    results = [future.result(DEADLINE) for future in (running, *waiting)]
    assert len({result.token_ids for result in results}) == 1
    assert results[2].seconds_queued > results[1].seconds_queued > results[0].seconds_queued


def test_a_running_request_stops_at_its_next_step(
    engine: GenerateEngine, loaded: LoadedModel
) -> None:
    def cancel(step: int) -> None:
        if step == 4:
            engine.cancel("r1")

    with at_each_step(loaded, cancel) as steps, pytest.raises(CancelledError):
        engine.submit(GREEDY).result(DEADLINE)
    assert len(steps) == 5
    # And the engine continues.
    assert engine.submit(GREEDY).result(DEADLINE).n_output_tokens == 24


def test_a_waiting_request_is_cancelled_at_once(
    engine: GenerateEngine, loaded: LoadedModel
) -> None:
    with busy(engine, loaded) as running:
        waiting = engine.submit(replace(GREEDY, id="waiting"))
        engine.cancel("waiting")
        engine.cancel("nobody")
        with pytest.raises(CancelledError):
            waiting.result(0)
    assert running.result(DEADLINE).finish == "length"


def raise_error(error: Exception) -> Callable[[int], None]:
    def act(step: int) -> None:
        if step == 2:
            raise error

    return act


@pytest.mark.parametrize(
    "error", [RuntimeError("the kernel failed"), torch.OutOfMemoryError("out of memory")]
)
def test_error_fails_one_request_and_the_engine_continues(
    error: Exception, engine: GenerateEngine, loaded: LoadedModel
) -> None:
    with at_each_step(loaded, raise_error(error)), pytest.raises(EngineLost, match=str(error)):
        engine.submit(GREEDY).result(DEADLINE)
    assert engine.alive
    assert engine.submit(GREEDY).result(DEADLINE).n_output_tokens == 24


def test_scores_that_are_not_numbers_are_an_error(
    engine: GenerateEngine, loaded: LoadedModel
) -> None:
    def spoil(step: int) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda logits: logits * float("nan")

    with at_each_step(loaded, spoil), pytest.raises(EngineLost, match="not finite"):
        engine.submit(REQUEST).result(DEADLINE)
    assert engine.alive


def test_a_lost_device_ends_the_engine(engine: GenerateEngine, loaded: LoadedModel) -> None:
    # Given a request that waits behind one whose device is lost
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with at_each_step(loaded, raise_error(error)):
        with busy(engine, loaded) as running:
            waiting = engine.submit(replace(GREEDY, id="waiting"))
        # Then both fail, and so does every later request
        for future in (running, waiting, engine.submit(GREEDY)):
            with pytest.raises(EngineLost, match="illegal memory access"):
                future.result(DEADLINE)
    assert not engine.alive


def test_close_fails_requests_in_flight(engine: GenerateEngine, loaded: LoadedModel) -> None:
    # Given a request in the middle of a step and one behind it
    closing = Thread(target=engine.close)
    with busy(engine, loaded) as running:
        waiting = engine.submit(replace(GREEDY, id="waiting"))
        # When the engine is closed
        closing.start()
        wait_until(lambda: not engine.alive, DEADLINE)
    closing.join(DEADLINE)
    # Then both fail, and so does every later request
    for future in (running, waiting, engine.submit(GREEDY)):
        with pytest.raises(EngineLost, match="closed"):
            future.result(DEADLINE)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"max_new_tokens": 131_072}, "too_long"),
        ({"template": "chatml"}, "template"),
        ({"max_prompt_tokens": 20}, "prompt_too_small"),
        ({"adapter_sha256": "0" * 64}, "adapter"),
    ],
)
def test_unsupported_request_is_refused(
    changes: dict[str, Any], kind: str, engine: GenerateEngine
) -> None:
    with pytest.raises(RequestRefused) as refusal:
        engine.submit(replace(GREEDY, **changes)).result(DEADLINE)
    assert refusal.value.kind == kind
    assert engine.submit(GREEDY).result(DEADLINE).n_output_tokens == 24


def test_the_papers_tail_is_cut_and_recorded(engine: GenerateEngine) -> None:
    whole = engine.submit(GREEDY).result(DEADLINE)
    limit = whole.n_prompt_tokens - 10
    cut = engine.submit(replace(GREEDY, max_prompt_tokens=limit)).result(DEADLINE)
    assert (cut.n_prompt_tokens, cut.truncated_tokens) == (limit, 10)


def test_each_request_gets_its_adapter(engine: GenerateEngine, adapter: Path) -> None:
    sha256 = adapter_sha256(adapter)
    adapted = replace(GREEDY, adapter_sha256=sha256)
    before, with_adapter, after = [
        engine.submit(request).result(DEADLINE) for request in (GREEDY, adapted, GREEDY)
    ]
    assert with_adapter.token_ids != before.token_ids == after.token_ids
    assert (before.adapter_sha256, with_adapter.adapter_sha256) == (None, sha256)


def test_versions_record_how_the_review_was_generated(engine: GenerateEngine) -> None:
    assert engine.versions["engine"] == "generate"
    assert engine.versions["weights"] == "nf4"
    assert engine.slots == 1
