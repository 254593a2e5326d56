"""Two batches with different adapters, interleaved, against one adapter's batch: what do they cost
each other, and does either starve? The real queue and worker; adapters of random weights, rank 16.

--tiny shows on a CPU that it runs; its figures say nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from benchmarks.installation import REVIEWER, Installation, Shape, installation, write_papers
from benchmarks.llama_shape import ANSWER_TOKENS
from benchmarks.measured import report
from models import reviewer
from models.adapter_package import CONFIG, PROVENANCE, WEIGHTS, prompt_sha256
from models.aspects import SEVEN
from models.templates import TEMPLATES

RANK = 16
#: The recipe's: all linear layers.
_SIDES = {
    "self_attn.q_proj": ("hidden", "hidden"),
    "self_attn.k_proj": ("hidden", "kv"),
    "self_attn.v_proj": ("hidden", "kv"),
    "self_attn.o_proj": ("hidden", "hidden"),
    "mlp.gate_proj": ("hidden", "inner"),
    "mlp.up_proj": ("hidden", "inner"),
    "mlp.down_proj": ("inner", "hidden"),
}
#: Papers of a batch that are submitted at once, before the other batch's turn.
_CHUNK = 8


def main() -> None:
    """Measure one batch alone, then two by turns."""
    options = _options()
    shape = Shape(options.tiny, options.scale, options.answer)
    with (
        tempfile.TemporaryDirectory() as scratch,
        installation(Path(scratch), shape, options.tokenizer) as site,
    ):
        results = measure(site, Path(scratch), options)
    report(results, options.json)
    print(f"two adapters by turns reach {results['ratio']:.1%} of one adapter's rate")
    for name, each in results["waits"].items():
        print(f"{name:12} waited {each['mean']:.1f} s on average, {each['longest']:.1f} at most")


def measure(site: Installation, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The same worker serves the one batch and then the two."""
    for number in range(2):
        _add_reviewer(site, scratch, number)
    n_papers = options.papers
    first = write_papers(scratch / "one.jsonl", scratch / "model", n_papers, options.scale)
    site.run("submit", str(first), "--batch", "one", "--reviewer", "bench-0")
    slots = ("--slots", str(options.slots)) if options.slots else ()
    with site.worker("", *slots):
        site.finish("one")
        site.run("pause", "--all")
        _submit_by_turns(site, scratch, options)
        site.run("resume", "--all")
        site.finish("turns-0", "turns-1")
    one, two = site.rate("one"), site.rate("turns-0", "turns-1")
    waits = {batch: _waits(site, batch, "turns-0", "turns-1") for batch in ("turns-0", "turns-1")}
    ratio = two.papers_per_hour / one.papers_per_hour
    return {"one": asdict(one), "two": asdict(two), "ratio": ratio, "waits": waits}


def _submit_by_turns(site: Installation, scratch: Path, options: argparse.Namespace) -> None:
    for start in range(0, options.papers // 2, _CHUNK):
        n_papers = min(_CHUNK, options.papers // 2 - start)
        for number in range(2):
            batch = f"turns-{number}"
            file = scratch / f"{batch}-{start}.jsonl"
            offset = 1000 * (1 + number) + start
            write_papers(file, scratch / "model", n_papers, options.scale, first=offset)
            site.run("submit", str(file), "--batch", batch, "--reviewer", f"bench-{number}")
            site.run("pause", batch)


def _waits(site: Installation, batch: str, *batches: str) -> dict[str, float]:
    """Seconds from the first start of any of the batches to the starts of one's papers."""
    names = ", ".join(f"'{name}'" for name in batches)
    jobs = "FROM job JOIN batch ON batch.id = job.batch_id WHERE batch.name"
    ((mean, longest),) = site.rows(
        "SELECT avg(job.started_at - t.began), max(job.started_at - t.began) FROM job "
        "JOIN batch ON batch.id = job.batch_id CROSS JOIN "
        f"(SELECT min(job.started_at) AS began {jobs} IN ({names})) AS t "
        f"WHERE batch.name = '{batch}'"
    )
    return {"mean": mean, "longest": longest}


def _add_reviewer(site: Installation, scratch: Path, number: int) -> None:
    """A reviewer of its own name with a registered adapter of its own."""
    folder = write_adapter(scratch / f"adapter-{number}", scratch / "model", number)
    sha256 = site.run("adapter", "register", str(folder)).split()[0]
    config = replace(
        reviewer.load(scratch / f"{REVIEWER}.yaml"), name=f"bench-{number}", adapter_sha256=sha256
    )
    path = scratch / f"bench-{number}.yaml"
    path.write_text(yaml.safe_dump(config.to_json()))
    site.run("reviewer", "add", str(path))


def write_adapter(folder: Path, model: Path, seed: int) -> Path:
    """Write random weights of a LoRA on all linear layers, with the provenance of a trained one."""
    folder.mkdir()
    shape = json.loads((model / "config.json").read_text())
    heads = shape["num_key_value_heads"] / shape["num_attention_heads"]
    sizes = {
        "hidden": shape["hidden_size"],
        "inner": shape["intermediate_size"],
        "kv": int(shape["hidden_size"] * heads),
    }
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(shape["num_hidden_layers"]):
        for module, (n_in, n_out) in _SIDES.items():
            name = f"base_model.model.model.layers.{layer}.{module}.lora_"
            for part, size in (("A", (RANK, sizes[n_in])), ("B", (sizes[n_out], RANK))):
                values = 0.01 * torch.randn(size, generator=generator)
                tensors[f"{name}{part}.weight"] = values.to(torch.bfloat16)
    save_file(tensors, folder / WEIGHTS)
    modules = [name.rpartition(".")[2] for name in _SIDES]
    peft = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "bench-llama",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": modules,
    }
    provenance = {
        "name": f"random-{seed}",
        "base": "bench-llama",
        "aspects": SEVEN.name,
        "template": "llama3",
        "template_sha256": TEMPLATES["llama3"].sha256,
        "prompt_sha256": prompt_sha256(SEVEN.system_prompt),
    }
    (folder / CONFIG).write_text(json.dumps(peft))
    (folder / PROVENANCE).write_text(json.dumps(provenance))
    return folder


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--papers", type=int, default=192, help="of the one batch and of the two")
    parser.add_argument("--slots", type=int)
    parser.add_argument("--scale", type=float, default=1.0, help="of the papers' lengths")
    parser.add_argument("--answer", type=int, default=ANSWER_TOKENS)
    parser.add_argument("--tokenizer", type=Path, help="Llama 3's tokenizer.json, or .json.xz")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try it on a CPU")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
