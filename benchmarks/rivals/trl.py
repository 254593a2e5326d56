"""TRL's SFTTrainer with its defaults, on the samples of our trainer. Needs trl and datasets."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from trl import SFTConfig, SFTTrainer

from benchmarks.training_measures import samples, summary, wait
from models.weights.random_weights import byte_tokenizer
from trainer.data.pair_encoding import Sample


def measure(options: argparse.Namespace, *, dora: bool = False) -> dict[str, Any]:
    """SFTTrainer with its defaults: checkpointing on, fused head, bf16."""
    on_gpu = torch.cuda.is_available()
    times: list[float] = []
    n_samples = options.steps * options.batch

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            wait()
            self.started = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            wait()
            times.append(time.monotonic() - self.started)

    with tempfile.TemporaryDirectory() as scratch:
        config = SFTConfig(
            output_dir=scratch,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=options.batch,
            max_steps=options.steps,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            learning_rate=1e-4,
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            use_cpu=not on_gpu,
            bf16=on_gpu,
        )
        trainer = SFTTrainer(
            model=_model(options.model),
            args=config,
            train_dataset=_rows(samples(options.tokens, options.answer, n_samples)),
            processing_class=PreTrainedTokenizerFast(
                tokenizer_object=byte_tokenizer("llama3"),
                eos_token="<|eot_id|>",
                pad_token="<|eot_id|>",
            ),
            peft_config=LoraConfig(
                r=16,
                lora_alpha=32,
                target_modules="all-linear",
                use_dora=dora,
                task_type="CAUSAL_LM",
            ),
            callbacks=[Clock()],
        )
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tokens = options.batch * options.tokens
    return {**summary([tokens / each for each in times], losses), "batch": options.batch}


def _model(folder: Path) -> Any:
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return AutoModelForCausalLM.from_pretrained(
        folder,
        quantization_config=quantisation,
        dtype=dtype,
        device_map={"": 0 if on_gpu else "cpu"},
    )


def _rows(samples: list[Sample]) -> Any:
    rows = {
        "input_ids": [[*s.prompt_ids, *s.response_ids] for s in samples],
        "labels": [[-100] * len(s.prompt_ids) + [*s.response_ids] for s in samples],
    }
    # Named by hand: the name that `datasets` would make up needs every class it meets to pickle.
    table = datasets.table.InMemoryTable.from_pydict(rows)
    return datasets.Dataset(table, fingerprint="benchmark")
