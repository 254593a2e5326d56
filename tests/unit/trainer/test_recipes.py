"""Choices before a training run starts: recipe, order of samples, memory plan, attention."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend

from errors import UserError
from trainer.qlora import recipe as recipes
from trainer.qlora.activation_checkpointing import BlockShape, make_plan
from trainer.qlora.causal_attention import HeadShape, _sdpa, matches_reference
from trainer.qlora.loss_curve import draw
from trainer.qlora.recipe import Recipe
from trainer.qlora.schedule import batch_indices, learning_rate, split_batch

SHIPPED = sorted(path.stem for path in recipes.FOLDER.glob("*.yaml"))
RECIPE = Recipe("r", "llama31-7", "d", batch=4, epochs=2.5)
#: Llama 3.1 8B.
SHAPE = BlockShape(32, 4096, 14_336, 4096, 1024, 2)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_is_the_published_one(name: str) -> None:
    recipe = recipes.load(Path(name))
    assert recipe.name == name
    assert (recipe.batch, recipe.reviewer_config.name) == (16, name)
    if name.startswith("demo"):
        return
    assert (recipe.learning_rate, recipe.epochs, recipe.save_every) == (1e-4, 3, 100)
    # Step 1800 is 1.95 epochs of about 14,770 pairs.
    assert 1800 * recipe.batch / 14_770 == pytest.approx(1.95, abs=0.005)
    assert 1800 in recipe.keep_steps
    assert recipe.limits.max_pair_tokens <= recipe.base.max_context


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: x\nreviewer: llama31-7\ndataset: d\nbatch: 0", "batch: must be above 0"),
        ("name: x\nreviewer: llama31-7\ndataset: d\nspeed: 3", "speed: this key is unknown"),
        (
            "name: x\nreviewer: llama31-7\ndataset: d\nlora: {dora: true, dropout: 0.1}",
            "DoRA is trained without dropout",
        ),
        ("- 1", "a recipe is a mapping"),
        ("name: [", "not YAML"),
    ],
)
def test_a_bad_recipe_is_named_with_its_key(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=sentence):
        recipes.load(path)


def test_unknown_recipe_error_lists_the_recipes() -> None:
    with pytest.raises(UserError, match=r"There is no recipe nothing: .*llama31-7"):
        recipes.load(Path("nothing"))


@given(st.integers(1, 40), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_every_epoch_sees_every_sample_once(n_samples: int, seed: int) -> None:
    recipe = replace(RECIPE, epochs=2, seed=seed)
    steps = range(recipe.n_steps(n_samples))
    seen = [index for step in steps for index in batch_indices(step, n_samples, recipe)]
    assert Counter(seen[:n_samples]) == Counter(range(n_samples))
    assert Counter(seen) == Counter(dict.fromkeys(range(n_samples), 2))


@given(st.lists(st.integers(1, 12_288), min_size=1, max_size=16), st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_batch_is_divided_evenly_without_remainder(lengths: list[int], n_processes: int) -> None:
    parts = split_batch(lengths, n_processes)
    assert sorted(place for part in parts for place in part) == list(range(len(lengths)))
    loads = [sum(lengths[place] for place in part) for part in parts]
    assert max(loads) - min(loads) <= max(lengths)


def test_the_rate_warms_up_and_then_stays_or_falls() -> None:
    constant = replace(RECIPE, warmup_steps=4)
    assert [learning_rate(s, 100, constant) for s in (0, 3, 50)] == [2.5e-5, 1e-4, 1e-4]
    falling = replace(constant, schedule="cosine")
    rates = [learning_rate(step, 100, falling) for step in range(4, 101)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(1e-5)


@given(st.integers(0, 140), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_plan_stays_within_memory_and_more_memory_means_less_work(gib: int, dora: bool) -> None:
    shape = replace(SHAPE, dora=dora)
    plan = make_plan(shape, 12_288, gib << 30, 14 << 30)
    ways = [plan.mode(block) for block in range(32)]
    assert ways == sorted(ways, key=("input", "attention", "stored").index)
    kept = sum(shape.saved_bytes(mode, 12_288) for mode in ways) + shape.temporary_bytes(12_288)
    smallest = plan.with_less_memory() is None
    assert kept <= gib << 30 or smallest
    more = make_plan(shape, 12_288, (gib + 4) << 30, 14 << 30)
    assert (more.stored, -more.input) >= (plan.stored, -plan.input)


def test_tightening_a_plan_ends_with_everything_recomputed() -> None:
    plan, seen = make_plan(SHAPE, 12_288, 200 << 30, 14 << 30), 0
    assert (plan.stored, plan.dense) == (32, True)
    while (with_less_memory := plan.with_less_memory()) is not None:
        plan, seen = with_less_memory, seen + 1
        assert plan.input + plan.attention + plan.stored == 32
    assert (plan.input, seen < 80) == (32, True)


def test_attention_is_verified_against_plain_attention_before_use() -> None:
    shape, cpu = HeadShape(4, 2, 16), torch.device("cpu")
    fine = _sdpa(SDPBackend.FLASH_ATTENTION, repeat=True)
    assert matches_reference(fine, cpu, torch.float32, shape)
    assert not matches_reference(lambda q, k, v: fine(q, k, v) * 1.1, cpu, torch.float32, shape)
    assert not matches_reference(lambda q, k, v: fine(q, v, v), cpu, torch.float32, shape)


def test_a_curve_shows_both_losses_and_the_chosen_step() -> None:
    history = [{"step": 1.0, "loss": 3.0}, {"step": 2.0, "loss": 2.0, "validation_loss": 2.5}]
    picture = draw(history, "a <run>", 2)
    assert picture.count("<polyline") == 2
    assert "step 2" in picture
    assert "a &lt;run&gt;" in picture
    assert os.linesep not in draw([], "empty", 0).strip()
