"""Engines of a worker process: which engine serves a job."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from dispatch.kinds import ModelUse
from errors import MissingPart, RequestRefused, UserError
from models.text.bases import BaseModel
from models.text.generation import Engine
from models.text.reviewer import ReviewerConfig
from models.weights import store
from settings import Settings

Weights = Literal["nf4", "bf16"]
#: Gives the folder of an adapter by its SHA-256, and has it on this machine then.
FetchAdapter = Callable[[str], Path]


class EnginePool(Protocol):
    """Provides an engine for the model that a job uses."""

    @property
    def slots(self) -> int:
        """Papers in flight at the same time, over all engines."""

    @property
    def alive(self) -> bool:
        """False if the process must be restarted to run anything more."""

    @property
    def silent_seconds(self) -> float:
        """How long an engine with work has made no progress; 0 if there is nothing to report."""

    def engine_for(self, use: ModelUse, allow_external: bool) -> Engine:
        """The engine for the model that a job uses."""

    def close(self) -> None:
        """Stop all engines."""


class LocalEngines:
    """One base model, loaded once; its reviewers differ in adapter, aspects and sampling."""

    def __init__(self, base: str, engine: Engine, fetch_adapter: FetchAdapter) -> None:
        self._base = base
        self._engine = engine
        self._fetch_adapter = fetch_adapter
        self._adapters: dict[str, Path] = {}

    @property
    def slots(self) -> int:
        """Slots of the one engine."""
        return self._engine.slots

    @property
    def alive(self) -> bool:
        """False if the process must be restarted to run anything more."""
        return bool(getattr(self._engine, "alive", True))

    @property
    def silent_seconds(self) -> float:
        """How long an engine with work has made no progress; 0 if there is nothing to report."""
        return float(getattr(self._engine, "seconds_without_progress", 0.0))

    def engine_for(self, use: ModelUse, allow_external: bool) -> Engine:
        """The one engine, for reviewers of its base; their adapter is fetched if need be.

        That is done here, in the thread of the one paper that waits for it, and not in the
        engine's, where all would.
        """
        if use.base != self._base:
            raise RequestRefused(f"This worker serves {self._base} only.", kind="wrong_base")
        if use.adapter_sha256 is not None:
            self._have(use.adapter_sha256)
        return self._engine

    def _have(self, sha256: str) -> None:
        """Fetch an adapter once, and again if its folder is gone.

        Its hash is not checked for every paper.
        """
        if sha256 not in self._adapters or not self._adapters[sha256].is_dir():
            self._adapters[sha256] = self._fetch_adapter(sha256)

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()


def load_local(
    config: ReviewerConfig,
    settings: Settings,
    fetch_adapter: FetchAdapter,
    weights: Weights,
    slots: int | None = None,
) -> LocalEngines:
    """Load a reviewer's base model into this process; slow.

    `slots` None fills the device. Raises MissingPart without weights or with too little memory.
    """
    if config.base is None:
        raise UserError(f"Reviewer {config.name} has no local model: run `referee worker --cpu`.")
    engine = (
        custom_engine(settings.engine)
        if settings.engine
        else _continuous(config, config.base, settings, weights, slots)
    )
    return LocalEngines(config.base.name, engine, fetch_adapter)


def _continuous(
    config: ReviewerConfig, base: BaseModel, settings: Settings, weights: Weights, slots: int | None
) -> Engine:
    from models.engines.capacity import limit_gpu_memory, missing_part_on_out_of_memory
    from models.engines.continuous import ContinuousEngine, EngineOptions
    from models.weights.loading import default_device, load
    from models.weights.quantised_cache import WeightsCache

    folder = store.resolve(base, settings.home)
    cache = WeightsCache(settings.home / "cache" / "weights") if settings.cache_weights else None
    memory_limit = int(settings.gpu_memory_gib * 2**30) or None
    limit_gpu_memory(memory_limit)
    with missing_part_on_out_of_memory():
        loaded = load(
            folder,
            base,
            template=config.template or "",
            weights=weights,
            device=default_device(),
            cache=cache,
        )
    return ContinuousEngine(
        loaded,
        find_adapter=lambda sha256: store.find_adapter(sha256, settings.home),
        options=EngineOptions(
            max_tokens=config.max_request_tokens,
            slots=slots,
            memory_limit=memory_limit,
            kv_cache=settings.kv_cache,
            attention=settings.attention,
            fp8_prompts=settings.arithmetic == "reviewer",
            threads=settings.torch_threads or max(1, (os.cpu_count() or 1) // 2),
        ),
    )


def custom_engine(path: str) -> Engine:
    """Build the engine that REFEREE_ENGINE names as "module:function" (tests, benchmarks)."""
    module, _, function = path.partition(":")
    try:
        engine: Engine = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError) as error:
        raise MissingPart(f"REFEREE_ENGINE={path} cannot be imported: {error}.") from error
    return engine
