"""What the tests of papers share: where papers lie and how a folder is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from papers.reading import PdfLimits, Reading, discover, read_all
from testing import ROOT

EXAMPLES = ROOT / "examples" / "papers"
#: Generous: the machine may be busy.
LIMITS = PdfLimits(seconds=120)


@pytest.fixture
def read_folder(tmp_path: Path) -> Callable[..., dict[str, Reading]]:
    """Read everything under `tmp_path`; readings by custom_id."""

    def read(limits: PdfLimits = LIMITS) -> dict[str, Reading]:
        entries = discover([str(tmp_path)])
        readings = list(read_all(entries, cache=None, limits=limits, processes=1))
        assert [reading.custom_id for reading in readings] == [one.custom_id for one in entries]
        return {reading.custom_id: reading for reading in readings}

    return read


@pytest.fixture(scope="session")
def shared_pdfs() -> Path:
    """The folder of PDFs that lie beside the repository."""
    folder = ROOT.parent / "shared" / "data" / "pdfs"
    if not folder.is_dir():
        pytest.skip("The shared PDFs are not on this machine.")
    return folder
