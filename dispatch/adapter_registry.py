"""Registration, promotion and retirement of adapters.

An adapter is registered once and then promoted: a reviewer gets a new version that uses it. Batches
that were submitted before keep their version.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from db import adapters, comparisons, reviewers
from db.adapters import Adapter, NewAdapter
from db.reviewers import ReviewerVersion
from db.schema_judging import HEADLINE
from db.session import Database
from dispatch import roster
from dispatch.adapter_cache import AdapterCache, unpack
from errors import UserError
from models.adapters.adapter_package import (
    Provenance,
    check_package,
    layout,
    read_chunks,
    read_provenance,
)
from models.hashes import adapter_sha256
from models.text import bases
from models.text import reviewer as configurations
from models.text.bases import BaseModel
from models.text.reviewer import ReviewerConfig
from models.weights import store

#: Fields of the provenance that are stored in an adapter's config.
_PROVENANCE_KEYS = (
    "aspects",
    "template",
    "template_sha256",
    "prompt_sha256",
    "git_revision",
    "run",
)


@dataclass(frozen=True)
class Registered:
    """An adapter's SHA-256 and name; `new` is False when it was registered before."""

    sha256: str
    name: str
    new: bool


def register(database: Database, folder: Path) -> Registered:
    """Check an adapter's folder and store the adapter with its bytes.

    Raises UserError, and stores nothing, when anything is wrong with it.
    """
    peft, provenance = check_package(folder), read_provenance(folder)
    provenance.check()
    base = _base(database, provenance.base)
    trained_on = peft.get("base_model_name_or_path")
    if trained_on not in (base.name, base.hub):
        raise UserError(f"{folder} was trained on {trained_on}, not on {base.name} ({base.hub}).")
    new = NewAdapter(
        sha256=adapter_sha256(folder),
        name=provenance.name,
        base=base.name,
        config={"files": layout(folder), "peft": peft, **_provenance_fields(provenance)},
        metrics=provenance.metrics,
        dataset_sha256=provenance.dataset_sha256,
        papers=provenance.papers,
    )
    stored = adapters.register(database, new, read_chunks(folder))
    return Registered(new.sha256, new.name, stored)


def verify(database: Database, adapter: Adapter) -> None:
    """Fetch the adapter's bytes and check them as `register` does. Raises UserError."""
    with tempfile.TemporaryDirectory(prefix="referee-adapter-") as scratch:
        unpack(database, adapter, Path(scratch))
        check_package(Path(scratch))
    _provenance(adapter).check()
    _base(database, adapter.base)


def promote(
    database: Database, adapter: Adapter, name: str, *, evaluation: int | None = None
) -> ReviewerVersion:
    """Make a version of a reviewer that uses the adapter, for future batches.

    `evaluation` is a comparison that a reviewer with this adapter must have won. Raises UserError
    when the adapter does not fit the reviewer, is retired, or did not win.
    """
    _, config = roster.resolve(database, name)
    check_fits(adapter, config)
    if evaluation is not None:
        _check_won(database, adapter, evaluation)
    if not adapters.promote(database, adapter.sha256):
        raise UserError(f"Adapter {adapter.sha256[:12]} is retired and cannot be promoted.")
    version = roster.register_version(database, replace(config, adapter_sha256=adapter.sha256))
    reviewers.put_in_force(database, version.id)
    _demote_unused(database, config.adapter_sha256)
    return version


def roll_back(database: Database, name: str) -> tuple[ReviewerVersion, ReviewerVersion]:
    """Withdraw a reviewer's version in force; return it and the one that is in force now."""
    withdrawn = reviewers.withdraw_version(database, name)
    now_in_force = reviewers.newest(database, name)
    if withdrawn is None or now_in_force is None:
        raise UserError(f"Reviewer {name!r} has no earlier version to go back to.")
    _demote_unused(database, withdrawn.config.get("adapter_sha256"))
    return withdrawn, now_in_force


def retire(database: Database, adapter: Adapter) -> None:
    """Bar an adapter from new use. Raises UserError while a reviewer in force uses it."""
    if not adapters.retire(database, adapter.sha256):
        raise UserError(
            f"Adapter {adapter.sha256[:12]} is used by a reviewer in force: promote another "
            "adapter or roll back first."
        )


def merge(database: Database, adapter: Adapter, output: Path, home: Path) -> None:
    """Write the base model with the adapter merged in."""
    base = _base(database, adapter.base)
    base_folder = store.resolve(base, home)
    folder = AdapterCache(database, home).folder(adapter.sha256)
    from models.weights import adapter_merging as merging  # imports torch

    template = _provenance(adapter).template
    merging.merge(base_folder, base, template, folder, adapter.sha256, output)


def _provenance_fields(provenance: Provenance) -> Mapping[str, Any]:
    return {key: getattr(provenance, key) for key in _PROVENANCE_KEYS}


def _provenance(adapter: Adapter) -> Provenance:
    fields = {key: adapter.config[key] for key in _PROVENANCE_KEYS if key in adapter.config}
    return Provenance(name=adapter.name, base=adapter.base, **fields)


def _base(database: Database, name: str) -> BaseModel:
    """A base model by its name or the hub's: a shipped one, or that of an added reviewer."""
    added = [
        configurations.from_json(version.config).base
        for version in reviewers.listing(database)
        if version.kind == "local"
    ]
    known = [*bases.builtin().values(), *(base for base in added if base is not None)]
    for base in known:
        if name in (base.name, base.hub):
            return base
    names = ", ".join(sorted({base.name for base in known}))
    raise UserError(f"There is no base model {name!r}. Known: {names}.")


def check_fits(adapter: Adapter, config: ReviewerConfig) -> None:
    """Raise UserError unless the adapter fits the base, template, prompt and aspects."""
    provenance = _provenance(adapter)
    provenance.check()
    pairs = {
        "base model": (adapter.base, config.base.name if config.base else None),
        "aspects": (provenance.aspects, config.aspects),
        "template": (provenance.template, config.template),
    }
    for what, (trained, wanted) in pairs.items():
        if trained != wanted:
            raise UserError(
                f"Adapter {adapter.sha256[:12]} was trained for {what} {trained}, and reviewer "
                f"{config.name} has {wanted}."
            )


def _check_won(database: Database, adapter: Adapter, evaluation: int) -> None:
    wins, losses = _score(database, adapter, evaluation)
    if wins <= losses:
        raise UserError(
            f"Evaluation {evaluation} does not support adapter {adapter.sha256[:12]}: its "
            f"reviewer won {wins} and lost {losses} papers."
        )


def _score(database: Database, adapter: Adapter, evaluation: int) -> tuple[int, int]:
    """Papers that the adapter's reviewer won and lost, by hits at equal item counts."""
    counts = comparisons.win_counts(database, evaluation, HEADLINE)
    if counts is None:
        raise UserError(f"There is no evaluation {evaluation}.")
    mine = [_uses(database, each, adapter) for each in (counts.a_id, counts.b_id)]
    if mine[0] == mine[1]:
        raise UserError(
            f"Evaluation {evaluation} does not compare a reviewer with adapter "
            f"{adapter.sha256[:12]} with one without."
        )
    return (counts.wins, counts.losses) if mine[0] else (counts.losses, counts.wins)


def _uses(database: Database, reviewer_id: int, adapter: Adapter) -> bool:
    version = reviewers.get(database, reviewer_id)
    return version is not None and version.config.get("adapter_sha256") == adapter.sha256


def _demote_unused(database: Database, sha256: str | None) -> None:
    if sha256 is not None:
        adapters.demote(database, sha256)
