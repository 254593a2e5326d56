"""Killed, stopped and distributed runs give the result of an uninterrupted run."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import resource
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from errors import UserError
from models.adapters.peft_adapters import PeftAdapters
from models.hashes import adapter_sha256
from models.kernels.device_support import Precision
from models.text.aspects import FOUR
from models.weights.loading import load
from testing.small_models import FAMILIES, write_tiny_llama
from trainer.data.dataset import TrainingPair, write
from trainer.data.dataset_card import Card, CardSource, CutRule
from trainer.qlora import recipe as recipes
from trainer.qlora.checkpoints import Checkpoints
from trainer.qlora.distributed import Processes, init_processes
from trainer.qlora.recipe import Lora, Recipe
from trainer.qlora.training_run import RunOptions, TrainingResult, TrainingRun

FORK = multiprocessing.get_context("fork")
RECIPE = Recipe(
    name="tiny",
    reviewer="llama31-4",
    dataset="tiny",
    lora=Lora(rank=4, alpha=8, dropout=0.1),
    batch=4,
    learning_rate=1e-2,
    epochs=2,
    save_every=2,
    keep=2,
    warmup_steps=2,
    seed=1,
)


class Quiet:
    """A listener that calls `act` at every step."""

    def __init__(self, act: Callable[[int], Any] = lambda step: None) -> None:
        self._act = act

    def on_step(self, step: int, n_steps: int, values: Mapping[str, float]) -> None:
        self._act(step)

    def on_message(self, sentence: str) -> None:
        pass


def pair(number: int) -> TrainingPair:
    draw = random.Random(number)
    paper = f"[TITLE]\nPaper {number}\n" + "".join(
        draw.choices("abcdefgh ", k=40 + number * 7 % 60)
    )
    review = "".join(f"[{a.heading}]\n<Point {number}> It is so.\n\n" for a in FOUR.aspects)
    return TrainingPair(f"p{number}", hashlib.sha256(paper.encode()).hexdigest(), paper, review)


def write_home(home: Path) -> None:
    """Make a home with a tiny base model and a data set of 12 pairs."""
    write_tiny_llama(home / "models" / "llama31-8b", "llama31")
    pairs = [pair(number) for number in range(12)]
    card = Card(
        name="tiny",
        aspects="4",
        reviewer="merged v1",
        tokenizer="bytes",
        cut=CutRule("llama3", 11_138, 1_150),
        lengths={},
        rules={},
        sources=(CardSource("made up", "CC0-1.0", 12),),
        seed=1,
        split_rule="by number",
        code_version="0",
    )
    (home / "datasets").mkdir()
    write(
        home / "datasets" / "tiny", card, train=pairs[:8], validation=pairs[8:10], test=pairs[10:]
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_home(home)
    return home


def train(home: Path, name: str, listener: Quiet | None = None, **options: Any) -> TrainingResult:
    processes = options.pop("processes", Processes())
    recipe = options.pop("recipe", RECIPE)
    options = {"resume": False, "full_precision": True} | options
    run = TrainingRun(recipe, RunOptions(home, name, **options), processes)
    return run.train(listener or Quiet())


@pytest.fixture(scope="module")
def whole(home: Path) -> TrainingResult:
    """An uninterrupted run: 4 steps of 4 samples."""
    return train(home, "whole")


def forked(act: Callable[..., Any], *arguments: Any) -> ForkProcess:
    """Run the function in a forked process."""
    process = FORK.Process(target=_in_one_thread, args=(act, *arguments), daemon=True)
    process.start()
    return process


def _in_one_thread(act: Callable[..., Any], *arguments: Any) -> None:
    # A fork has none of the threads that its parent's torch computes with, and would wait for them.
    torch.set_num_threads(1)
    act(*arguments)


def assert_same(home: Path, name: str, whole: TrainingResult, trained: TrainingResult) -> None:
    """Loss curve and last state equal those of the uninterrupted run, to 1e-4."""
    curves = [
        [(values["step"], values["loss"]) for values in each.outcome.position.history]
        for each in (trained, whole)
    ]
    assert curves[0] == [(step, pytest.approx(loss, abs=1e-4)) for step, loss in curves[1]]
    states = [
        Checkpoints(home / "training" / each / "checkpoints").newest() for each in (name, "whole")
    ]
    assert states[0] is not None
    assert states[1] is not None
    for part, values in states[1].adapter.items():
        assert torch.allclose(states[0].adapter[part], values, atol=1e-4), part


def test_killed_and_resumed_run_equals_an_uninterrupted_one(
    home: Path, whole: TrainingResult
) -> None:
    # Given a process that is killed in the middle of a step after its first checkpoint
    def die(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    process = forked(train, home, "killed", Quiet(die))
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    # When it is resumed
    trained = train(home, "killed", resume=True)
    # Then the two runs are equal
    assert_same(home, "killed", whole, trained)


def test_sigterm_saves_within_a_step_and_resume_continues_there(
    home: Path, whole: TrainingResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a run that receives SIGTERM while it processes samples
    run = TrainingRun(RECIPE, RunOptions(home, "stopped", full_precision=True), Processes())
    seen = []
    backward = run._model.backward

    def counted(*arguments: Any) -> torch.Tensor:
        seen.append(arguments)
        if len(seen) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return backward(*arguments)

    monkeypatch.setattr(run._model, "backward", counted)
    stopped = run.train(Quiet())
    # Then it has saved the two samples of the second step, and no adapter
    position = stopped.outcome.position
    assert (stopped.adapter, position.step, position.n_samples) == (None, 1, 2)
    # And it continues with the third
    assert_same(home, "stopped", whole, train(home, "stopped", resume=True))


def _one_of_two(home: Path, rank: int, port: int, name: str) -> None:
    variables = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "MASTER_PORT": port}
    os.environ.update({"MASTER_ADDR": "127.0.0.1"} | {k: str(v) for k, v in variables.items()})
    processes = init_processes()
    train(home, name, processes=processes)
    processes.close()


def test_two_processes_train_as_one(home: Path, whole: TrainingResult) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    both = [forked(_one_of_two, home, rank, port, "two") for rank in (0, 1)]
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert_same(home, "two", whole, train(home, "two", resume=True))


def test_adapter_records_its_provenance_and_loads(home: Path, whole: TrainingResult) -> None:
    assert whole.adapter is not None
    record = json.loads((whole.adapter / "provenance.json").read_text())
    assert record["papers"] == sorted(pair(number).paper_sha256 for number in range(10))
    assert [each["id"] for each in record["sources"]["validation"]] == ["p8", "p9"]
    assert (
        record["metrics"]["step"]
        == whole.step
        == min(whole.outcome.validation, key=whole.outcome.validation.__getitem__)
    )
    family = FAMILIES["llama31"]
    loaded = load(
        home / "models" / "llama31-8b",
        family.base,
        template=family.template,
        device=torch.device("cpu"),
        precision=Precision(torch.float32, "test"),
    )
    adapters = PeftAdapters(loaded.model, family.base)
    adapters.attach(whole.adapter, adapter_sha256(whole.adapter))
    assert {t.dtype for t in load_file(whole.adapter / "adapter_model.safetensors").values()} == {
        torch.bfloat16
    }


def test_another_step_can_be_chosen_afterwards(home: Path, whole: TrainingResult) -> None:
    chosen = train(home, "whole", resume=True, step=4)
    assert chosen.step == 4
    with pytest.raises(UserError, match="no checkpoint of step 3; existing steps: 2, 4"):
        train(home, "whole", resume=True, step=3)


def test_each_checkpoint_can_become_an_adapter(home: Path, whole: TrainingResult) -> None:
    trained = train(home, "whole", resume=True, every_checkpoint=True)
    records = [json.loads((each / "provenance.json").read_text()) for each in trained.candidates]
    told = [(each["run"], each["metrics"]["step"]) for each in records]
    assert told == [("whole", 2), ("whole", 4)]
    losses = [each["metrics"]["validation_loss"] for each in records]
    assert losses == [whole.outcome.validation[step] for step in (2, 4)]
    # The chosen one among them is the run's adapter itself
    hashes = [adapter_sha256(each) for each in trained.candidates]
    assert hashes[0] != hashes[1]
    assert whole.adapter_sha256 in hashes


def test_a_llama_32_is_trained_by_two_yaml_files(home: Path, tmp_path: Path) -> None:
    # Given a model with Llama 3.2's differences from 3.1, and its own reviewer and recipe
    rope = {**FAMILIES["llama31"].config["rope_parameters"], "factor": 32.0}
    folder = write_tiny_llama(
        tmp_path / "model", "llama31", tie_word_embeddings=True, rope_parameters=rope
    )
    (tmp_path / "reviewer.yaml").write_text(
        "name: llama32-4\nkind: local\naspects: '4'\ntemplate: llama3\nguided: true\n"
        f"base: {{name: llama32-3b, hub: {folder}, revision: '', max_context: 131072}}\n"
    )
    (tmp_path / "recipe.yaml").write_text(
        f"name: llama32-4\nreviewer: {tmp_path / 'reviewer.yaml'}\ndataset: tiny\n"
        "lora: {rank: 4, alpha: 8}\nbatch: 4\nlearning_rate: 1.0e-2\nmax_steps: 2\n"
    )
    # When it is trained
    trained = train(home, "llama32", recipe=recipes.load(tmp_path / "recipe.yaml"))
    # Then its loss falls, and its adapter fits the model that an engine loads
    first, second = (each["loss"] for each in trained.outcome.position.history)
    assert second < first
    assert trained.adapter is not None
    assert trained.adapter_sha256 is not None
    base = recipes.load(tmp_path / "recipe.yaml").base
    loaded = load(folder, base, template="llama3", device=torch.device("cpu"))
    loaded.adapters.attach(trained.adapter, trained.adapter_sha256)


def test_an_architecture_that_training_does_not_compute_is_refused(tmp_path: Path) -> None:
    write_home(tmp_path)
    path = tmp_path / "models" / "llama31-8b" / "config.json"
    path.write_text(
        json.dumps(
            json.loads(path.read_text())
            | {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}
        )
    )
    with pytest.raises(UserError, match="holds a Qwen3ForCausalLM; supported architectures"):
        train(tmp_path, "other")


def _on_a_full_disk(home: Path, answers: Any) -> None:
    run = TrainingRun(RECIPE, RunOptions(home, "full", full_precision=True), Processes())
    # A file limited to 64 KiB fails like one on a full disk.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
    try:
        run.train(Quiet())
    except UserError as error:
        answers.put(str(error))


def test_full_disk_is_reported_in_one_sentence_and_leaves_no_partial_files(home: Path) -> None:
    answers = FORK.Queue()
    process = forked(_on_a_full_disk, home, answers)
    sentence = answers.get(timeout=120)
    process.join(60)
    assert "step-000002 could not be written" in sentence
    assert "--resume" in sentence
    assert list((home / "training" / "full" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"reviewer": "llama31-7"}, "has reviews of the aspect set 4, but .* llama31-7 writes 7"),
        ({"reviewer": "llama2-4"}, "made for template llama3, but reviewer llama2-4 uses llama2"),
        ({"dataset": "nowhere"}, "There is no data set nowhere"),
        ({"learning_rate": 1.0}, "the recipe is not the one it was started with"),
    ],
)
def test_incompatible_reviewer_data_set_or_recipe_is_refused(
    home: Path, whole: TrainingResult, change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        train(home, "whole", resume=True, recipe=replace(RECIPE, **change))


def test_a_run_is_not_begun_twice(home: Path, whole: TrainingResult) -> None:
    with pytest.raises(UserError, match="There is already a run whole in"):
        train(home, "whole")
