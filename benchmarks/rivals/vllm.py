"""Papers an hour of vLLM in its steady state, by the rule of benchmarks/throughput.py.

The same prompt lengths, answers of 700 tokens, and staggered answers for the first papers; the rate
is that of admissions after the first fill. vLLM decodes while it fills its slots: the first answers
are longer by what it writes meanwhile. It generates without grammar, suppression and per-paper
seeds, so it has less work; its FP8 scales are not calibrated. It is no dependency of Referee and
needs its own version of torch: install it in a separate environment and run this there from
Referee's folder, one variant a process. A random model and adapter to measure are written by
`python -m benchmarks.random_model FOLDER`, in Referee's environment.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any

from models.engines.steady_state import (
    ANSWER_TOKENS,
    draw_length,
    papers_a_second,
    staggered_answers,
)

_FP8_WEIGHTS = {"quantization": "fp8"}
_FP8_CACHE = {"kv_cache_dtype": "fp8"}
_LORA = {"enable_lora": True, "max_lora_rank": 16, "max_loras": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "bf16": {},
    "bf16_lora": _LORA,
    "fp8": _FP8_WEIGHTS,
    "fp8_cache": _FP8_WEIGHTS | _FP8_CACHE,
    "fp8_cache_lora": _FP8_WEIGHTS | _FP8_CACHE | _LORA,
}
#: Numbers of running papers for which CUDA graphs are recorded: close to each other where a steady
#: state is, since a step is padded to the next one.
GRAPH_SIZES = (1, 8, 16, 32, 64, 80, 96, 104, 112, 128, 160, 192, 200, 208, 216, 256)
#: Tokens of a step, prompts' and answers' together: vLLM's own default for `LLM` on an H100 or an
#: H200, set because the first answers depend on it.
STEP_TOKENS = 16_384
#: Papers whose prompts are read alone, and words of their vocabulary.
_PROMPTS, _WORDS = 5, range(1000, 30_000)
#: Numbers of papers that warm vLLM up and that are read alone: none of them is measured.
_WARM, _ALONE = range(90_000, 90_008), range(91_000, 91_000 + _PROMPTS)


@dataclass(frozen=True)
class Capacity:
    """What the engine's scheduler reported: see benchmarks/rivals/vllm_scheduler.py."""

    slots: int
    cache_tokens: int
    preempted: int

    @classmethod
    def read(cls, file: Path) -> Capacity:
        """Read the scheduler's report."""
        return cls(**json.loads(file.read_text()))


def main() -> None:
    """Measure one variant and print it; JSON with --json."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        result = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            options.variant: measure(options, Path(scratch) / "capacity.json"),
        }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    # vLLM's processes may not end on their own.
    os._exit(0)


def prompt(number: int) -> list[int]:
    """Token ids of paper `number`; its words do not matter to the speed."""
    length, draw = draw_length(number)
    return draw.choices(_WORDS, k=length)


def mean_prompt() -> float:
    """Tokens of an average prompt."""
    return fmean(draw_length(number)[0] for number in range(1_000))


def measure(options: argparse.Namespace, capacity_file: Path) -> dict[str, Any]:
    """Start vLLM, warm it up, and run it in its steady state."""
    os.environ["REFEREE_VLLM_CAPACITY"] = str(capacity_file)
    os.environ["REFEREE_VLLM_PAPER_TOKENS"] = str(round(mean_prompt() + ANSWER_TOKENS / 2))
    import torch
    import vllm

    started = time.monotonic()
    engine = Engine(vllm, options)
    ready = time.monotonic() - started
    engine.generate(_WARM, 24)
    alone = [engine.generate([number], 1) for number in _ALONE]
    capacity = Capacity.read(capacity_file)
    run = engine.run(capacity.slots, options.papers)
    return {
        "papers_per_hour": 3600 * papers_a_second(run.admitted, capacity.slots),
        "papers": len(run.admitted) - capacity.slots,
        "slots": capacity.slots,
        "ended_before_slots_were_full": run.n_ended_before_full,
        "cache_tokens": capacity.cache_tokens,
        "preempted": Capacity.read(capacity_file).preempted,
        "seconds_a_prompt": round(median(alone), 3),
        "seconds_until_ready": round(ready, 1),
        "installation": f"vllm {vllm.__version__}, torch {torch.__version__}",
        "gpu": torch.cuda.get_device_name(),
        "arguments": {name: str(value) for name, value in VARIANTS[options.variant].items()},
    }


@dataclass(frozen=True)
class EngineRun:
    """What vLLM did with its papers; times are the engine's, in seconds."""

    #: When each paper that got a slot got it.
    admitted: list[float]
    #: 0 when the first answers are long enough: see `staggered_answers`.
    n_ended_before_full: int

    @classmethod
    def of(cls, papers: Iterable[tuple[Any, int]], slots: int) -> EngineRun:
        """From vLLM's statistics of each paper and the tokens of its answer."""
        started = [(stats, tokens) for stats, tokens in papers if stats.scheduled_ts]
        admitted = sorted(stats.scheduled_ts for stats, _ in started)
        full = admitted[slots - 1]
        ended = [stats for stats, tokens in started if stats.num_generation_tokens >= tokens]
        return cls(admitted, sum(stats.last_token_ts < full for stats in ended))


