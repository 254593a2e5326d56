"""Cleaning of text before it is stored, and parsing of database URLs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.column_types import storable, storable_json
from db.enqueue import seed_of
from db.session import parse_url
from errors import UserError


@given(st.text(alphabet=st.characters(codec=None)))
def test_cleaning_makes_any_text_storable_and_is_idempotent(text: str) -> None:
    cleaned = storable(text)
    cleaned.encode()
    assert "\x00" not in cleaned
    assert storable(cleaned) == cleaned


def test_ordinary_text_is_stored_as_it_is() -> None:
    assert storable("Über α → β\n\ttab") == "Über α → β\n\ttab"


def test_json_is_cleaned_recursively() -> None:
    dirty = {"a\x00": ["x\x00", ("y", math.nan)], "b": {"c": math.inf}, "n": 3}
    assert storable_json(dirty) == {"a\ufffd": ["x\ufffd", ["y", None]], "b": {"c": None}, "n": 3}


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:////data/referee.db", "sqlite"),
        ("postgresql://user:secret@db/referee", "postgresql+psycopg"),
        ("postgresql+psycopg://db/referee", "postgresql+psycopg"),
    ],
)
def test_urls_name_our_drivers(url: str, driver: str) -> None:
    assert parse_url(url).drivername == driver


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://db/x", "sqlite://", "sqlite:///:memory:"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(UserError):
        parse_url(url)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(UserError) as refusal:
        parse_url("mysql://user:secret@db/x")
    assert "secret" not in str(refusal.value)


@given(st.text(min_size=1), st.integers(min_value=0, max_value=9))
def test_seeds_fit_31_bits_and_depend_on_the_sample(custom_id: str, sample: int) -> None:
    seed = seed_of("batch", storable(custom_id), sample)
    assert 0 <= seed < 2**31
    assert seed == seed_of("batch", storable(custom_id), sample)
    assert seed != seed_of("batch", storable(custom_id), sample + 1)
