"""Calibration over stored reviews: the setting whose empty aspects are people's is found."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commands.judge_tables import calibration_plot, calibration_rows, calibration_table
from db.completion import NewItem
from db.imports import FrozenReview, import_reviews
from db.session import Database
from errors import UserError
from judge.calibration import CalibrationRequest, calibrate, read_coefficients
from judge.selecting import select_papers
from models.text.aspects import SEVEN
from settings import Settings
from tests.integration.db.content import content
from tests.integration.judge.rivals import reviewer

ONE_DATABASE = pytest.mark.parametrize("dialect", ["sqlite"])
REQUEST = CalibrationRequest(
    reviewer="demo-7",
    reference="people",
    modes=("logit",),
    coefficients=(1.0, 0.8),
    imported=True,
)


@contextmanager
def quietly(label: str) -> Any:
    yield lambda done, total: None


def write(database: Database, name: str, n_empty: int) -> None:
    """Reviews of four papers whose last `n_empty` aspects are empty."""
    version = reviewer(database, name)
    filled = SEVEN.keys[: len(SEVEN.keys) - n_empty]
    items = [NewItem(key, 0, key, f"What matters is its {key}.") for key in filled]
    import_reviews(
        database,
        version,
        [
            FrozenReview(f"p{i}", content(f"p{i}"), "raw", items, SEVEN.keys[len(filled) :])
            for i in range(4)
        ],
    )


@ONE_DATABASE
def test_the_setting_closest_to_people_is_chosen(database: Database, home: Path) -> None:
    # Given people who leave one aspect empty, and a reviewer that leaves three, suppressed one
    for name, n_empty in (("people", 1), ("demo-7~off", 3), ("demo-7~logit-0.8", 1)):
        write(database, name, n_empty)
    # When the suppression is calibrated
    found = calibrate(database, Settings(home=home), REQUEST, quietly)
    # Then the suppressed one is the closest, and every setting is described
    assert found.best.setting.coefficient == 0.8
    off, suppressed = found.tried
    assert (off.shape.last_three_empty, suppressed.shape.last_three_empty) == (1.0, 0.0)
    assert (off.shape.mean_items, suppressed.shape.mean_items) == (4.0, 6.0)
    assert off.distance == pytest.approx(2 / 7)
    assert (suppressed.distance, suppressed.shape.variance_items) == (0.0, 0.0)
    # At equal counts both say what people say, with four items of their six
    assert off.f1 == suppressed.f1 == pytest.approx(2 * 4 / (4 + 6))
    assert [row["label"] for row in calibration_rows(found)] == ["people", "off", "logit 0.8"]
    assert "logit 0.8" in calibration_table(found)
    assert "rejection: share of reviews" in calibration_plot(found)


@ONE_DATABASE
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reviewer": "gpt4-1106-7"}, "only local ones are suppressed"),
        ({}, "There are no reviews by demo-7~off"),
    ],
)
def test_impossible_calibration_is_reported(
    database: Database, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    write(database, "people", 1)
    with pytest.raises(UserError, match=sentence):
        calibrate(database, Settings(home=tmp_path), replace(REQUEST, **changes), quietly)


def test_coefficients_are_numbers_above_0_and_up_to_1() -> None:
    assert read_coefficients("1,0.95") == [1.0, 0.95]
    for text in ("1,2", "0", "", "1,high"):
        with pytest.raises(UserError, match="above 0 and up to 1"):
            read_coefficients(text)


def test_a_split_without_its_data_set_is_refused() -> None:
    with pytest.raises(UserError, match="--dataset FOLDER"):
        select_papers(None, None, "dev")
