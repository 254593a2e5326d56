"""Aspect sets are files: the recipe's are verbatim, a site's own are checked and read again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from errors import UserError
from models.text.aspects import (
    FOUR,
    SEVEN,
    AspectSet,
    aspect_sets,
    find_aspect_set,
    load_aspect_set,
)
from models.text.parsing import parse, render
from models.text.review import Item
from models.text.reviewer import from_json
from settings import get_settings
from tests.aspect_sets import FIVE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The site's folder of aspect sets, with the set of five in it."""
    monkeypatch.setenv("REFEREE_HOME", str(tmp_path))
    get_settings.cache_clear()
    (tmp_path / "aspects").mkdir()
    (tmp_path / "aspects" / "five.yaml").write_text(FIVE)
    yield tmp_path / "aspects"
    get_settings.cache_clear()


@pytest.mark.parametrize(
    ("aspects", "prompt", "headings"),
    [
        (
            SEVEN,
            "5c13d7c6f27c3be810d0555da944f93b5278d50aeac9026c6f4bc9469cc45f7a",
            "f1220bef60ee0fca677fdf86619f549e4e69da2dc8839b148d2a5f0f77a606a5",
        ),
        (
            FOUR,
            "fd3567ca804b59eb8005767b6ec8b3163ba79fb2ffbebf22380cc29e1b9757b1",
            "dc717a59ebd51a2ec8fdf3a9e37fe36d0ff836636b2df66b4a987fe5953de1ee",
        ),
    ],
)
def test_aspect_sets_of_the_recipe_are_unchanged(
    aspects: AspectSet, prompt: str, headings: str
) -> None:
    lines = "\n".join(f"{aspect.key}\t{aspect.heading}" for aspect in aspects.aspects)

    assert hashlib.sha256(aspects.system_prompt.encode()).hexdigest() == prompt
    assert hashlib.sha256(lines.encode()).hexdigest() == headings


def test_a_file_of_the_site_is_an_aspect_set(folder: Path) -> None:
    assert list(aspect_sets()) == ["7", "4", "five"]

    five = from_json({"name": "r", "kind": "imported", "aspects": "five"}).aspect_set

    assert five.keys == ("method", "evidence", "acceptance", "rejection", "suggestions")
    assert five.headings["acceptance"] == "What speaks for the paper"
    assert list(five.labels.values())[2:] == ["For", "Against", "What the authors should do next"]
    items = (
        Item("evidence", 0, "Weak", "The proofs have gaps."),
        Item("suggestions", 0, "Fix", "Close the gaps."),
    )
    review = parse(render(items, five), five)
    assert (review.items, review.strict) == (items, True)


def test_a_file_is_read_again_when_it_changes(folder: Path) -> None:
    config = from_json({"name": "r", "kind": "imported", "aspects": "five"})
    before = config.sha256

    (folder / "five.yaml").write_text(FIVE.replace("label: Against", "label: Objections"))

    assert config.aspect_set.labels["rejection"] == "Objections"
    assert config.sha256 != before


def test_removed_aspect_set_is_none_and_its_reviewer_is_refused(folder: Path) -> None:
    (folder / "five.yaml").unlink()

    assert find_aspect_set("five") is None
    assert find_aspect_set(None) is None
    with pytest.raises(UserError, match="aspects: must be one of 7, 4"):
        from_json({"name": "r", "kind": "imported", "aspects": "five"})


def test_a_set_of_referee_cannot_be_replaced(folder: Path) -> None:
    (folder / "7.yaml").write_text(FIVE.replace("name: five", 'name: "7"'))

    with pytest.raises(UserError, match=r"7\.yaml: name: 7 is a set that comes with Referee$"):
        aspect_sets()


HEADING = "What speaks for the paper"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("key: method", "key: evidence", r"aspects\.1\.key: evidence is there twice"),
        ("key: method", "key: My key", r"aspects\.0\.key: must be at most 32 lower-case letters"),
        (HEADING, '"**For** us"', r"aspects\.2\.heading: must not contain brackets"),
        (HEADING, "soundness - of the method", r"aspects\.2\.heading: reads the same as 'Sound"),
        (HEADING, "For [us]", r"aspects\.2\.heading: must not contain brackets"),
        (HEADING, "For <us>", r"aspects\.2\.heading: must not contain brackets"),
        (HEADING, '"For\\nus"', r"aspects\.2\.heading: must be one line"),
        (HEADING, '" For us"', r"aspects\.2\.heading: must be one line"),
        (HEADING, "'?!'", r"aspects\.2\.heading: must contain a word"),
        (HEADING, "''", r"aspects\.2\.heading: must contain a word"),
        (HEADING, "3 reasons", r"aspects\.2\.heading: must not begin with a number"),
        (HEADING, "long " * 50, r"aspects\.2\.heading: must have at most 200 characters"),
        ("label: For", 'label: "F\\nor"', r"aspects\.2\.label: must be one line"),
        ("label: For", "kind: choice", r"aspects\.2\.kind: choice is not supported, only items"),
        ("label: For", "colour: red", r"aspects\.2\.colour: this key is unknown"),
        ("label: For", "label: 4", r"aspects\.2\.label: input should be a valid string"),
        ("name: five", "name: six", "name: must be the file's name, five"),
        ("name: five", "name: Fünf", "name: must be at most 32 lower-case letters"),
        ("- aspect: method", "- aspect: title", r"merging\.title: is not an aspect's key"),
        ("- aspect: method", "- aspect: evidence", r"merging\.evidence: has two rules"),
        (
            "topics: [soundness]",
            "topics: [weather]",
            r"merging\.1\.any\.0\.topics",
        ),
        ("max_items: 3", "max_items: 0", r"merging\.suggestions\.max_items: must be above 0"),
    ],
)
def test_each_fault_is_one_sentence(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "five.yaml"
    assert old in FIVE
    path.write_text(FIVE.replace(old, new))

    with pytest.raises(UserError, match=problem) as error:
        load_aspect_set(path)

    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_an_empty_prompt_no_aspect_and_no_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "five.yaml"
    for text, problem in (
        ('{name: five, aspects: [], system_prompt: "x"}', "aspects: a set needs at least one"),
        (
            '{name: five, aspects: [{key: a, heading: A}], system_prompt: " "}',
            "system_prompt: must not be empty",
        ),
        ("- five", "file: "),
        ("a: [", "not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=problem):
            load_aspect_set(path)
    with pytest.raises(UserError, match="cannot read the aspect set"):
        load_aspect_set(tmp_path / "six.yaml")
