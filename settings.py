"""Settings of a Referee process: read once, then immutable.

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
    """All settings. Durations are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="REFEREE_", frozen=True, extra="ignore")

    #: Holds all state: database, broker data, models, caches, logs.
    home: Path = Field(default_factory=_default_home)
    #: SQLAlchemy URL; empty means SQLite in `home`.
    database_url: str = ""
    #: redis:// or rediss:// URL; empty means the embedded Valkey that `referee up` starts.
    broker_url: str = ""
    #: Reviewer used when a command names none.
    reviewer: str = "llama31-7"
    #: Whether papers may be sent to endpoints that are neither loopback nor in `allowed_hosts`?
    allow_external: bool = False
    #: Host names that API reviewers may use although they are not loopback.
    allowed_hosts: tuple[str, ...] = ()
    #: Key for OpenAI-compatible endpoints.
    api_key: SecretStr = SecretStr("")

    #: A running job whose lease has not been renewed for so long may be claimed by others.
    lease_seconds: float = 60.0
    #: A job is claimed at most this many times before it fails.
    max_attempts: int = 3
    #: Delay before the first retry of a failed attempt; doubled for each further one.
    retry_seconds: float = 10.0
    #: Interval at which a worker looks for jobs whose messages were lost.
    reconcile_seconds: float = 15.0
    #: How long a stopping worker lets running papers finish before it releases them.
    drain_seconds: float = 60.0
    #: A local model's worker whose slots are all busy returns a paper of lower priority to the
    #: queue when one of high priority, or one whose deadline would pass, waits.
    preemption: bool = True
    #: A worker is restarted when its engine has work but generates no token for this long.
    watchdog_seconds: float = 300.0
    #: GPU memory that PyTorch may take in a worker, in GiB; 0 means all that is free.
    gpu_memory_gib: float = 0.0
    #: Keep quantised weights in `home`/cache/weights (5.7 GB for 8B), for faster starts.
    cache_weights: bool = True
    #: "fp8" keeps the keys and values of attention in eight bits: twice the papers in flight, with
    #: slightly different wording.
    kv_cache: Literal["bf16", "fp8"] = "bf16"
    #: "exact" reads every prompt in bf16, also those of reviewers whose `arithmetic` is fp8.
    arithmetic: Literal["reviewer", "exact"] = "reviewer"
    #: What a local model's attention runs on; "auto" measures what is installed when a worker
    #: starts and takes the fastest.
    attention: Literal["auto", "triton", "flash_attention_3", "flash_attention_2", "sdpa"] = "auto"
    #: Papers stored by one transaction of `submit`; at most 200.
    submit_chunk: int = Field(default=200, ge=1, le=200)
    #: Port of the Prometheus endpoint that all workers of this host share; 0: none.
    metrics_port: int = Field(default=0, ge=0, le=65535)
    #: Address that it listens on.
    metrics_address: str = "127.0.0.1"
    #: Log format of workers: plain text, or one JSON object per line.
    log_format: Literal["text", "json"] = "text"
    #: "module:function" that creates the engine, instead of the built-in ones (tests, benchmarks).
    engine: str = ""
    #: CPU threads of one local model; 0 means half the cores: a decode step is many small
    #: operations, which on two cores took 146 ms with one thread and 332 ms with two.
    torch_threads: int = 0

    #: Wall-clock seconds one PDF may take to read.
    pdf_seconds: float = 60.0
    #: Maximum number of pages of a PDF; a longer file is refused.
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
        """SQLAlchemy URL of the configured database."""
        return self.database_url or f"sqlite:///{self.home / 'referee.db'}"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Read the settings, once in a process. Raises UserError for an invalid value."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        key = "_".join(str(part) for part in first["loc"])
        raise UserError(
            f"The setting {key} (REFEREE_{key.upper()}) is invalid: {first['msg']}."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"referee.toml cannot be read: {error}.") from error
