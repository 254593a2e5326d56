"""`referee judge calibrate` from its options to a calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db import reviewers
from db.reviewers import ReviewerVersion
from db.session import Database
from dispatch import roster
from errors import UserError
from judge.calibration import Calibration, SuppressionSetting, calibrate, settings_of
from judge.evaluation import Steps
from judge.matchers import EmbeddingMatcher
from judge.missing_reviews import ensure_reviews
from judge.selecting import papers_reviewed_by, select_papers, version_named
from settings import Settings


def run(
    database: Database, settings: Settings, options: Mapping[str, Any], steps: Steps
) -> Calibration:
    """Write what is missing and compare the settings. Raises UserError for what cannot be tried."""
    _, config = roster.resolve(database, options["name"])
    if config.kind != "local":
        raise UserError(f"Reviewer {config.name} is {config.kind}: only local ones are suppressed.")
    reference = version_named(database, options["reference"])
    selection = select_papers(options["papers"], options["dataset"], options["split"])
    papers = papers_reviewed_by(database, reference, selection)[: options["max_papers"]]
    coefficients = _coefficients(options["coefficients"])
    tried: list[tuple[SuppressionSetting, ReviewerVersion]] = []
    for setting in settings_of(config, options["modes"] or ("logit", "probability"), coefficients):
        version = _version(database, setting, write=not options["imported"])
        if not options["imported"]:
            with steps(f"reviewing with {setting.label}") as advance:
                ensure_reviews(
                    database,
                    settings,
                    version,
                    [paper_id for paper_id, _ in papers],
                    batch_name=f"calibrate-{version.name}-v{version.version}",
                    progress=advance,
                )
        tried.append((setting, version))
    only = frozenset(sha256 for _, sha256 in papers)
    return calibrate(database, tried, reference, EmbeddingMatcher(settings.home), only)


def _version(database: Database, setting: SuppressionSetting, *, write: bool) -> ReviewerVersion:
    if write:
        return roster.register_version(database, setting.config)
    version = reviewers.newest(database, setting.config.name)
    if version is None:
        raise UserError(
            f"There are no reviews by {setting.config.name}: import them under that name, or leave "
            "out --imported."
        )
    return version


def _coefficients(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < value <= 1 for value in found):
        raise UserError(f"--coefficients {text!r}: write numbers above 0 and up to 1, as 1,0.95.")
    return found
