"""The documentation matches the program: help texts, links, paths, modules, commands, settings."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from functools import cache

import click
import pytest

import cli
from settings import Settings
from testing import ROOT

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "adapters/*/*.md", "examples/*/*.md")
    for path in ROOT.glob(pattern)
)
#: The changelog also names parts of earlier versions.
CURRENT_PAGES = [page for page in PAGES if page != "CHANGELOG.md"]
#: Folders whose files the pages name by their path from the root.
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()}
#: Made by a command that the page describes.
GENERATED = {"deploy/server/certs/ca.pem"}
#: Variables that compose files and scripts read, beside the settings.
OTHER_VARIABLES = {"REFEREE_GPUS", "REFEREE_BROKER_PASSWORD", "REFEREE_DATABASE_PASSWORD"}


def test_the_command_line_page_is_the_programs_own_help() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "help.py"))["page"]()
    assert (ROOT / "docs" / "cli.md").read_text() == page, "run `make docs`"


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= 150


def test_every_make_verb_in_the_docs_exists() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"^make ([a-z-]+)", read(page), re.MULTILINE))
        assert named <= verbs, page


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_resolve(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text()), target


@pytest.mark.parametrize("page", CURRENT_PAGES)
def test_paths_in_backticks_exist(page: str) -> None:
    for name in code_spans(page):
        if "/" in name and name.split("/")[0] in FOLDERS and name not in GENERATED:
            assert any(ROOT.glob(name.rstrip("/").replace("NAME", "*"))), name


def test_measurements_that_the_gpu_page_names_exist() -> None:
    files = {path.name for path in (ROOT / "benchmarks" / "results").iterdir()}
    named = {name for name in code_spans("docs/gpu.md") if re.fullmatch(r"\w+\.json", name)}
    assert named - files == {"provenance.json"}


@pytest.mark.parametrize("page", CURRENT_PAGES)
def test_modules_exist(page: str) -> None:
    for name in re.findall(r"python (?:-P )?-m ((?:judge|benchmarks|worker)[\w.]+)", read(page)):
        assert defined(name.split(".")), name
    for name in code_spans(page):
        parts = name.split(".")
        dotted = re.fullmatch(r"\w+(\.[a-z_]\w*)+", name) is not None
        if dotted and parts[0] in FOLDERS and parts[-1] not in ("json", "jsonl"):
            assert defined(parts), name


@pytest.mark.parametrize("page", CURRENT_PAGES)
def test_commands_and_their_options_exist(page: str) -> None:
    for words in command_lines(page):
        command: click.Command = cli.referee
        path = ["referee"]
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            child = command.get_command(click.Context(command), words[0])
            assert child is not None, f"{' '.join(path)} {words[0]}"
            path.append(words.pop(0))
            command = child
        known = {o for each in command.get_params(click.Context(command)) for o in each.opts}
        used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert used <= known | {"--help"}, " ".join(path)


@pytest.mark.parametrize("page", CURRENT_PAGES)
def test_settings_exist(page: str) -> None:
    known = {f"REFEREE_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    assert set(re.findall(r"REFEREE_[A-Z_]*[A-Z]", read(page))) <= known


@cache
def read(page: str) -> str:
    return (ROOT / page).read_text()


def code_spans(page: str) -> set[str]:
    return set(re.findall(r"`([^`\s]+)`", read(page)))


def anchors(text: str) -> set[str]:
    """Anchors of a page as GitHub makes them from headings, and explicit ones."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


def defined(parts: list[str]) -> bool:
    """Whether a module exists, or a module that defines the last part."""
    module = ROOT.joinpath(*parts)
    if module.with_suffix(".py").exists() or module.is_dir():
        return True
    file = module.parent.with_suffix(".py")
    pattern = rf"^(?:def |class )?{re.escape(parts[-1])}\b"
    return file.exists() and re.search(pattern, file.read_text(), re.MULTILINE) is not None


def command_lines(page: str) -> Iterator[list[str]]:
    """The words after `referee` of every command in a code block or in backticks."""
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL))
    lines = blocks.replace("\\\n", " ").splitlines()
    lines += [span.replace("\n", " ") for span in re.findall(r"`(referee [^`]+)`", read(page))]
    for line in lines:
        found = re.match(r"(?:\$ |torchrun .*)?\breferee (.*)", line)
        if found and not line.startswith("Usage"):
            text = re.sub(r"\s#.*", "", re.sub(r'"[^"]*"', "TEXT", found[1]))
            yield re.split(r"[;|&]", text)[0].split()


def test_the_checks_see_commands_paths_and_modules() -> None:
    """The patterns above match something, so that a moved page cannot disable a test."""
    assert sum(1 for page in CURRENT_PAGES for _ in command_lines(page)) > 100
    assert "trainer/data/stance.py" in code_spans("docs/data.md")
    assert "judge.win_rates.decide" in code_spans("docs/judge.md")
    assert not defined(["judge", "win_rates", "decided_never"])
