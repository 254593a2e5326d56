"""Settings of one Referee process, read once and then frozen.

Precedence: REFEREE_* variables, ./referee.toml, $REFEREE_HOME/referee.toml.
"""

from __future__ import annotations

import os
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from errors import UserError


def _default_home() -> Path:
    return Path(os.environ.get("REFEREE_HOME") or user_data_path("referee"))


class Settings(BaseSettings):
    """Everything an operator may set. Durations are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="REFEREE_", frozen=True, extra="ignore")

    #: Holds all state: database, broker data, models, caches, logs.
    home: Path = Field(default_factory=_default_home)
    #: SQLAlchemy URL; empty means SQLite in `home`.
    database_url: str = ""
    #: redis:// or rediss:// URL; empty means the embedded Valkey that `referee up` starts.
    broker_url: str = ""
    #: Reviewer used when a command names none.
    reviewer: str = "llama31-7"
    #: May papers be sent to endpoints that are neither loopback nor in `allowed_hosts`?
    allow_external: bool = False
    #: Host names that API reviewers may use although they are not loopback.
    allowed_hosts: tuple[str, ...] = ()
    #: Key for OpenAI-compatible endpoints.
    api_key: SecretStr = SecretStr("")

    #: A running job whose lease has not been renewed for this long is free for others.
    lease_seconds: float = 60.0
    #: A job is claimed at most this many times before it fails.
    max_attempts: int = 3
    #: First wait before a failed attempt is tried again; doubled each time.
    retry_seconds: float = 10.0
    #: How often a worker looks for work that no message announced.
    reconcile_seconds: float = 15.0
    #: How long a stopping worker lets running papers finish before it gives them back.
    drain_seconds: float = 60.0
    #: A worker whose engine has work and writes no token for so long is ended and started anew.
    watchdog_seconds: float = 300.0
    #: GPU memory that PyTorch may take in a worker, in GiB; 0 means all that is free.
    gpu_memory_gib: float = 0.0
    #: Keep the quantised weights in `home`/cache/weights (5.7 GB for 8B): a start is then shorter.
    cache_weights: bool = True
    #: "fp8" keeps the keys and values of attention in eight bits: twice the papers in flight, in
    #: slightly other words. On a GPU it needs FlashAttention-3.
    kv_cache: Literal["bf16", "fp8"] = "bf16"
    #: Papers stored by one transaction of `submit`; at most 200.
    submit_chunk: int = Field(default=200, ge=1, le=200)
    #: Port of the one Prometheus endpoint of this host's workers; 0: none.
    metrics_port: int = Field(default=0, ge=0, le=65535)
    #: Address that it listens on.
    metrics_address: str = "127.0.0.1"
    #: How workers log: for people, or one JSON object a line.
    log_format: Literal["text", "json"] = "text"
    #: "module:function" that makes the engine in place of the built-in ones (tests, benchmarks).
    engine: str = ""
    #: CPU threads of one local model; 0 means half the cores: a decode step is many small
    #: operations, which on two cores took 146 ms with one thread and 332 ms with two.
    torch_threads: int = 0

    #: Wall-clock seconds one PDF may take to read.
    pdf_seconds: float = 60.0
    #: Pages of a PDF that are looked at; a longer file is refused.
    pdf_pages: int = 500
    #: Address space of a PDF reading process, in MiB.
    pdf_memory_mib: int = 2048

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        files = [_default_home() / "referee.toml", Path("referee.toml")]
        toml = TomlConfigSettingsSource(settings_cls, toml_file=files)
        return (init_settings, env_settings, toml)

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the database in force."""
        return self.database_url or f"sqlite:///{self.home / 'referee.db'}"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Read the settings once a process. Raises UserError for a value that does not fit."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        key = "_".join(str(part) for part in first["loc"])
        raise UserError(
            f"The setting {key} (REFEREE_{key.upper()}) does not fit: {first['msg']}."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"referee.toml cannot be read: {error}.") from error
