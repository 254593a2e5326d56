"""Import contracts: each holds, each fails when it is violated, and CONTRIBUTING says the same."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from testing import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS: dict[str, dict[str, Any]] = {
    contract["id"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]
}
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
#: Modules beside the packages that every package may import.
PLAIN_MODULES = ("settings", "errors", "resources", "subprocesses")
#: For each contract a file and an import that it forbids.
VIOLATIONS = [
    ("layers", "dispatch/waiting.py", "import worker.up"),
    ("layers", "judge/matching.py", "import trainer.data.sentences"),
    ("layers", "papers/sections.py", "import models.hashes"),
    ("models", "models/text/prompt.py", "import models.kernels.device_support"),
    ("trainer", "trainer/data/sentences.py", "import trainer.qlora.schedule"),
    ("cycles", "db/session.py", "import db.claims"),
    ("cli", "commands/output.py", "import cli"),
    ("sql", "dispatch/waiting.py", "import sqlalchemy"),
    ("torch", "worker/supervisor.py", "import torch"),
    ("checkout", "worker/supervisor.py", "import testing.servers"),
    ("benchmarks", "benchmarks/latency.py", "import tests.site"),
    ("testing", "testing/servers.py", "import benchmarks.latency"),
]


def check_contract(folder: Path, contract: str) -> tuple[int, str]:
    """Exit code and output of `lint-imports` for one contract on the packages in `folder`."""
    program = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run(
        [sys.executable, program, "--no-cache", "--no-logo", "--contract", contract],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python files of all packages, with the contracts."""
    folder = tmp_path_factory.mktemp("copy")
    for name in (*PROJECT["tool"]["importlinter"]["root_packages"], "tests"):
        for file in (ROOT / name).rglob("*.py"):
            target = folder / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    for file in (*ROOT.glob("*.py"), ROOT / "pyproject.toml"):
        shutil.copy(file, folder)
    return folder


def test_every_contract_holds() -> None:
    command = [sys.executable, f"{sysconfig.get_path('scripts')}/lint-imports"]
    done = subprocess.run(
        [*command, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in done.stdout


@pytest.mark.parametrize(("contract", "file", "line"), VIOLATIONS)
def test_a_forbidden_import_breaks_its_contract(
    copy: Path, contract: str, file: str, line: str
) -> None:
    text = (copy / file).read_text()
    (copy / file).write_text(f"{text}\n{line}\n")
    try:
        code, output = check_contract(copy, contract)
    finally:
        (copy / file).write_text(text)
    assert code == 1, output
    assert f"{CONTRACTS[contract]['name']} BROKEN" in output
    assert file.removesuffix(".py").replace("/", ".").split(".", 1)[1] in output


def test_each_contract_has_a_violation_and_make_lint_checks_them() -> None:
    assert {contract for contract, _, _ in VIOLATIONS} == set(CONTRACTS)
    lint = (ROOT / "Makefile").read_text().partition("\nlint: ")[2].partition("\n\n")[0]
    assert "lint-imports" in lint


@pytest.mark.parametrize("module", PLAIN_MODULES)
def test_plain_modules_import_no_package_of_ours(module: str) -> None:
    ours = {file.parent.name for file in ROOT.glob("*/__init__.py")} | {"cli"}
    imported = set()
    for node in ast.walk(ast.parse((ROOT / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            imported.add(node.module.partition(".")[0])
    assert not imported & ours


def test_contributing_has_the_layers_of_the_contracts() -> None:
    written: dict[int, set[str]] = defaultdict(set)
    for layer, package in re.findall(r"^\| (\d) \| `(\w+)/` \|", PAGE, re.MULTILINE):
        written[int(layer)].add(package)
    layers = [set(re.findall(r"\w+", layer)) for layer in CONTRACTS["layers"]["layers"]]
    # Packages that need not exist yet have no row.
    there = [{name for name in layer if (ROOT / name).is_dir()} for layer in layers]
    assert [written[number] for number in sorted(written)] == there
    prose = " ".join(PAGE.split())
    for contract in ("models", "trainer"):
        wings = " → ".join(f"`{layer}`" for layer in CONTRACTS[contract]["layers"])
        assert wings in prose


def test_the_contracts_cover_every_package_of_the_program() -> None:
    include = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    data = {"adapters", "configs", "examples"}
    packages = {name.removesuffix("*") for name in include} - data
    there = {name for name in packages if (ROOT / name).is_dir()}
    assert there == set(PROJECT["tool"]["importlinter"]["root_packages"]) - {
        "testing",
        "benchmarks",
    }


def test_contributing_lists_the_files_that_an_addition_changes() -> None:
    lists = re.findall(r"^## Adding [^\n]+\n((?:(?!^## ).*\n)*)", PAGE, re.MULTILINE)
    assert len(lists) == 4
    named = {path for text in lists for path in re.findall(r"`([\w./-]+\.(?:py|yaml|md))`", text)}
    missing = {path for path in named if not list(ROOT.glob(path.replace("NAME", "*")))}
    assert missing == set()
