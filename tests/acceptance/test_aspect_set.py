"""A third aspect set is one file: reviews, training data, judging and reports use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.text.aspects import AspectSet, load_aspect_set
from models.text.parsing import is_strict
from testing.small_models import install_embedding_model, small_model_folder
from tests.acceptance.test_training_data import SUBJECTS, write_source
from tests.aspect_sets import FIVE
from tests.site import FAST, ROOT, SCRIPTED, Site
from trainer.data.dataset import read

MERGER = "name: merged-structured-five\nkind: merged\naspects: five\n"


def reviewer_file(folder: Path, name: str, temperature: float) -> Path:
    """The shipped small reviewer, without its adapter, writing in five aspects."""
    text = (ROOT / "configs" / "reviewers" / "demo-7.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("adapter_sha256")]
    changed = "\n".join(lines).replace('aspects: "7"', "aspects: five")
    path = folder / f"{name}.yaml"
    path.write_text(
        changed.replace("name: demo-7", f"name: {name}") + f"\ntemperature: {temperature}\n"
    )
    return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with six papers and their human reviews, and three reviewers of five aspects."""
    made = Site(tmp_path / "home", FAST | SCRIPTED)
    (made.home / "models").mkdir(parents=True)
    (made.home / "models" / "smollm2-135m").symlink_to(small_model_folder())
    install_embedding_model(made.home)
    write_source(tmp_path / "spring")
    assert made.json("data", "import", str(tmp_path / "spring"))["new_papers"] == len(SUBJECTS)
    early = made.run("reviewer", "add", str(reviewer_file(tmp_path, "ours", 0.2)))
    assert (early.code, "must be one of 7, 4" in early.err) == (2, True)

    (made.home / "aspects").mkdir()
    (made.home / "aspects" / "five.yaml").write_text(FIVE)
    (tmp_path / "merger.yaml").write_text(MERGER)
    files = [reviewer_file(tmp_path, "ours", 0.2), reviewer_file(tmp_path, "theirs", 0.5)]
    for file in (*files, tmp_path / "merger.yaml"):
        added = made.run("reviewer", "add", str(file))
        assert added.code == 0, added
    return made


def test_a_third_aspect_set_works_from_submission_to_report(site: Site, tmp_path: Path) -> None:
    five = load_aspect_set(site.home / "aspects" / "five.yaml")
    _writes_reviews(site, tmp_path / "spring" / "papers.jsonl", five)
    _builds_training_data(site, tmp_path / "set", five)
    _is_judged_and_reported(site, tmp_path / "report", five)


def _writes_reviews(site: Site, papers: Path, five: AspectSet) -> None:
    with site.up("ours"):
        for name in ("ours", "theirs"):
            done = site.run("submit", str(papers), "--batch", name, "--reviewer", name, "--wait")
            assert done.code == 0, done
    for line in site.exported("ours"):
        assert is_strict(line["review"]["raw"], five)
        assert [item["aspect"] for item in line["review"]["items"]] == list(five.keys)
        assert "aspects" not in line["review"]
    shown = " ".join(site.run("show", "p0").out.split())
    places = [shown.index(f"[{heading}]") for heading in five.headings.values()]
    assert places == sorted(places)
    (exact, *_) = site.run("export", "ours", "--format", "openai-input").out.splitlines()
    assert json.loads(exact)["body"]["messages"][0]["content"] == five.system_prompt


def _builds_training_data(site: Site, folder: Path, five: AspectSet) -> None:
    rules = ("--short-percentile", "0", "--long-percentile", "100")
    assert site.run("data", "clean", *rules).code == 0
    (merged,) = site.json("data", "merge", "--reviewer", "merged-structured-five")
    assert (merged["aspects"], merged["new"]) == ("five", len(SUBJECTS))
    # Each rule of the file found its points: weak baselines are evidence here, not a rejection
    assert merged["items"]["evidence"] > 0
    built = site.run("data", "build", str(folder), "--reviewer", "ours")
    assert built.code == 0, built
    found = read(folder)
    assert found.card.aspects == "five"
    for pair in (*found.train, *found.validation, *found.test):
        assert is_strict(pair.review, five)


def _is_judged_and_reported(site: Site, folder: Path, five: AspectSet) -> None:
    rows = site.json(
        *("judge", "match", "ours", "theirs", "--reference", "merged-structured-five"),
        *("--min-papers", "1"),
    )
    assert set(five.keys) <= {row["aspect"] for row in rows}
    done = site.run("report", "1", "-o", str(folder))
    assert done.code == 0, done
    text = (folder / "report.md").read_text()
    assert all(label in text for label in five.labels.values())
    (page, *_) = sorted(folder.glob("comparison-*/paper-*.html"))
    markup = page.read_text()
    assert all(heading in markup for heading in five.headings.values())
    assert "Potential reasons for acceptance" not in markup
