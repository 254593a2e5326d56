"""Many people submit to one batch at the same time, with a worker that is quicker than they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from testing.servers import postgres
from tests.site import FAST, SCRIPTED, Site, wait_until, write_papers

#: Submits at once; more than the processors, so that they meet in every state. REFEREE_TEST_SUBMITS
#: asks for more, on both databases.
MANY = os.environ.get("REFEREE_TEST_SUBMITS")
SUBMITS = int(MANY or 5)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"] if MANY else ["sqlite"])
def test_submits_at_once_all_end_well(tmp_path: Path, dialect: str) -> None:
    environment = FAST | SCRIPTED | {"REFEREE_SUBMIT_CHUNK": "1"}
    if dialect == "sqlite":
        _submit_at_once(Site(tmp_path / "home", environment), tmp_path)
        return
    with postgres() as server:
        url = {"REFEREE_DATABASE_URL": server.url}
        _submit_at_once(Site(tmp_path / "home", environment | url), tmp_path)


def _submit_at_once(site: Site, folder: Path) -> None:
    # Given a worker, and folders of one paper and of some
    sizes = [1 if number % 4 else 4 for number in range(SUBMITS)]
    folders = [_papers(folder / f"p{number}", size) for number, size in enumerate(sizes)]
    with site.up():
        # When all are submitted to one batch at once
        submits = [
            site.start("submit", str(papers), "--batch", "b", "--reviewer", "demo-7", fresh=False)
            for papers in folders
        ]
        codes = [submit.wait(timeout=600) for submit in submits]
        # Then each ends well, and every paper is stored and reviewed
        assert codes == [0] * len(codes), site.output("submit")
        assert wait_until(lambda: site.json("status", "b")["state"] == "completed")
        assert site.counts("b")["succeeded"] == sum(sizes)


def _papers(folder: Path, n_papers: int) -> Path:
    write_papers(folder, n_papers, text=folder.name)
    for paper in folder.iterdir():
        paper.rename(paper.with_name(f"{folder.name}-{paper.name}"))
    return folder
