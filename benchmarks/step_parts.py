"""Where the time of a decode step and of a prefill goes on a GPU, part by part.

Llama 3.1 8B's shape with random weights, all slots in use at a paper's length. Each part is timed
alone: a step's as replays of a CUDA graph, a prefill's as it is called. A part alone may draw more
power than the whole does and so run at a lower clock, so parts need not add up to it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.llama_shape import ANSWER_TOKENS, LLAMA31_8B, TINY, Papers, write_random_llama
from benchmarks.measured import report, save
from benchmarks.tokenizer import tokenizer_file
from models.adapter_bank import AdapterBank
from models.aspects import ASPECT_SETS
from models.attention import choose_attention
from models.decoder import Decoder, Model
from models.grammar import GrammarTables
from models.loading import LoadedModel, load
from models.paged_attention import ATTENTION, DecodePlan, Kernel, PrefillPlan, kernel_for
from models.paged_cache import CacheKind, CacheShape, PagedCache
from models.processors import Draw, take
from models.reviewer import builtin
from models.reviewer import load as load_reviewer

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
#: Tokens of a prompt, and of a paper in the middle of its answer.
PROMPT, LENGTH = 9_000, 9_350
REPLAYS = 9


@dataclass(frozen=True)
class Bench:
    """A decoder whose slots are all taken, but the last, which is a prefill's."""

    loaded: LoadedModel
    decoder: Decoder
    cache: PagedCache
    kernel: Kernel
    slots: int
    prompt: int
    length: int

    @property
    def config(self) -> Any:
        """The model's."""
        return self.loaded.model.config


@torch.inference_mode()
def main() -> None:
    """Time every part."""
    options = _options()
    bench = _bench(options)
    results = {"slots": bench.slots, "step": step_parts(bench), "prefill": prefill_parts(bench)}
    results["papers_per_hour"] = _papers_per_hour(results)
    save(results, options.json)
    report(results, options.json)


def step_parts(bench: Bench) -> dict[str, float]:
    """Milliseconds of a step's parts, all slots at once."""
    decoder, rows = bench.decoder, torch.arange(bench.slots, device=DEVICE)
    plan = _plan(bench)
    ids, positions = torch.full_like(rows, 1000), torch.full_like(rows, bench.length)
    scores = decoder._model.scores(ids, positions, plan)
    hidden = _random(bench.slots, 1, bench.config.hidden_size)
    parts = {
        "attention": _replayed(lambda: _decode_attention(bench, plan)),
        "linear layers": _replayed(lambda: _linears(bench, bench.slots, 1)),
        "scores of the vocabulary": _replayed(lambda: bench.loaded.model.lm_head(hidden)),
    }
    model = _replayed(lambda: decoder._model.scores(ids, positions, plan))
    state, first = decoder._state[: bench.slots], decoder._rows.first(bench.slots)
    choosing = {
        f"choosing, {draw.name.lower()}": _replayed(
            partial(take, decoder._tables, first, state, scores, draw)
        )
        for draw in Draw
    }
    return {**parts, "the model, whole": model, **choosing}


def prefill_parts(bench: Bench) -> dict[str, float]:
    """Milliseconds of a prefill's parts; the last layer ends with its keys and values."""
    places = bench.cache.places(bench.slots, bench.prompt)
    plan = PrefillPlan(bench.kernel, bench.cache, bench.slots, places)
    ids = torch.randint(1000, 100_000, (bench.prompt,), device=DEVICE) % bench.config.vocab_size
    layers = bench.config.num_hidden_layers
    scale = (layers - 1) / layers
    parts = {
        "attention": scale * _timed(lambda: _prefill_attention(bench)),
        "linear layers": scale * _timed(lambda: _linears(bench, 1, bench.prompt)),
    }
    return {**parts, "whole": _timed(lambda: bench.decoder._model.read(ids, plan))}


def _papers_per_hour(results: dict[str, Any]) -> float:
    step = results["step"]["the model, whole"] + results["step"]["choosing, greedy"]
    return 3.6e6 / (results["prefill"]["whole"] + ANSWER_TOKENS * step / results["slots"])


