"""`referee train` from a recipe to a registered adapter, with its run in the database."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.training.test_run import write_home
from tests.site import Site

_RECIPE = """\
name: tiny
reviewer: llama31-4
dataset: tiny
lora: {rank: 4, alpha: 8}
batch: 4
epochs: 1
save_every: 1
"""


def test_train_registers_its_adapter_in_the_database(tmp_path: Path) -> None:
    # Given a home with a base model, a data set and a recipe
    home = tmp_path / "home"
    write_home(home)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(_RECIPE)
    site = Site(home)
    # When it is trained
    done = site.json("train", str(recipe), "--every-checkpoint", fresh=True)
    # Then there is an adapter, its curve, and the run with its losses
    assert (done["finished"], done["steps"]) == (True, 2)
    folder = Path(done["adapter"])
    assert (folder / "curve.svg").read_text().startswith("<svg")
    assert {path.name for path in folder.iterdir()} >= {
        "adapter_model.safetensors",
        "provenance.json",
    }
    question = (
        "SELECT r.state, m.step FROM training_run r JOIN training_metric m "
        "ON m.run_id = r.id WHERE m.name = 'loss' ORDER BY m.step"
    )
    rows = json.loads(site.run("sql", question, "--format", "json").out)
    assert [(row["state"], row["step"]) for row in rows] == [("succeeded", 1), ("succeeded", 2)]
    # And the adapters of both steps can be chosen for a matching reviewer
    listed = site.json("adapter", "list")
    assert sorted(each["metrics"]["step"] for each in listed) == [1, 2]
    choose = ("judge", "checkpoints", "tiny", "--dataset", str(home / "datasets" / "tiny"))
    few = site.run(*choose, "--reviewer", "llama31-4")
    assert (few.code, "There is no reviewer 'human'" in few.err) == (2, True)
    # And an unknown recipe is reported in one sentence
    missing = site.run("train", "nothing")
    assert (missing.code, "There is no recipe nothing" in missing.err) == (2, True)
