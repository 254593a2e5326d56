"""Engines of a cpu worker: a client for each reviewer with an endpoint."""

from __future__ import annotations

import threading

from dispatch.kinds import ModelUse
from errors import RequestRefused, UserError
from models.engines.api import ApiEngine, endpoint_allowed
from models.text.generation import Engine
from settings import Settings


class ApiEngines:
    """OpenAI-compatible endpoints: one engine a reviewer version, made on first use."""

    #: Papers that one cpu worker sends out at the same time, whatever the endpoints allow.
    SLOTS = 8

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engines: dict[str, ApiEngine] = {}
        self._lock = threading.Lock()

    @property
    def slots(self) -> int:
        """Threads of the cpu worker."""
        return self.SLOTS

    @property
    def alive(self) -> bool:
        """An HTTP client cannot be lost."""
        return True

    @property
    def silent_seconds(self) -> float:
        """Its requests have time-outs of their own."""
        return 0.0

    def engine_for(self, use: ModelUse, allow_external: bool) -> Engine:
        """The engine for one endpoint; refused when papers may not go there."""
        if use.endpoint is None:
            raise RequestRefused(
                "This reviewer has no endpoint to send papers to.", kind="no_endpoint"
            )
        self._check_allowed(use.endpoint.url, allow_external)
        with self._lock:
            if use.sha256 not in self._engines:
                key = self._settings.api_key.get_secret_value()
                self._engines[use.sha256] = ApiEngine(use.endpoint, api_key=key)
            return self._engines[use.sha256]

    def _check_allowed(self, url: str, allow_external: bool) -> None:
        allowed = allow_external or self._settings.allow_external
        try:
            endpoint_allowed(url, allowed, self._settings.allowed_hosts)
        except UserError as error:
            raise RequestRefused(str(error), kind="external_endpoint") from error

    def close(self) -> None:
        """Close all clients."""
        for engine in self._engines.values():
            engine.close()