def _plan(bench: Bench) -> DecodePlan:
    live = torch.ones(bench.slots, dtype=torch.bool, device=DEVICE)
    position = torch.full((bench.slots,), bench.length, device=DEVICE)
    places = bench.cache.next_places(bench.slots, position, live)
    lengths = (position + 1).int()
    return DecodePlan(bench.kernel, bench.cache, places, lengths, lengths.tolist())


def _decode_attention(bench: Bench, plan: DecodePlan) -> None:
    config = bench.config
    query = _random(bench.slots, 1, config.num_attention_heads, config.head_dim)
    for layer in range(config.num_hidden_layers):
        bench.kernel.decode(query, layer, plan, config.head_dim**-0.5)


def _prefill_attention(bench: Bench) -> None:
    config = bench.config
    query = _random(1, bench.prompt, config.num_attention_heads, config.head_dim)
    key = _random(1, bench.prompt, config.num_key_value_heads, config.head_dim)
    for _ in range(config.num_hidden_layers):
        bench.kernel.prefill(query, key, key, config.head_dim**-0.5)


def _linears(bench: Bench, n_rows: int, n_tokens: int) -> None:
    inputs: dict[int, Tensor] = {}
    for module in bench.loaded.model.model.modules():
        if isinstance(module, nn.Linear):
            width = module.in_features
            inputs.setdefault(width, _random(n_rows, n_tokens, width))
            module(inputs[width])


def _random(*shape: int) -> Tensor:
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    return torch.randn(shape, device=DEVICE, dtype=dtype)


def _replayed(act: Callable[[], Any]) -> float:
    """Milliseconds of a graph's replay; of a call where there are no graphs."""
    if DEVICE.type != "cuda":
        return _timed(act)
    act()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        act()
    return _timed(graph.replay)


def _timed(act: Callable[[], Any]) -> float:
    return median(_times(act))


def _times(act: Callable[[], Any]) -> Iterator[float]:
    act()
    for _ in range(REPLAYS):
        _wait()
        started = time.perf_counter()
        act()
        _wait()
        yield (time.perf_counter() - started) * 1000


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def _bench(options: argparse.Namespace) -> Bench:
    shape = TINY if options.tiny else LLAMA31_8B
    length, prompt = (120, 100) if options.tiny else (LENGTH, PROMPT)
    base = load_reviewer(builtin()["llama31-7"]).base
    assert base is not None
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = tokenizer_file(options.tokenizer, Path(scratch))
        folder = write_random_llama(Path(scratch) / "model", tokenizer, shape)
        attention = choose_attention(DEVICE)
        loaded = load(folder, base, template="llama3", device=DEVICE, attention=attention)
    loaded.model.set_attn_implementation(ATTENTION)
    kernel = kernel_for(loaded.versions["attention"], options.kv_cache)
    cache = _full_cache(loaded, kernel, options, length)
    end = loaded.template.end_of_turn_id(loaded.tokenizer)
    tables = GrammarTables.build(loaded.tokenizer, tuple(ASPECT_SETS.values()), end, DEVICE)
    bank = AdapterBank(loaded.model, base, options.slots + 1)
    decoder = Decoder(Model(loaded.model), tables, cache, kernel, bank, graphs=False)
    bench = Bench(loaded, decoder, cache, kernel, options.slots, prompt, length)
    papers = Papers.of(loaded.tokenizer)
    for slot in range(bench.slots):
        decoder.enter(slot, papers.request(slot, scale=0.01), (1000, 1000), None)
    return bench


def _full_cache(
    loaded: LoadedModel, kernel: Kernel, options: argparse.Namespace, length: int
) -> PagedCache:
    block = kernel.block_tokens or length + 1
    blocks = -(-(length + 1) // block)
    slots = options.slots + 1
    cache = PagedCache(
        CacheShape.of(loaded.model, options.kv_cache),
        n_blocks=slots * blocks,
        block_tokens=block,
        slots=slots,
        max_tokens=blocks * block,
    )
    for slot in range(slots):
        cache.reserve(slot, blocks * block)
    return cache


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, help="Llama 3's tokenizer.json, or .json.xz")
    parser.add_argument("--slots", type=int, default=60)
    kinds: tuple[CacheKind, ...] = ("bf16", "fp8")
    parser.add_argument("--kv-cache", choices=kinds, default="bf16")
    parser.add_argument("--tiny", action="store_true", help="try it without a GPU")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
