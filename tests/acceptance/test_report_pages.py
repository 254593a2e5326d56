"""Report pages in a real browser, written by the real command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from tests.comparisons import Texts, store_comparison
from tests.site import Site

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("needs chromium: apt-get install chromium", allow_module_level=True)

ATTACK = Texts(
    "</title></style><script>document.title='owned'</script>\"'>",
    "<img src=x onerror=\"document.title='owned'\">",
)
#: CSS pixels of a small phone.
PHONE = 360
#: Shows a page in a frame of a phone's width, too narrow for a headless window, and measures it.
_FRAME = """<title></title><iframe style="border: 0; width: {width}px" srcdoc="{page}"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {{ document.title = frame.contentDocument.documentElement.scrollWidth; }};
</script>"""


def dom(page: Path, profile: Path) -> str:
    """The DOM of a page in the browser after its scripts have run."""
    assert CHROMIUM is not None, "chromium is not installed; .ci/run installs it"
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *(f"--user-data-dir={profile}", "--window-size=1200,800", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    return done.stdout


def title(document: str) -> str:
    """The page's title as the browser shows it."""
    found = re.search(r"<title>(.*?)</title>", document, re.DOTALL)
    assert found, document[:500]
    return found[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose only comparison has papers with hostile text, with a report."""
    folder = tmp_path_factory.mktemp("report")
    site = Site(folder / "home")
    assert site.run("db", "upgrade").code == 0
    with site.database() as database:
        store_comparison(database, 3, texts=ATTACK)
    done = site.run("report", "1", "-o", str(folder / "out"), fresh=True)
    assert done.code == 0, done
    assert "tuned-7 v1" in done.out
    return site


def test_nothing_in_a_title_or_review_runs(site: Site) -> None:
    out = site.home.parent / "out"
    for page in (out / "index.html", out / "comparison-1" / "paper-1.html"):
        shown = dom(page, site.home.parent / "chromium")
        assert "owned" not in title(shown).replace("document.title='owned'", "")
        assert "<script" not in shown
        assert "<img" not in shown
        assert "On sparse attention, part 1" in shown


def test_no_page_is_wider_than_a_phone(site: Site) -> None:
    out = site.home.parent / "out"
    for page in (out / "index.html", out / "comparison-1" / "paper-1.html"):
        frame = out / f"frame-{page.name}"
        frame.write_text(_FRAME.format(width=PHONE, page=escape(page.read_text())))
        assert 300 < int(title(dom(frame, site.home.parent / "chromium"))) <= PHONE


def test_report_without_comparisons_is_one_sentence(site: Site) -> None:
    done = site.run("report", "9", "-o", str(site.home / "none"))
    assert done.code == 2
    assert "There is no comparison 9. There are 1: tuned-7 v1 against plain-7 v1." in done.err
