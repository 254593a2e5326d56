"""Papers an hour of vLLM on the same papers: bf16, an adapter merged in by `referee adapter merge`.

vLLM is not a dependency of Referee and needs its own version of torch: install it in a separate
environment with the tokenizers package, and run this there from Referee's folder. It generates
without grammar, suppression or per-paper seeds, so it has less work.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

#: As in benchmarks/llama_shape.py, which imports torch and transformers: prompt tokens of papers,
#: shortest, most frequent, longest; and tokens of an answer.
LENGTHS = (6_500, 9_300, 11_138)
ANSWER_TOKENS = 700


def prompts(n_papers: int, vocabulary: range) -> list[list[int]]:
    """Token ids of papers of a conference's lengths; their words do not matter to the speed."""
    made = []
    for number in range(n_papers):
        draw = random.Random(number)
        length = int(draw.triangular(LENGTHS[0], LENGTHS[2], LENGTHS[1]))
        made.append(draw.choices(vocabulary, k=length))
    return made


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All papers at once; the rate includes filling and emptying, as benchmarks/whole_path.py's."""
    import vllm

    model = vllm.LLM(
        model=str(options.model),
        dtype="bfloat16",
        max_model_len=12_288,
        gpu_memory_utilization=options.memory,
        enable_prefix_caching=False,
    )
    sampling = vllm.SamplingParams(
        temperature=0.0,
        max_tokens=ANSWER_TOKENS,
        ignore_eos=True,
        detokenize=False,
    )
    papers = [{"prompt_token_ids": ids} for ids in prompts(options.papers, range(1000, 30_000))]
    model.generate(papers[:2], sampling, use_tqdm=False)  # warm
    started = time.perf_counter()
    outputs = model.generate(papers, sampling, use_tqdm=False)
    seconds = time.perf_counter() - started
    return {
        "vllm": vllm.__version__,
        "papers": len(outputs),
        "seconds": seconds,
        "papers_per_hour": 3600 * len(outputs) / seconds,
        "output_tokens": sum(len(o.outputs[0].token_ids) for o in outputs),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="what `referee adapter merge` wrote")
    parser.add_argument("--papers", type=int, default=192)
    parser.add_argument("--memory", type=float, default=0.9, help="part of the card's memory")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    document = json.dumps(measure(options), indent=1)
    print(document)
    if options.json:
        options.json.write_text(document + "\n")


if __name__ == "__main__":
    main()
