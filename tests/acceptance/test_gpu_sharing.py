"""A worker on a GPU that another base model's worker holds, through the real command line.

The check reads the database and CUDA_VISIBLE_DEVICES, before anything is loaded: no GPU is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dispatch.broker import serve
from settings import Settings
from tests.site import FAST, SCRIPTED, Site, wait_until

REFUSED = (
    "Worker smollm2-135m-gpu0@{host} holds GPU 0 of this host with smollm2-135m: stop it, use "
    "another GPU, or set REFEREE_GPU_MEMORY_GIB for both workers."
)


@pytest.mark.parametrize("limited", [False, True])
def test_two_base_models_share_a_gpu_only_with_memory_limits(limited: bool, tmp_path: Path) -> None:
    # Given a worker of one base model on GPU 0
    more = {"REFEREE_GPU_MEMORY_GIB": "20"} if limited else {}
    site = Site(tmp_path / "home", FAST | SCRIPTED | more | {"CUDA_VISIBLE_DEVICES": "0"})
    assert site.run("db", "upgrade").code == 0
    with serve(Settings(home=site.home, broker_url="")) as served:
        site.environment["REFEREE_BROKER_URL"] = served.url
        with running(site, "demo-7"):
            wait_until(lambda: len(site.json("workers")) == 1)
            (node,) = site.json("workers")
            if limited:
                # When a worker of another base model is started there, both run
                with running(site, "llama31-7"):
                    wait_until(lambda: len(site.json("workers")) == 2)
                return
            # When a worker of another base model is started there, also by a supervisor
            for gpus in ((), ("--gpus", "1,0")):
                done = site.run("worker", "--reviewer", "llama31-7", *gpus)
                # Then it is refused
                assert done.code == 2, done
                assert done.err.strip().endswith(REFUSED.format(host=node["host"]))
            assert [each["name"] for each in site.json("workers")] == [node["name"]]


@contextmanager
def running(site: Site, reviewer: str) -> Iterator[None]:
    worker = site.start("worker", "--reviewer", reviewer, fresh=False)
    try:
        yield
    finally:
        worker.kill()
        worker.wait()
