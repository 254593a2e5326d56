"""Reviewers' versions, worker nodes and imported reviews."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from db import reviewers, worker_nodes
from db.completion import NewItem
from db.imports import FrozenReview, Imported, import_reviews
from db.reviewers import ReviewerVersion
from db.reviews import find
from db.session import Database
from db.worker_nodes import DesiredState, GateCounts
from tests.integration.db.content import a_reviewer, claim_one, content, paper, submit

ACTIVE = DesiredState("active", None)


def register(database: Database, sha256: str, name: str = "r") -> ReviewerVersion:
    return reviewers.register(
        database, name=name, sha256=sha256, kind="local", queue="q", config={"sha": sha256}
    )


def test_a_configuration_has_one_version_under_a_name(database: Database) -> None:
    first, again, second = (register(database, sha) for sha in ("x", "x", "y"))
    assert again == first
    assert (first.version, second.version) == (1, 2)
    assert reviewers.newest(database, "r") == second
    assert reviewers.get(database, first.id) == first
    assert register(database, "x", name="other").version == 1
    assert [(r.name, r.version) for r in reviewers.listing(database)] == [
        ("other", 1),
        ("r", 1),
        ("r", 2),
    ]


def test_unknown_reviewers_are_none(database: Database) -> None:
    assert reviewers.newest(database, "r") is None
    assert reviewers.get(database, 7) is None


def test_many_may_register_at_once(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: register(database, str(n % 4)), range(12)))
    assert sorted({version.version for version in made}) == [1, 2, 3, 4]


def register_worker(
    database: Database,
    name: str = "w1",
    host: str = "h1",
    *,
    pid: int = 7,
    replaced_pid: int | None = None,
) -> bool:
    return worker_nodes.register_worker(
        database,
        name=name,
        host=host,
        pid=pid,
        gpu="0",
        queues=["reviews.tiny"],
        base="tiny",
        slots=4,
        code_version="1",
        attention="triton",
        gpu_memory_gib=40.0,
        replaced_pid=replaced_pid,
    )


def test_worker_registers_renews_drains_and_unregisters(database: Database) -> None:
    register_worker(database)
    assert worker_nodes.heartbeat(database, "w1", reviewer="tiny-7 v1") == ACTIVE
    (node,) = worker_nodes.listing(database)
    assert (node.name, node.slots, node.reviewer, node.state) == ("w1", 4, "tiny-7 v1", "active")
    assert 0 <= node.age_s < 60
    assert (node.attention, node.gpu_memory_gib) == ("triton", 40.0)

    assert worker_nodes.set_state(database, "w1", "draining") == 1
    assert worker_nodes.heartbeat(database, "w1", reviewer="") == DesiredState("draining", None)

    worker_nodes.unregister_worker(database, "w1")
    assert worker_nodes.listing(database) == []
    assert worker_nodes.heartbeat(database, "w1", reviewer="") is None


def test_a_host_drains_as_a_whole(database: Database) -> None:
    for name, host in (("a", "h1"), ("b", "h1"), ("c", "h2")):
        register_worker(database, name, host)
    assert worker_nodes.set_state(database, "h1", "draining") == 2
    assert worker_nodes.set_state(database, "nobody", "draining") == 0
    assert [node.state for node in worker_nodes.listing(database)] == [
        "draining",
        "draining",
        "active",
    ]


def test_worker_name_can_only_be_taken_over_with_its_process_id(database: Database) -> None:
    assert register_worker(database, pid=7)
    assert not register_worker(database, pid=8)
    assert not register_worker(database, pid=8, replaced_pid=6)
    assert [node.pid for node in worker_nodes.listing(database)] == [7]
    assert register_worker(database, pid=8, replaced_pid=7)
    assert [node.pid for node in worker_nodes.listing(database)] == [8]


def test_drain_persists_after_the_process_until_resumed(database: Database) -> None:
    register_worker(database)
    worker_nodes.set_state(database, "w1", "draining", give_back_after=100.0)
    assert register_worker(database, replaced_pid=7)
    desired = worker_nodes.heartbeat(database, "w1", reviewer="")
    assert desired is not None
    assert desired.state == "draining"
    assert desired.give_back_in_s is not None
    worker_nodes.set_state(database, "w1", "active")
    assert register_worker(database, replaced_pid=7)
    assert worker_nodes.heartbeat(database, "w1", reviewer="") == ACTIVE


def test_complaint_persists_after_the_process_and_its_counts_do_not(database: Database) -> None:
    register_worker(database, "w1")
    register_worker(database, "w2")
    worker_nodes.heartbeat(database, "w1", reviewer="", gate=GateCounts(20, 20))
    worker_nodes.drain_with_complaint(database, "w1", "its card writes garbage")
    assert register_worker(database, "w1", replaced_pid=7)
    node, _ = worker_nodes.listing(database)
    assert (node.state, node.complaint) == ("draining", "its card writes garbage")
    worker_nodes.set_state(database, "w1", "active")
    assert worker_nodes.gate_counts_of_others(database, "w2", "reviews.tiny") == GateCounts(0, 0)


def test_drain_with_a_time_limit_counts_down_until_resumed(database: Database) -> None:
    register_worker(database)
    worker_nodes.set_state(database, "w1", "draining", give_back_after=100.0)
    desired = worker_nodes.heartbeat(database, "w1", reviewer="")
    assert desired is not None
    assert desired.give_back_in_s is not None
    assert 50 < desired.give_back_in_s <= 100
    worker_nodes.set_state(database, "w1", "draining", give_back_after=0.0)
    desired = worker_nodes.heartbeat(database, "w1", reviewer="")
    assert desired is not None
    assert desired.give_back_in_s is not None
    assert desired.give_back_in_s <= 0
    worker_nodes.set_state(database, "w1", "active")
    assert worker_nodes.heartbeat(database, "w1", reviewer="") == ACTIVE


def test_a_worker_is_listed_with_the_papers_it_holds(database: Database) -> None:
    register_worker(database, "w1")
    register_worker(database, "w2")
    submit(database, "b", paper("p1"), paper("p2"), paper("p3"))
    claim_one(database, "w1")
    claim_one(database, "w1")
    assert {node.name: node.running for node in worker_nodes.listing(database)} == {
        "w1": 2,
        "w2": 0,
    }


def frozen(external_id: str, text: str = "paper") -> FrozenReview:
    return FrozenReview(
        external_id=external_id,
        paper=content(text),
        raw=f"review {external_id}",
        items=(NewItem("idea", 0, "Good", "It is good."),),
        empty_aspects=("other",),
        rating=6.0,
        fields={"soundness": 3},
    )


def test_frozen_reviews_are_stored_once(database: Database) -> None:
    reviewer = a_reviewer(database, "human")
    rows = [frozen("r1"), frozen("r2"), frozen("r1", "another paper")]
    assert import_reviews(database, reviewer, rows) == Imported(new=3, known=0)
    assert import_reviews(database, reviewer, [*rows, frozen("r3")]) == Imported(new=1, known=3)

    (found,) = find(database, content("paper").sha256)
    assert [review.external_id for review in found.reviews] == ["r1", "r2", "r3"]
    assert found.reviews[0].rating == 6.0
    assert found.reviews[0].items == (NewItem("idea", 0, "Good", "It is good."),)
    assert found.jobs == ()


def test_a_broken_chunk_of_imports_leaves_nothing(database: Database) -> None:
    item = NewItem("idea", 0, "t", "x")
    broken = FrozenReview("r2", content("paper"), "raw", items=(item, item))
    with pytest.raises(Exception, match=r"(?i)unique"):
        import_reviews(database, a_reviewer(database), [frozen("r1"), broken])
    assert find(database, content("paper").sha256) == []
