"""Reviewers by name: the version in force, which new batches are bound to, and the known names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from db import reviewers
from db.reviewers import ReviewerVersion
from db.session import Database, open_database
from errors import RefereeError, UserError
from models.text import reviewer as configurations
from models.text.reviewer import ReviewerConfig
from settings import Settings


def register_version(database: Database, config: ReviewerConfig) -> ReviewerVersion:
    """Store a configuration as a version of its name, unless it is one already."""
    return reviewers.register(
        database,
        name=config.name,
        sha256=config.sha256,
        kind=config.kind,
        queue=config.queue,
        config=config.to_json(),
    )


def resolve(database: Database, name: str) -> tuple[ReviewerVersion, ReviewerConfig]:
    """The version of a reviewer in force; one shipped with Referee is registered on first use.

    The configuration of a newer Referee does not replace a version with a promoted adapter.
    """
    version = reviewers.newest(database, name)
    own = shipped(name)
    if own is not None and (
        version is None or version.config.get("adapter_sha256") == own.adapter_sha256
    ):
        register_version(database, own)
        version = reviewers.newest(database, name)
    if version is None:
        raise UserError(f"There is no reviewer {name!r}. {known(database)}")
    return version, configurations.from_json(version.config)


def listing(database: Database) -> list[dict[str, Any]]:
    """All reviewers by name, with the newest version that was used; None for those never used."""
    found: dict[str, dict[str, Any]] = {}
    for path in configurations.builtin().values():
        config = configurations.load(path)
        found[config.name] = _line(config.name, config.kind, config.queue, None)
    for version in reviewers.listing(database):
        found[version.name] = _line(version.name, version.kind, version.queue, version.version)
    return [found[name] for name in sorted(found)]


def _line(name: str, kind: str, queue: str, version: int | None) -> dict[str, Any]:
    return {"name": name, "kind": kind, "queue": queue, "version": version}


def shipped(name: str) -> ReviewerConfig | None:
    """A reviewer shipped with Referee, without the database."""
    path: Path | None = configurations.builtin().get(name)
    return None if path is None else configurations.load(path)


def stored(name: str, settings: Settings) -> ReviewerConfig | None:
    """A reviewer in the database; None when it is not there or the database does not answer."""
    try:
        version = reviewers.newest(open_database(settings.database), name)
    except RefereeError:
        return None
    return None if version is None else configurations.from_json(version.config)


def find_config(name: str, settings: Settings) -> ReviewerConfig:
    """The configuration of a reviewer: shipped with Referee, or stored in the database.

    Needs no broker, and no database for a shipped reviewer. UserError when there is none.
    """
    config = shipped(name) or stored(name, settings)
    if config is None:
        raise UserError(f"There is no reviewer {name!r}. {known()}")
    return config


def known(database: Database | None = None) -> str:
    """A sentence that names the known reviewers."""
    names = set(configurations.builtin())
    if database is not None:
        names |= {version.name for version in reviewers.listing(database)}
    return f"Known reviewers: {', '.join(sorted(names))}."


def check_may_send(config: ReviewerConfig, settings: Settings, allow_external: bool) -> None:
    """Refuse a reviewer whose endpoint papers may not be sent to."""
    from models.engines.api import endpoint_allowed

    if config.endpoint is not None:
        allowed = allow_external or settings.allow_external
        endpoint_allowed(config.endpoint.url, allowed, settings.allowed_hosts)
