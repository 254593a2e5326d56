"""vLLM's scheduler with as many running papers as its cache holds, so that none is preempted.

Named by `scheduler_cls` and loaded in vLLM's engine process: it imports vLLM. What it knows of the
cache goes to the JSON file that REFEREE_VLLM_CAPACITY names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler

#: Environment variables: the file for the capacity, and the tokens of a paper with half an answer.
CAPACITY_FILE, PAPER_TOKENS = "REFEREE_VLLM_CAPACITY", "REFEREE_VLLM_PAPER_TOKENS"
#: Tokens of the cache that stay free for papers that are longer than others.
_SPARE_TOKENS = 10_000


class CappedScheduler(AsyncScheduler):
    """Limits the running papers to the cache's tokens over those of an average paper."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        cache = named.get("kv_cache_config") or given[1]
        tokens = cache.num_blocks * (named.get("block_size") or given[3])
        most: int = (tokens - _SPARE_TOKENS) // int(os.environ[PAPER_TOKENS])
        allowed: int = vars(self)["max_num_running_reqs"]
        self.max_num_running_reqs = min(allowed, most)
        self._capacity = {
            "slots": self.max_num_running_reqs,
            "cache_tokens": tokens,
            "preempted": 0,
        }
        self._report()

    def _preempt_request(self, *given: Any, **named: Any) -> None:
        super()._preempt_request(*given, **named)
        self._capacity["preempted"] += 1
        self._report()

    def _report(self) -> None:
        Path(os.environ[CAPACITY_FILE]).write_text(json.dumps(self._capacity))
