"""`referee judge` and `eval` with the real command line, queue and matcher."""

from __future__ import annotations

import json

import pytest

from testing.small_models import install_embedding_model
from tests.chat_server import fuller_review_wins, serve_chat
from tests.integration.judge.rivals import ECHOES, NOISE, POINTS
from tests.site import FAST, SCRIPTED, Site, write_papers

#: The fewest of which all won are no longer chance: the mid-p of 5 wins is 0.031, of 4 0.063.
N_PAPERS = 5


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Papers with human reviews and those of another system, imported as a user would."""
    folder = tmp_path_factory.mktemp("judge")
    made = Site(folder / "home", FAST | SCRIPTED)
    install_embedding_model(made.home)
    papers = write_papers(folder / "papers", N_PAPERS)
    assert made.run("submit", str(papers), "--batch", "all", "--reviewer", "demo-7").code == 0
    for name, points in (("people", POINTS), ("echo", ECHOES), ("noise", NOISE)):
        lines = [
            json.dumps(
                {"custom_id": f"paper-{i:03}", "text": "\n".join(text for _, text in points)}
            )
            for i in range(N_PAPERS)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
        imported = made.run(
            *("import", "reviews", str(folder / f"{name}.jsonl")),
            *("--reviewer", name, "--format", "text"),
        )
        assert imported.code == 0, imported
    return made


def test_a_comparison_from_the_command_line(site: Site) -> None:
    # Fewer papers than a PK needs are refused with what to do
    few = site.run("judge", "match", "echo", "noise", "--reference", "people")
    assert few.code == 2
    assert "lower --min-papers" in few.err
    # After matching, the echo wins every paper at equal item counts
    command = ("judge", "match", "echo", "noise", "--reference", "people", "--min-papers", "5")
    rows = {row["method"]: row for row in site.json(*command) if row["aspect"] is None}
    assert (rows["match_equal"]["win"], rows["match_equal"]["n"]) == (5, 5)
    # eval: exit 0 when the gate is passed, 4 when it is not
    passed = site.run(
        "eval", "echo", "--against", "noise", "--reference", "people", "--min-papers", "1"
    )
    assert passed.code == 0, passed
    assert passed.out.startswith("better than noise v1: score 100.0 %")
    failed = site.json(
        *("eval", "noise", "--against", "echo", "--reference", "people", "--min-papers", "1"),
        code=4,
    )
    assert [(row["direction"], row["passed"]) for row in failed] == [("worse", False)]


def test_missing_reviews_and_verdicts_come_through_the_queue(site: Site) -> None:
    with serve_chat(fuller_review_wins) as server, site.up():
        # Given a reviewer that has reviewed nothing yet, and workers
        command = (
            *("eval", "demo-4", "--against", "echo", "--reference", "people"),
            *("--min-papers", "1", "--endpoint", server.url, "--model", "some-judge"),
        )
        # When it is evaluated with a judge
        done = site.run(*command, "--json")
        # Then its reviews were written and judged in both orders
        (row,) = json.loads(done.out)
        assert done.code in (0, 4), done
        assert row["n"] == N_PAPERS
        assert row["method"].startswith("judge:some-judge:")
        asked = len(server.bodies)
        assert asked >= 2 * N_PAPERS
        # And again it is only reported
        assert site.run(*command).code == done.code
        assert len(server.bodies) == asked
        # And a suppression is calibrated on reviews that are written for it
        rows = site.json(
            *("judge", "calibrate", "--reviewer", "demo-7", "--reference", "demo-7"),
            *("--coefficients", "1,0.5", "--mode", "logit"),
        )
        assert [(row["label"], row["reviews"]) for row in rows] == [
            ("demo-7", N_PAPERS),
            ("off", N_PAPERS),
            ("logit 0.5", N_PAPERS),
        ]
