"""The wheel, installed outside the checkout and run beside files with our modules' names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

from db.session import open_database
from models.text import reviewer
from testing import ROOT
from tests.comparisons import store_comparison

#: Folders of the checkout with Python files that are not part of the program.
_NOT_INSTALLED = {"tests", "testing", "benchmarks", "docs"}
_NOT_COPIED = (".*", "build", "dist", "datasets", "*.egg-info", "__pycache__")
#: Modules of others that a working directory may shadow: those of a starting child process, of
#: Celery's configuration and of the engine.
_OTHERS = ("pickle", "random", "socket", "celeryconfig", "numpy", "torch")
#: Settings and module search paths of the process that runs the tests.
_NOT_INHERITED = ("REFEREE_", "PYTHON")
_HOSTILE = 'raise RuntimeError("imported from the working directory")\n'


@dataclass(frozen=True)
class Installation:
    """An environment with the wheel, and the working directory of its commands."""

    environment: Path
    folder: Path

    @property
    def home(self) -> Path:
        """REFEREE_HOME of every command."""
        return self.environment.parent / "home"

    def referee(self, *arguments: str, **more: str) -> str:
        """Run the console script; returns what it printed."""
        return self._run("referee", *arguments, **more)

    def python(self, code: str) -> str:
        """Run a line of Python; returns what it printed."""
        return self._run("python", "-P", "-c", code)

    def _run(self, program: str, *arguments: str, **more: str) -> str:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_INHERITED)}
        mine = {"REFEREE_HOME": str(self.home), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [self.environment / "bin" / program, *arguments],
            cwd=self.folder,
            env=inherited | mine | more,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (done.stdout, done.stderr, self._logs())
        return done.stdout

    def _logs(self) -> list[str]:
        return [log.read_text()[-2000:] for log in self.home.glob("logs/*.log")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because a build leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*_NOT_COPIED))
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder))
    _pip("wheel", *options, str(folder / "source"))
    return next(folder.glob("referee-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel in an environment that shares nothing but this one's dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    environment, work = folder / "environment", folder / "work"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    _pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    packages = next(environment.glob("lib/python*/site-packages"))
    # A folder that a .pth file names has its own .pth files ignored, so an editable installation
    # of the checkout among these packages has no effect.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.copy(ROOT / "testing" / "scripted_engine.py", packages)
    for name in (*_top_level(wheel), *_OTHERS):
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text(_HOSTILE)
    return Installation(environment, work)


def test_wheel_contains_exactly_the_program_files(wheel: Path) -> None:
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")} - _NOT_INSTALLED
    files = [file for name in packages for file in (ROOT / name).rglob("*") if file.is_file()]
    there = {str(file.relative_to(ROOT)) for file in [*files, *ROOT.glob("*.py")]}
    # Bytecode, remembered hashes, and the template that new migrations are written from
    wanted = {name for name in there if not name.endswith((".pyc", ".sha256.json", ".mako"))}
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_commands_and_their_data_come_from_the_wheel(installed: Installation) -> None:
    modules = installed.python("import cli, judge.report, models; print(models.__file__)")
    assert Path(modules.strip()).is_relative_to(installed.environment)
    listed = installed.referee("reviewer", "list")
    assert all(name in listed for name in reviewer.builtin())
    installed.referee("db", "upgrade")
    installed.referee("db", "check")
    code = (
        "from trainer.data.venue_forms import load_forms; from trainer.qlora.recipe import FOLDER;"
        "print(len(load_forms().forms), FOLDER)"
    )
    n_forms, recipes = installed.python(code).split()
    assert int(n_forms) == len(list((ROOT / "configs" / "forms").glob("*.yaml")))
    assert len(list(Path(recipes).glob("*.yaml"))) == len(list(ROOT.glob("configs/train/*.yaml")))


def test_the_demo_reviews_its_papers(installed: Installation) -> None:
    # Two worker processes, the processes that read PDFs, and Celery's import of task modules
    shown = installed.referee("demo", REFEREE_ENGINE="scripted_engine:make")
    assert "3 of 3 papers reviewed in batch demo." in shown


@pytest.mark.parametrize("name", ["demo-7", "demo-4"])
def test_the_demos_adapters_are_found(installed: Installation, name: str) -> None:
    sha256 = reviewer.load(reviewer.builtin()[name]).adapter_sha256
    code = (
        "from pathlib import Path; from dispatch.adapter_cache import AdapterCache;"
        f"print(AdapterCache(None, Path({str(installed.home)!r})).folder({sha256!r}))"
    )
    assert (Path(installed.python(code).strip()) / "adapter_model.safetensors").is_file()


def test_a_report_has_its_pages_and_style(installed: Installation, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'compared.db'}"
    installed.referee("db", "upgrade", REFEREE_DATABASE_URL=url)
    database = open_database(url)
    comparison = store_comparison(database, 3)
    database.close()
    out = tmp_path / "out"
    installed.referee("report", str(comparison), "-o", str(out), REFEREE_DATABASE_URL=url)
    page = (out / "index.html").read_text()
    assert "tuned-7 v1" in page
    assert "<style>" in page


def _top_level(wheel: Path) -> list[str]:
    with ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("top_level.txt"))
        return archive.read(name).decode().split()


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, capture_output=True)