class Engine:
    """vLLM's engine with one adapter, or none, for all papers."""

    def __init__(self, vllm: Any, options: argparse.Namespace) -> None:
        from vllm.lora.request import LoRARequest

        variant = VARIANTS[options.variant]
        self._vllm = vllm
        self._lora = (
            LoRARequest("adapter", 1, str(options.adapter)) if "enable_lora" in variant else None
        )
        self._llm = vllm.LLM(
            model=str(options.model),
            skip_tokenizer_init=True,
            dtype="bfloat16",
            max_model_len=12_288,
            gpu_memory_utilization=options.memory,
            enable_prefix_caching=False,
            max_num_seqs=max(GRAPH_SIZES),
            max_num_batched_tokens=STEP_TOKENS,
            disable_log_stats=False,
            seed=0,
            scheduler_cls="benchmarks.rivals.vllm_scheduler.CappedScheduler",
            compilation_config={"cudagraph_capture_sizes": list(GRAPH_SIZES)},
            **variant,
        )

    def generate(self, numbers: Iterable[int], n_tokens: int) -> float:
        """Seconds for answers of so many tokens to some papers."""
        started = time.monotonic()
        self._llm.generate(
            [{"prompt_token_ids": prompt(number)} for number in numbers],
            self._sampling(n_tokens),
            use_tqdm=False,
            lora_request=self._lora,
        )
        return time.monotonic() - started

    def run(self, slots: int, n_papers: int) -> EngineRun:
        """Fill the slots, and run until `n_papers` more have got one."""
        from vllm.inputs import TokensPrompt

        engine = self._llm.llm_engine
        first = staggered_answers(slots, steps_a_prompt=mean_prompt() / STEP_TOKENS)
        answers = [*first, *[ANSWER_TOKENS] * n_papers]
        ids = [
            engine.add_request(
                f"paper {number}",
                TokensPrompt(prompt_token_ids=prompt(number)),
                self._sampling(n_tokens),
                lora_request=self._lora,
            )
            for number, n_tokens in enumerate(answers)
        ]
        stats = [engine.output_processor.request_states[each].stats for each in ids]
        # The last paper has its slot when all but the slots' papers have ended.
        n_ended = 0
        while engine.has_unfinished_requests() and n_ended <= n_papers:
            n_ended += sum(output.finished for output in engine.step())
        return EngineRun.of(zip(stats, answers, strict=True), slots)

    def _sampling(self, n_tokens: int) -> Any:
        return self._vllm.SamplingParams(
            temperature=0.0,
            max_tokens=n_tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=self._vllm.sampling_params.RequestOutputKind.FINAL_ONLY,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--model", type=Path, required=True, help="folder of a Llama")
    parser.add_argument("--adapter", type=Path, help="folder of a LoRA in PEFT's format")
    parser.add_argument("--papers", type=int, default=112)
    parser.add_argument("--memory", type=float, default=0.92, help="share of the card's memory")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = {options.model: "config.json"}
    if "enable_lora" in VARIANTS[options.variant]:
        if options.adapter is None:
            parser.error(f"{options.variant} needs --adapter")
        wanted[options.adapter] = "adapter_config.json"
    for folder, name in wanted.items():
        if not (folder / name).is_file():
            parser.error(f"{folder} has no {name}; benchmarks.random_model writes both folders")
    if importlib.util.find_spec("vllm") is None:
        parser.error("vLLM is not installed in this environment; it needs one of its own")
    return options


if __name__ == "__main__":
    main()
