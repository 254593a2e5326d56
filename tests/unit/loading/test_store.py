"""Where base models are looked for, and how they are told apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from errors import MissingPart
from models import hashes
from models.text.bases import BaseModel
from models.weights import store

BASE = BaseModel(name="tiny", hub="nobody/no-such-model", revision="0" * 40, max_context=512)


def lay_out(folder: Path, weights: bytes = b"weights") -> Path:
    """A folder that looks like a model."""
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_missing_model_error_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingPart, match=r"run `referee model fetch tiny`"):
        store.resolve(BASE, tmp_path)


def test_the_home_folder_comes_first(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "models" / "tiny")
    assert store.resolve(BASE, tmp_path) == folder
    assert store.fetch(BASE, tmp_path) == folder


def test_hub_may_name_a_folder_of_this_machine(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "elsewhere")
    base = BaseModel(name="tiny", hub=str(folder), revision="", max_context=512)
    assert store.resolve(base, tmp_path / "home") == folder


def test_the_hubs_cache_is_looked_into_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    cache = tmp_path / "hub" / "models--nobody--no-such-model"
    folder = lay_out(cache / "snapshots" / BASE.revision)
    assert store.resolve(BASE, tmp_path / "home") == folder
    mine = lay_out(tmp_path / "home" / "models" / "tiny")
    assert store.resolve(BASE, tmp_path / "home") == mine


@pytest.mark.parametrize("absent", ["config.json", "tokenizer.json", "model.safetensors"])
def test_half_a_model_is_not_taken(absent: str, tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "models" / "tiny")
    (folder / absent).unlink()
    with pytest.raises(MissingPart):
        store.resolve(BASE, tmp_path)


def test_every_shard_of_the_index_must_be_there(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "models" / "tiny")
    shards = {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (folder / "model-1-of-2.safetensors").write_bytes(b"")
    assert not store.is_complete(folder)
    (folder / "model-2-of-2.safetensors").write_bytes(b"")
    assert store.is_complete(folder)


def test_listing_shows_models_and_their_places(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "models" / "tiny")
    absent = BaseModel(name="absent", hub="nobody/absent", revision="0" * 40, max_context=512)
    here, nowhere = store.listing([BASE, absent], tmp_path)
    assert (here.folder, here.n_bytes) == (folder, len(b"weights"))
    assert (nowhere.folder, nowhere.n_bytes) == (None, 0)


def test_a_hub_that_cannot_be_reached_gives_one_sentence(tmp_path: Path) -> None:
    # Given a machine without a way out, when a model that no wheel holds is fetched
    code = (
        "from pathlib import Path; from errors import MissingPart\n"
        "from models.weights import store\n"
        "from models.text.bases import BaseModel\n"
        f"base = BaseModel('tiny', 'nobody/no-such-model', '{'0' * 40}', 512)\n"
        f"try: store.fetch(base, Path({str(tmp_path)!r}))\n"
        "except MissingPart as missing: print(missing)"
    )
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=offline, capture_output=True, text=True, timeout=60
    )
    # Then the reason is one line
    assert done.stdout.startswith("nobody/no-such-model could not be fetched from the hub: ")
    assert done.stdout.count("\n") == 1


def test_the_store_and_the_tokenizer_need_no_torch() -> None:
    code = (
        "import sys, models.weights.gguf_conversion, models.weights.store;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_a_missing_adapter_is_a_missing_part(tmp_path: Path) -> None:
    with pytest.raises(MissingPart, match="abcdef"):
        store.find_adapter("abcdef" * 10, tmp_path)
    (tmp_path / "adapters" / "abcdef").mkdir(parents=True)
    assert store.find_adapter("abcdef", tmp_path) == tmp_path / "adapters" / "abcdef"


def test_weights_hash_follows_the_content_and_is_remembered(tmp_path: Path) -> None:
    one = lay_out(tmp_path / "one")
    same = lay_out(tmp_path / "same")
    other = lay_out(tmp_path / "other", b"weightz")
    assert hashes.weights_sha256(one) == hashes.weights_sha256(same)
    assert hashes.weights_sha256(one) != hashes.weights_sha256(other)
    # When the weights change after they were hashed, the memory of them is not used.
    before = hashes.weights_sha256(one)
    (one / "model.safetensors").write_bytes(b"weights, longer")
    assert hashes.weights_sha256(one) != before
    # And a broken memory is no obstacle.
    (same / ".sha256.json").write_text("{")
    assert hashes.weights_sha256(same) == before


def test_a_blob_of_the_hubs_cache_is_not_hashed_again(tmp_path: Path) -> None:
    # Given a link to a blob that is named after its hash, as the hub's cache has it
    digest = hashes.file_sha256(lay_out(tmp_path / "real") / "model.safetensors")
    (tmp_path / "real" / "model.safetensors").rename(tmp_path / digest)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "model.safetensors").symlink_to(tmp_path / digest)
    # Then the hash is that of the same content anywhere else
    assert hashes.weights_sha256(linked) == hashes.weights_sha256(lay_out(tmp_path / "plain"))
    assert not (linked / ".sha256.json").exists()
