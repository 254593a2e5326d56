"""Names that PostgreSQL cannot index are refused alike on both databases."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path

import pytest

from db import batch_papers, batch_records
from db.batch_records import BatchOptions
from db.reviews import export
from db.session import Database
from dispatch.submission import new_paper
from errors import UserError
from papers.discovery import discover
from papers.entry import MAX_CUSTOM_ID_BYTES
from papers.reading import PdfLimits, read_all
from tests.integration.db.content import a_reviewer


def incompressible(n_characters: int, alphabet: str = string.ascii_letters) -> str:
    """A name that an index cannot store in less."""
    return "".join(random.Random(n_characters).choices(alphabet, k=n_characters))


def submitted(database: Database, paths: list[str], manifest: Path | None = None) -> None:
    batch = batch_records.open_batch(database, "b", a_reviewer(database), BatchOptions())
    entries = discover(paths, manifest)
    limits = PdfLimits(seconds=10, pages=10, memory_mib=500)
    readings = read_all(entries, cache=None, limits=limits, processes=1)
    batch_papers.add_papers(database, batch, [new_paper(reading) for reading in readings])
    batch_records.finish_submit(database, batch)


def test_line_with_a_long_custom_id_fails_alone(database: Database, tmp_path: Path) -> None:
    longest = incompressible(MAX_CUSTOM_ID_BYTES)
    # Of NUL the database stores three bytes, of which the letters beside it must leave room.
    names = [
        "short",
        longest,
        longest + "x",
        incompressible(3000),
        incompressible(400, "äöü→"),
        "\x00" * 512,
    ]
    file = tmp_path / "p.jsonl"
    rows = [{"custom_id": name, "text": f"Number {n} is ranked."} for n, name in enumerate(names)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    submitted(database, [str(file)])

    lines = {line.source.rpartition(":")[2]: line for line in export(database, "b")}
    assert [lines[str(n)].state for n in range(1, 7)] == [
        *("queued", "queued", "failed", "failed", "failed", "queued")
    ]
    assert lines["2"].custom_id == longest
    assert lines["4"].custom_id.startswith(names[3][:60] + "...")
    assert lines["4"].error_kind == "long_custom_id"
    assert lines["4"].error == "The custom_id has 3000 bytes; the limit is 512."
    # Again, also those that failed are known
    submitted(database, [str(file)])
    assert len(list(export(database, "b"))) == 6


def test_long_custom_id_of_a_manifest_fails_alone(database: Database, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"On {name}\n\nIt is ranked by hand.")
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"custom_id,path\n{incompressible(600)},a.txt\nb,b.txt\n")

    submitted(database, [], manifest)

    assert [line.state for line in export(database, "b")] in (
        ["failed", "queued"],
        ["queued", "failed"],
    )


def test_long_names_of_batches_and_reviewers_are_refused(database: Database) -> None:
    with pytest.raises(UserError, match="at most 512 bytes"):
        a_reviewer(database, incompressible(3000))
    reviewer = a_reviewer(database)
    with pytest.raises(UserError, match="at most 512 bytes"):
        batch_records.open_batch(database, incompressible(513), reviewer, BatchOptions())
