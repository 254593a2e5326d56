"""A data set folder is read back unchanged; partial and modified folders are refused."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from errors import UserError
from trainer.data.dataset import TrainingPair, read, write
from trainer.data.dataset_card import Card, CardSource, CutRule

CARD = Card(
    name="spring",
    aspects="4",
    reviewer="merged-4 v1",
    tokenizer="smollm2-135m",
    cut=CutRule("chatml", 3072, 512, n_papers_cut=1),
    lengths={"prompt": {"p50": 10, "max": 20}, "response": {"p50": 5, "max": 9}},
    rules={"too_short": 3},
    sources=(CardSource("iclr2017", "none stated", 2),),
    seed=42,
    split_rule="by paper",
    code_version="0.1.0",
)


def pair(number: int, text: str = "[TITLE]\nA \u2028 paper") -> TrainingPair:
    return TrainingPair(f"p{number}", f"{number:064x}", text, "[A]\n<No related terms> -\n\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "spring"
    write(target, CARD, train=[pair(1), pair(2)], validation=[pair(3)], test=[])
    return target


def test_what_is_written_is_read_back(folder: Path) -> None:
    found = read(folder)

    assert found.train == (pair(1), pair(2))
    assert (found.validation, found.test) == ((pair(3),), ())
    assert found.card.counts == {"train": 2, "validation": 1, "test": 0}
    assert replace(found.card, counts={}, files={}, sha256="") == CARD
    assert found.card.sha256 in (folder / "README.md").read_text()
    assert not list(folder.parent.glob(".spring*"))


def test_equal_pairs_make_an_equal_hash(folder: Path, tmp_path: Path) -> None:
    again = write(tmp_path / "again", CARD, train=[pair(1), pair(2)], validation=[pair(3)], test=[])

    assert again.card.sha256 == read(folder).card.sha256


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "invalid json"),
        ('{"id": "a"}', "paper_sha256: field required"),
        ('{"id": 1, "paper_sha256": "a", "paper": "b", "review": "c"}', "id: input should be"),
        ('{"id": "1", "paper_sha256": "a", "paper": "b", "review": " "}', '"review" is empty'),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(folder: Path, line: str, reason: str) -> None:
    with (folder / "train.jsonl").open("a") as stream:
        stream.write(line + "\n")

    with pytest.raises(UserError, match=r"train\.jsonl, line 3: ") as refused:
        read(folder)

    assert reason in str(refused.value)


def test_a_changed_or_missing_file_is_refused(folder: Path) -> None:
    lines = (folder / "train.jsonl").read_text().split("\n")
    (folder / "train.jsonl").write_text(lines[0] + "\n")
    with pytest.raises(UserError, match=r"train\.jsonl is not the file"):
        read(folder)

    (folder / "test.jsonl").unlink()
    with pytest.raises(UserError, match=r"Cannot read .*test\.jsonl: No such file"):
        read(folder)

    (folder / "card.json").write_text("{}")
    with pytest.raises(UserError, match=r"card\.json: name: field required"):
        read(folder)


def test_existing_folder_is_kept_unless_replaced(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="use --replace"):
        write(folder, CARD, train=[], validation=[], test=[])
    assert len(read(folder).train) == 2

    write(folder, CARD, train=[pair(9)], validation=[], test=[], replace=True)
    assert read(folder).train == (pair(9),)

    precious = tmp_path / "precious"
    precious.mkdir()
    with pytest.raises(UserError, match="choose another folder"):
        write(precious, CARD, train=[], validation=[], test=[], replace=True)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 1 MiB in this process: the kernel then refuses the write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_leaves_the_old_folder_and_no_partial_files(
    folder: Path, small_disk: None
) -> None:
    long = pair(1, "x" * (2 << 20))

    with pytest.raises(UserError, match=r"Cannot write .*: File too large"):
        write(folder, CARD, train=[long], validation=[], test=[], replace=True)

    assert len(read(folder).train) == 2
    assert [entry.name for entry in folder.parent.iterdir()] == ["spring"]
