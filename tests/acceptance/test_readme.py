"""The README's quick start, run as it is written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.small_models import small_model_folder
from tests.site import FAST, ROOT, SCRIPTED, Site

README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running site whose engine is scripted; the model's tokenizer counts the papers' tokens."""
    site = Site(tmp_path_factory.mktemp("readme") / "home", FAST | SCRIPTED)
    (site.home / "models").mkdir(parents=True)
    (site.home / "models" / "smollm2-135m").symlink_to(small_model_folder())
    with site.up():
        yield site


def session() -> list[tuple[list[str], str]]:
    """The commands of the quick start, each with the output that the README shows."""
    block = README.partition("## Quick start")[2].partition("```\n")[2].partition("```")[0]
    parts = re.split(r"^\$ referee ", block, flags=re.MULTILINE)[1:]
    found = []
    for part in parts:
        lines = part.splitlines()
        n = next(n for n in range(1, len(lines) + 1) if "\n".join(lines[:n]).count('"') % 2 == 0)
        found.append((shlex.split("\n".join(lines[:n])), "\n".join(lines[n:]).strip()))
    return found


def test_the_quick_start_prints_what_the_readme_shows(site: Site, tmp_path: Path) -> None:
    commands = session()
    assert len(commands) == 5
    for words, shown in commands:
        arguments = [str(tmp_path / word) if word == "reviews.md" else word for word in words]
        done = site.run(*arguments, timeout=120)
        assert done.code == 0, done
        if shown:
            assert done.out.strip() == shown
        else:
            assert done.out.strip() or (tmp_path / "reviews.md").stat().st_size, words


def test_submitting_again_reviews_nothing_twice(site: Site) -> None:
    submit = next(words for words, _ in session() if "--batch" in words)
    assert site.run(*submit).code == 0
    claimed = site.events("claimed")
    assert site.run(*submit).code == 0
    assert site.events("claimed") == claimed
    assert site.counts(submit[submit.index("--batch") + 1])["succeeded"] == 3


def test_the_readmes_reviewers_are_there(site: Site) -> None:
    table = README.partition("| name | description |")[2].partition("\n\n")[0]
    named = re.findall(r"`([\w-]+)`", table)
    assert len(named) == 10
    listed = site.run("reviewer", "list").out.split()
    assert set(named) <= set(listed)
