"""Throughput of two interleaved batches with different adapters, compared with a single batch.

Also whether either batch starves. The real queue and worker; adapters of random weights, rank 16.

--tiny runs on a CPU to try the script; its figures are meaningless.
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

from benchmarks.installation import REVIEWER, Installation, add_options, installation
from benchmarks.measured import report
from models.adapters.adapter_package import CONFIG, PROVENANCE, WEIGHTS, prompt_sha256
from models.text import reviewer
from models.text.aspects import SEVEN
from models.text.templates import TEMPLATES

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
#: Papers of one batch that are submitted before the next papers of the other batch.
_CHUNK = 8


def main() -> None:
    """Measure one batch alone, then two interleaved."""
    options = _options()
    with (
        tempfile.TemporaryDirectory() as scratch,
        installation(Path(scratch), options) as site,
    ):
        results = measure(site, options)
    report(results, options.json)
    print(f"two adapters interleaved reach {results['ratio']:.1%} of one adapter's rate")
    for name, each in results["waits"].items():
        print(f"{name:12} waited {each['mean']:.1f} s on average, {each['longest']:.1f} at most")


def measure(site: Installation, options: argparse.Namespace) -> dict[str, Any]:
    """A worker serves the one batch, another the two, which wait for it when it starts."""
    for number in range(2):
        _add_reviewer(site, number)
    first = site.papers("one", options.papers)
    site.run("submit", str(first), "--batch", "one", "--reviewer", "bench-0")
    slots = ("--slots", str(options.slots)) if options.slots else ()
    with site.worker("", *slots):
        site.finish("one")
    _submit_interleaved(site, options.papers)
    with site.worker("", *slots):
        site.finish("turns-0", "turns-1")
    one, two = site.rate("one"), site.rate("turns-0", "turns-1")
    waits = {batch: _waits(site, batch, "turns-0", "turns-1") for batch in ("turns-0", "turns-1")}
    ratio = two.papers_per_hour / one.papers_per_hour
    return {"one": asdict(one), "two": asdict(two), "ratio": ratio, "waits": waits}


def _submit_interleaved(site: Installation, papers: int) -> None:
    for start in range(0, papers // 2, _CHUNK):
        n_papers = min(_CHUNK, papers // 2 - start)
        for number in range(2):
            batch = f"turns-{number}"
            offset = 1000 * (1 + number) + start
            file = site.papers(f"{batch}-{start}", n_papers, first=offset)
            site.run("submit", str(file), "--batch", batch, "--reviewer", f"bench-{number}")


def _waits(site: Installation, batch: str, *batches: str) -> dict[str, float]:
    """Seconds from the first start in any batch to the starts of one batch's papers."""
    names = ", ".join(f"'{name}'" for name in batches)
    jobs = "FROM job JOIN batch ON batch.id = job.batch_id WHERE batch.name"
    ((mean, longest),) = site.rows(
        "SELECT avg(job.started_at - t.began), max(job.started_at - t.began) FROM job "
        "JOIN batch ON batch.id = job.batch_id CROSS JOIN "
        f"(SELECT min(job.started_at) AS began {jobs} IN ({names})) AS t "
        f"WHERE batch.name = '{batch}'"
    )
    return {"mean": mean, "longest": longest}


def _add_reviewer(site: Installation, number: int) -> None:
    """Add a reviewer with its own registered adapter."""
    folder = write_adapter(site.scratch / f"adapter-{number}", site.model, number)
    sha256 = site.run("adapter", "register", str(folder)).split()[0]
    config = replace(
        reviewer.load(site.scratch / f"{REVIEWER}.yaml"),
        name=f"bench-{number}",
        adapter_sha256=sha256,
    )
    path = site.scratch / f"bench-{number}.yaml"
    path.write_text(yaml.safe_dump(config.to_json()))
    site.run("reviewer", "add", str(path))


def write_adapter(folder: Path, model: Path, seed: int, base: str = "bench-llama") -> Path:
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
        "base_model_name_or_path": base,
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": modules,
    }
    provenance = {
        "name": f"random-{seed}",
        "base": base,
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
    add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
