"""Versions, papers, matchers and extractors by the names that users give."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from db import adapters, reviewers
from db.comparisons import Side, reviewed_by
from db.reviewers import ReviewerVersion
from db.session import Database
from dispatch import roster
from errors import UserError
from judge.comparing import PaperSelection
from judge.judging import JudgeOptions, check_may_send
from judge.matchers import EmbeddingMatcher, Matcher
from judge.model_client import ModelClient, open_model_client
from judge.model_matchers import LiangMatcher, MargMatcher
from judge.model_points import ModelPoints
from judge.point_extraction import Extractor, ParsedPoints
from settings import Settings


def version_named(database: Database, name: str) -> ReviewerVersion:
    """The newest version of a reviewer, or the one that NAME@VERSION names. UserError if none."""
    plain, _, number = name.partition("@")
    newest, _ = roster.resolve(database, plain)
    if not number:
        return newest
    for version in reviewers.listing(database):
        if (version.name, str(version.version)) == (plain, number):
            return version
    raise UserError(f"Reviewer {plain!r} has no version {number}; its newest is {newest.version}.")


def side_named(database: Database, name: str, batch: str | None = None) -> Side:
    """A reviewer's reviews, or those of one of its batches."""
    return Side(version_named(database, name), batch)


def select_papers(papers: Path | None, dataset: Path | None, split: str | None) -> PaperSelection:
    """Papers by a file of SHA-256 hashes, or by a split of a data set folder.

    Raises UserError for a split without a data set, and for malformed files.
    """
    if papers is not None and dataset is not None:
        raise UserError("Name the papers by either --papers or --dataset, not both.")
    if papers is not None:
        lines = papers.read_text(encoding="utf-8").split()
        return PaperSelection(_hashes(lines, papers), split)
    if dataset is not None:
        return _of_split(dataset, split or "test")
    if split is not None:
        raise UserError(
            "--split needs the papers of the split: add --dataset FOLDER or --papers FILE."
        )
    return PaperSelection()


def papers_reviewed_by(
    database: Database, version: ReviewerVersion, selection: PaperSelection
) -> list[tuple[int, str]]:
    """(id, sha256) of the selected papers that a version has reviewed, by id."""
    wanted = selection.hashes
    return [each for each in reviewed_by(database, version) if wanted is None or each[1] in wanted]


def _of_split(dataset: Path, split: str) -> PaperSelection:
    file = dataset / f"{split}.jsonl"
    try:
        lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line]
        hashes = [str(json.loads(line)["paper_sha256"]) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no split of a data set: {error}.") from error
    return PaperSelection(_hashes(hashes, file), split)


def _hashes(found: list[str], file: Path) -> frozenset[str]:
    for value in found:
        if len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            raise UserError(f"{file} holds {value[:70]!r}, which is no SHA-256 of a paper.")
    return frozenset(found)


def adapters_named(database: Database, prefixes: Sequence[str]) -> tuple[str, ...]:
    """SHA-256 of the registered adapters with these prefixes. Raises UserError for unknown ones."""
    return tuple(sorted(adapters.named(database, prefix).sha256 for prefix in prefixes))


def make_matcher(
    name: str, threshold: float | None, settings: Settings, model: JudgeOptions | None
) -> Matcher:
    """A matcher by name. UserError when it needs a model and none is given."""
    if name == "embedding":
        if threshold is None:
            return EmbeddingMatcher(settings.home)
        return EmbeddingMatcher(settings.home, threshold)
    model_client = _model_client(model, settings, f"--matcher {name}")
    return LiangMatcher(model_client) if name == "liang" else MargMatcher(model_client)


def make_extractor(name: str, settings: Settings, model: JudgeOptions | None) -> Extractor:
    """An extractor by name. UserError when it needs a model and none is given."""
    if name == "parsed":
        return ParsedPoints()
    return ModelPoints(_model_client(model, settings, f"--points {name}"))


def _model_client(model: JudgeOptions | None, settings: Settings, what: str) -> ModelClient:
    if model is None:
        raise UserError(f"{what} asks a model: name it with --endpoint URL and --model NAME.")
    check_may_send(model, settings)
    return open_model_client(model.endpoint, settings.api_key.get_secret_value())
