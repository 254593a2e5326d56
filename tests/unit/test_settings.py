"""Settings come from the environment and referee.toml, in the stated order."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from errors import UserError
from settings import Settings, get_settings


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFEREE_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path


def test_the_environment_wins_over_the_folder_over_the_home(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / "home" / "referee.toml").write_text("max_attempts = 5\nlease_seconds = 5\n")
    (empty_folder / "referee.toml").write_text("max_attempts = 6\n")
    assert (Settings().max_attempts, Settings().lease_seconds) == (6, 5)
    monkeypatch.setenv("REFEREE_MAX_ATTEMPTS", "7")
    assert Settings().max_attempts == 7


def test_the_database_is_a_file_in_the_home_unless_it_is_set(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings().database == f"sqlite:///{empty_folder / 'home' / 'referee.db'}"
    monkeypatch.setenv("REFEREE_DATABASE_URL", "postgresql://somewhere/referee")
    assert Settings().database == "postgresql://somewhere/referee"


def test_settings_are_frozen_and_keys_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFEREE_API_KEY", "sk-secret")
    settings = Settings()
    assert "sk-secret" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.max_attempts = 9


def test_invalid_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFEREE_MAX_ATTEMPTS", "many")
    with pytest.raises(UserError, match="REFEREE_MAX_ATTEMPTS"):
        get_settings.__wrapped__()
