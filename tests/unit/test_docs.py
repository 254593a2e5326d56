"""The docs say what the program does."""

from __future__ import annotations

import re
import runpy

from tests.site import ROOT


def test_the_command_line_page_is_the_programs_own_help() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "help.py"))["page"]()
    assert (ROOT / "docs" / "cli.md").read_text() == page, "run `make docs`"


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150
    for target in re.findall(r"\]\(([^)#]+)\)", readme):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_every_make_verb_in_the_docs_exists() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text()
        named = set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE))
        assert named <= verbs, page
