"""The choice among a run's checkpoints by people's points instead of the validation loss."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commands.judge_tables import checkpoint_rows, checkpoint_sentences
from db import adapters
from db.adapters import NewAdapter
from db.comparisons import papers_of
from db.reviewers import ReviewerVersion
from db.session import Database
from dispatch import roster
from errors import UserError
from judge.checkpoint_choice import CheckpointRequest, choose
from models.adapters.adapter_package import prompt_sha256
from models.text.aspects import SEVEN
from models.text.templates import TEMPLATES
from settings import Settings
from tests.integration.db.content import content
from tests.integration.judge.rivals import ECHOES, NOISE, POINTS, reviewer, write

ONE_DATABASE = pytest.mark.parametrize("dialect", ["sqlite"])
PAPERS = [f"p{i}" for i in range(4)]


@contextmanager
def quietly(label: str) -> Any:
    yield lambda done, total: None


def dataset(folder: Path) -> Path:
    """A data set's folder whose validation papers are PAPERS."""
    folder.mkdir()
    lines = [json.dumps({"paper_sha256": content(name).sha256}) for name in PAPERS]
    (folder / "validation.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def checkpoint(database: Database, step: int, loss: float) -> ReviewerVersion:
    """An adapter of the run that was watched on PAPERS, and the reviewer that writes with it."""
    _, config = roster.resolve(database, "demo-7")
    assert config.base is not None
    sha256 = hashlib.sha256(str(step).encode()).hexdigest()
    made_for = {
        "aspects": "7",
        "template": config.template,
        "template_sha256": TEMPLATES[config.template or ""].sha256,
        "prompt_sha256": prompt_sha256(SEVEN.system_prompt),
    }
    new = NewAdapter(
        sha256=sha256,
        name="run",
        base=config.base.name,
        config={"files": [["weights", 1]], "run": "run", **made_for},
        metrics={"step": step, "validation_loss": loss},
        papers=[content(name).sha256 for name in PAPERS],
    )
    adapters.register(database, new, [b"w"])
    own = replace(config, name=f"demo-7~run-{step}", adapter_sha256=sha256)
    return roster.register_version(database, own)


def request_for(tmp_path: Path, **changes: Any) -> CheckpointRequest:
    request = CheckpointRequest(
        run="run",
        reviewer="demo-7",
        reference="people",
        dataset=dataset(tmp_path / "set"),
        min_papers=4,
    )
    return replace(request, **changes)


@ONE_DATABASE
def test_checkpoint_closest_to_human_reviews_is_chosen(database: Database, home: Path) -> None:
    people = reviewer(database, "people", kind="human")
    # Given three checkpoints, of which the one with the least loss talks about other things
    least, better, same = (checkpoint(database, *at) for at in ((1, 1.0), (2, 1.5), (3, 1.2)))
    for name in PAPERS:
        write(database, people, name, *POINTS)
        write(database, least, name, *NOISE)
        write(database, better, name, *ECHOES)
        write(database, same, name, *NOISE)

    # When the choice is made on the validation papers, which training has seen the losses of
    found = choose(database, Settings(home=home), request_for(home), quietly)

    # Then the one that says the same as people is chosen, with the papers to show for it
    assert not found.problems
    assert found.incumbent.step == 1
    assert found.best.step == 2
    told = {row["step"]: row for row in checkpoint_rows(found)}
    assert (told[2]["win"], told[2]["n"], told[2]["score"]) == (4, 4, 1.0)
    assert (told[3]["tie"], told[3]["score"], told[3]["chosen"]) == (4, 0.5, False)
    assert told[1]["comparison"] is None
    assert [paper.excluded for paper, _ in papers_of(database, told[2]["comparison"])] == [None] * 4
    best = found.best.adapter_sha256
    assert (
        f"step 2. Use it: referee adapter promote {best[:12]}"
        in checkpoint_sentences(found, "demo-7")[-1]
    )


@ONE_DATABASE
def test_between_equals_the_least_loss_stays(database: Database, home: Path) -> None:
    people = reviewer(database, "people", kind="human")
    versions = [checkpoint(database, *at) for at in ((1, 1.5), (2, 1.0))]
    for name in PAPERS:
        for version in (people, *versions):
            write(database, version, name, *POINTS)
    found = choose(database, Settings(home=home), request_for(home), quietly)
    assert found.best.step == found.incumbent.step == 2


@ONE_DATABASE
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"run": "other"}, "'other' has 0 adapters .* --every-checkpoint"),
        ({"reviewer": "demo-4"}, "was trained for aspects 7, and reviewer demo-4 has 4"),
        ({"min_papers": 5}, "have reviewed 4 papers in common; a comparison needs 5"),
    ],
)
def test_impossible_choice_is_reported(
    database: Database, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    people = reviewer(database, "people", kind="human")
    versions = [checkpoint(database, *at) for at in ((1, 1.5), (2, 1.0))]
    for name in PAPERS:
        for version in (people, *versions):
            write(database, version, name, *POINTS)
    with pytest.raises(UserError, match=sentence):
        choose(database, Settings(home=tmp_path), request_for(tmp_path, **changes), quietly)
