"""The adapter registry: register, promote, roll back, and fetch on another machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sqlalchemy import insert, text, update

from db import adapters, reviewers
from db.schema_judging import ComparisonRow, Verdict
from db.schema_training import AdapterChunk
from db.session import Database, open_database
from dispatch import adapter_registry, roster
from dispatch.adapter_cache import AdapterCache
from errors import RequestRefused, UserError
from models.adapters.adapter_package import CONFIG, PROVENANCE, WEIGHTS
from models.text import reviewer as configurations
from models.text.bases import BaseModel
from models.text.reviewer import ReviewerConfig
from models.weights.loading import load
from testing.small_models import write_tiny_llama
from tests.adapters import change, write_adapter
from tests.integration.db.content import a_reviewer, paper, submit

BASE = "tiny-llama"


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("base") / BASE, "llama31")


@pytest.fixture(scope="module")
def trained(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("trained")
    return [write_adapter(base_folder, folder / str(seed), BASE, seed) for seed in range(2)]


def config(base_folder: Path) -> ReviewerConfig:
    shipped = configurations.load(configurations.builtin()["llama31-4"])
    base = BaseModel(BASE, str(base_folder), "main", 16384)
    return replace(shipped, name="tiny-4", base=base, adapter_sha256=None)


@pytest.fixture
def site(database: Database, base_folder: Path) -> Database:
    """A database that knows a reviewer of the tiny base."""
    roster.register_version(database, config(base_folder))
    return database


def test_adapter_is_fetched_completely_and_a_changed_byte_is_detected(
    site: Database, trained: list[Path], tmp_path: Path
) -> None:
    done = adapter_registry.register(site, trained[0])
    assert done.new
    assert not adapter_registry.register(site, trained[0]).new
    stored = adapters.named(site, done.sha256[:8])
    assert adapters.papers(site, stored) == {"a" * 64, "b" * 64}
    adapter_registry.verify(site, stored)
    # When another machine fetches it
    folder = AdapterCache(site, tmp_path).folder(done.sha256)
    # Then it has the same bytes, and does not query the database again
    assert (folder / WEIGHTS).read_bytes() == (trained[0] / WEIGHTS).read_bytes()
    with site.write() as on:
        on.execute(update(AdapterChunk).values(data=b"other bytes"))
    assert AdapterCache(site, tmp_path).folder(done.sha256) == folder
    # But a third machine and `verify` refuse the changed bytes in the database
    for ask in (
        lambda: AdapterCache(site, tmp_path / "third").folder(done.sha256),
        lambda: adapter_registry.verify(site, stored),
    ):
        with pytest.raises(RequestRefused, match="SHA-256"):
            ask()
    assert not (tmp_path / "third" / "adapters" / done.sha256).exists()


def test_damaged_cache_is_fetched_again(
    site: Database, trained: list[Path], tmp_path: Path
) -> None:
    sha256 = adapter_registry.register(site, trained[0]).sha256
    folder = AdapterCache(site, tmp_path).folder(sha256)
    (folder / WEIGHTS).unlink()
    assert (AdapterCache(site, tmp_path).folder(sha256) / WEIGHTS).is_file()
    with pytest.raises(RequestRefused, match="neither on this machine nor in the database"):
        AdapterCache(site, tmp_path).folder("0" * 64)


def _pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save({}, folder / "adapter_model.bin")


def _torn(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:1000])


def _with_nan(dtype: torch.dtype) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = {name: t.to(dtype) for name, t in load_file(folder / WEIGHTS).items()}
        next(iter(tensors.values()))[0, -1] = float("nan")
        save_file(tensors, folder / WEIGHTS)

    return spoil


def _changed(name: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder, name, **changes)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_pickled, "is a pickle"),
        (_torn, "cannot be read"),
        (_with_nan(torch.float32), "not finite"),
        (_with_nan(torch.bfloat16), "not finite"),
        (_changed(CONFIG, r=8), "its rank is 8"),
        (_changed(CONFIG, peft_type="IA3"), "neither a LoRA nor a DoRA"),
        (_changed(CONFIG, base_model_name_or_path="gpt2"), "on gpt2, not on tiny-llama"),
        (_changed(PROVENANCE, base="gpt2"), "There is no base model 'gpt2'"),
        (_changed(PROVENANCE, template_sha256="0" * 64), "another llama3 template"),
        (_changed(PROVENANCE, prompt_sha256="0" * 64), "another prompt for 4 aspects"),
        (_changed(PROVENANCE, aspects=None), "aspects: input should be a valid string"),
        (lambda folder: (folder / PROVENANCE).unlink(), "has no provenance.json"),
    ],
)
def test_invalid_adapter_is_refused_in_one_sentence_and_not_stored(
    spoil: Callable[[Path], Any],
    sentence: str,
    base_folder: Path,
    trained: list[Path],
    tmp_path: Path,
    migrated_sqlite: Path,
) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "db")
    database = open_database(f"sqlite:///{tmp_path / 'db'}")
    roster.register_version(database, config(base_folder))
    folder = Path(shutil.copytree(trained[0], tmp_path / "adapter"))
    spoil(folder)
    with pytest.raises(UserError, match=sentence) as refusal:
        adapter_registry.register(database, folder)
    assert "\n" not in str(refusal.value)
    assert adapters.listing(database) == []
    database.close()


def test_a_promoted_adapter_is_for_later_batches_and_can_be_taken_back(
    site: Database, trained: list[Path], base_folder: Path
) -> None:
    first, second = (
        adapters.named(site, adapter_registry.register(site, folder).sha256) for folder in trained
    )
    plain, _ = roster.resolve(site, "tiny-4")
    running = submit(site, "running", paper("a"), reviewer=plain)
    one = adapter_registry.promote(site, first, "tiny-4")
    two = adapter_registry.promote(site, second, "tiny-4")
    assert [one.version, two.version] == [2, 3]
    assert roster.resolve(site, "tiny-4")[1].adapter_sha256 == second.sha256
    # A batch that was there before keeps its version
    assert submit(site, "running", paper("b"), reviewer=plain).reviewer == running.reviewer
    # Only the adapter in use is protected and marked
    assert states(site) == ["registered", "promoted"]
    with pytest.raises(UserError, match="used by a reviewer in force"):
        adapter_registry.retire(site, second)
    # It can be rolled back twice, and not further
    assert adapter_registry.roll_back(site, "tiny-4")[1] == one
    assert adapter_registry.roll_back(site, "tiny-4") == (one, plain)
    with pytest.raises(UserError, match="no earlier version"):
        adapter_registry.roll_back(site, "tiny-4")
    # A version that was rolled back can be promoted again; a retired adapter cannot
    assert adapter_registry.promote(site, second, "tiny-4") == two
    adapter_registry.retire(site, first)
    assert states(site) == ["retired", "promoted"]
    with pytest.raises(UserError, match="is retired"):
        adapter_registry.promote(site, first, "tiny-4")
    with pytest.raises(UserError, match="trained for base model tiny-llama"):
        adapter_registry.promote(site, second, "llama31-4")


def test_an_evaluation_can_be_asked_for(site: Database, trained: list[Path]) -> None:
    adapter = adapters.named(site, adapter_registry.register(site, trained[0]).sha256)
    candidate = reviewers.register(
        site,
        name="candidate",
        sha256="c",
        kind="local",
        queue="q",
        config={**roster.resolve(site, "tiny-4")[1].to_json(), "adapter_sha256": adapter.sha256},
    )
    other, reference = a_reviewer(site, "other", "cpu"), a_reviewer(site, "human", "cpu")
    with site.write() as on:
        on.execute(text("UPDATE reviewer SET kind = 'human' WHERE name IN ('other', 'human')"))
        on.execute(
            insert(ComparisonRow).values(
                id=7,
                a_id=other.id,
                b_id=candidate.id,
                reference_id=reference.id,
                config={},
                config_sha256="s",
            )
        )
    submit(site, "b", paper("a"), paper("b"))
    with pytest.raises(UserError, match="won 0 and lost 0"):
        adapter_registry.promote(site, adapter, "tiny-4", evaluation=7)
    with pytest.raises(UserError, match="There is no evaluation 8"):
        adapter_registry.promote(site, adapter, "tiny-4", evaluation=8)
    with site.write() as on:  # a lost, so the candidate, b, won
        won = {"comparison_id": 7, "paper_id": 1, "method": "match_equal", "outcome": "lose"}
        on.execute(insert(Verdict).values(shown_first="neither", **won))
    assert adapter_registry.promote(site, adapter, "tiny-4", evaluation=7).version == 2


def test_merged_model_gives_the_scores_of_the_adapted_model(
    site: Database, trained: list[Path], base_folder: Path, tmp_path: Path
) -> None:
    adapter = adapters.named(site, adapter_registry.register(site, trained[0]).sha256)
    adapter_registry.merge(site, adapter, tmp_path / "merged", tmp_path / "home")
    cpu, base = torch.device("cpu"), config(base_folder).base
    assert base is not None
    adapted = load(base_folder, base, template="llama3", weights="bf16", device=cpu)
    adapted.adapters.attach(trained[0], adapter.sha256)
    adapted.adapters.activate(adapter.sha256)
    from transformers import AutoModelForCausalLM

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.dtype == torch.bfloat16
    ids = torch.arange(50)[None]
    with torch.no_grad():
        found, expected = merged.float()(ids).logits, adapted.model.float()(ids).logits
    # They differ only by the rounding of the merged weights to bf16.
    assert (found - expected).abs().mean() < 0.02 * expected.abs().mean()
    with pytest.raises(UserError, match="exists already"):
        adapter_registry.merge(site, adapter, tmp_path / "merged", tmp_path / "home")


def states(database: Database) -> list[str]:
    return [adapter.state for adapter in adapters.listing(database)]
