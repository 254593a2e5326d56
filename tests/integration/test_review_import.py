"""Import of reviews: what is stored, and the sentence for each line that is not."""

from __future__ import annotations

import gzip
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db.completion import commit_review
from db.exporting import layout
from db.paper_contents import PaperContent
from db.reviews import export
from db.schema import ItemRow, PaperRow, ReviewRow
from db.session import Database
from dispatch import openai_batch
from dispatch.review_import import ImportResult, import_file
from models.text.aspects import FOUR
from models.text.parsing import render
from models.text.review import Item
from tests.integration.db.content import a_review, claim_one, content, paper, review_all, submit

RAW = render([Item("acceptance", 0, "Clear", "It is clear.")], FOUR)


def completion(message: Any, finish: str = "stop", **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "message": message, "finish_reason": finish}]
    return {"status_code": 200, "body": {"choices": choices, **more}}


def line(response: Any, custom_id: Any = "a", error: Any = None) -> dict[str, Any]:
    return {"id": "r", "custom_id": custom_id, "response": response, "error": error}


def import_lines(
    database: Database, tmp_path: Path, *lines: Any, file_format: str = "openai-batch"
) -> ImportResult:
    file = tmp_path / "out.jsonl"
    parts = (row if isinstance(row, bytes) else json.dumps(row).encode() for row in lines)
    file.write_bytes(b"\n".join(parts) + b"\n")
    return import_file(database, file, file_format, "gpt", "4")


def stored(database: Database) -> list[tuple[str | None, str, str]]:
    """(external id, title of the paper, text) of the imported reviews."""
    query = (
        select(ReviewRow.external_id, PaperRow.title, ReviewRow.raw)
        .join(PaperRow, PaperRow.id == ReviewRow.paper_id)
        .where(ReviewRow.job_id.is_(None))
        .order_by(ReviewRow.external_id)
    )
    with database.read() as on:
        return [(external_id, title, raw) for external_id, title, raw in on.execute(query)]


@pytest.fixture
def papers(database: Database) -> Database:
    """A database with the papers a, b and c of one batch."""
    submit(database, "b", paper("a"), paper("b"), paper("c"))
    return database


#: A response and the reason for which it is left out.
NO_TEXT: list[tuple[Any, str]] = [
    (
        completion({"content": None, "refusal": "I must not judge others."}),
        "the endpoint answered: refused: I must not judge others",
    ),
    (
        completion({"content": [{"type": "refusal", "refusal": "Not \x1b[2Jthis."}]}),
        "the endpoint answered: refused: Not [2Jthis",
    ),
    (completion({"content": None}), "the endpoint answered: no text"),
    (completion({"role": "assistant"}), "the endpoint answered: no text"),
    (completion({"content": " \n"}), "the endpoint answered: no text"),
    (completion({"content": []}), "the endpoint answered: no text"),
    (
        completion({"content": ""}, "length"),
        "the endpoint answered: no text, because the limit of tokens was reached before any",
    ),
    (
        completion({"content": "half"}, "content_filter"),
        "the endpoint answered: the content filter stopped the answer",
    ),
    (completion({"content": 7}), "the response is not a chat completion"),
    (completion(None), "the response is not a chat completion"),
    ({"status_code": 200, "body": {"choices": []}}, "the response is not a chat completion"),
    ({"status_code": 200, "body": None}, "the response is not a chat completion"),
    (
        {"status_code": 429, "body": {"error": {"message": "Slow\ndown.", "code": "rate"}}},
        "the endpoint answered 429: Slow down",
    ),
    (
        {"status_code": 500, "body": {"error": "overloaded"}},
        "the endpoint answered 500: overloaded",
    ),
    ({"status_code": 503, "body": None}, "the endpoint answered 503: null"),
    (None, "'response' is missing"),
]


def test_line_without_a_text_is_left_out_with_its_reason(papers: Database, tmp_path: Path) -> None:
    done = import_lines(papers, tmp_path, *(line(response) for response, _ in NO_TEXT))

    reasons = [reason for _, reason in NO_TEXT]
    assert list(done.problems) == [
        f"out.jsonl, line {n}: {reason}." for n, reason in enumerate(reasons, start=1)
    ]
    assert stored(papers) == []


#: A line of text and the reason for which it is left out.
UNUSABLE: list[tuple[Any, str]] = [
    ({"custom_id": "a", "text": None}, "'text' is missing"),
    ({"custom_id": "a", "text": {"of": "it"}}, "'text' is not a text"),
    ({"custom_id": "a", "text": "  "}, "'text' is empty"),
    ({"text": RAW}, "'custom_id' is missing"),
    ({"custom_id": True, "text": RAW}, "'custom_id' is not a name"),
    ({"custom_id": "z\x00", "text": RAW}, r"no papers in the database have custom_id 'z\x00'"),
    ({"custom_id": "a", "sample": "1", "text": RAW}, "'sample' is not a number"),
    ([RAW], "not a JSON object"),
    (b"[" * 200_000, "not JSON"),
    (b'{"custom_id": "a", "text": "caf\xe9"}', "not UTF-8"),
]


def test_line_of_text_that_cannot_be_used_is_named(papers: Database, tmp_path: Path) -> None:
    lines = [document for document, _ in UNUSABLE]
    good = {"custom_id": "b", "text": RAW}

    done = import_lines(papers, tmp_path, *lines, good, file_format="text")

    assert done.imported == 1
    assert list(done.problems) == [
        f"out.jsonl, line {n}: {reason}." for n, (_, reason) in enumerate(UNUSABLE, start=1)
    ]


def test_only_a_line_feed_ends_a_line(papers: Database, tmp_path: Path) -> None:
    texts = [f"It is{mark}clear." for mark in "\u2028\u2029\x85\x0b\x0c\x1c"]
    rows: list[dict[str, Any]] = [
        {"custom_id": "a", "sample": n, "text": text} for n, text in enumerate(texts)
    ]
    lines = [json.dumps(row, ensure_ascii=row["text"][5] < "\x85").encode() for row in rows]

    done = import_lines(papers, tmp_path, *lines, file_format="text")

    assert done == ImportResult(len(texts), 0, 0, ())
    assert [row[2] for row in stored(papers)] == texts


def test_byte_order_mark_crlf_and_gzip_are_read(papers: Database, tmp_path: Path) -> None:
    rows = [json.dumps({"custom_id": name, "text": RAW}) for name in "ab"]
    file = tmp_path / "out.jsonl.gz"
    file.write_bytes(gzip.compress(("\ufeff" + "\r\n".join(rows)).encode()))

    assert import_file(papers, file, "text", "gpt", "4").imported == 2


def test_parts_and_all_choices_are_imported_and_a_cut_answer_is_recorded(
    papers: Database, tmp_path: Path
) -> None:
    parts = [{"type": "text", "text": RAW[:9]}, {"type": "text", "text": RAW[9:]}]
    several = completion({"content": parts}, usage={"prompt_tokens": 9, "completion_tokens": 2})
    several["body"]["choices"] += completion({"content": "half"}, "length")["body"]["choices"]

    done = import_lines(papers, tmp_path, line(several))

    assert done == ImportResult(2, 0, 1, ())
    assert stored(papers) == [("a#0", "On a", RAW), ("a#0.1", "On a", "half")]
    with papers.read() as on:
        assert list(on.scalars(select(ReviewRow.finish).order_by(ReviewRow.id))) == [
            "stop",
            "length",
        ]
        assert list(on.scalars(select(ItemRow.title))) == ["Clear"]


def test_custom_id_that_comes_twice_is_imported_once(papers: Database, tmp_path: Path) -> None:
    first, other = line(completion({"content": RAW})), line(completion({"content": "Other."}))

    done = import_lines(papers, tmp_path, first, other, first)

    assert (done.imported, done.known) == (1, 1)
    assert done.problems == (
        "out.jsonl, line 2: the custom_id of line 1 comes again with another text, "
        "which was left out.",
    )
    assert stored(papers) == [("a#0", "On a", RAW)]


def test_suffix_of_a_later_sample_is_no_part_of_the_name(
    database: Database, tmp_path: Path
) -> None:
    submit(database, "b", paper("a"), paper("x#1"))
    rows = [line(completion({"content": f"{n}."}), n) for n in ("a", "a#1", "a#12", "x#1")]

    done = import_lines(database, tmp_path, *rows, line(completion({"content": "?"}), "y#1"))

    assert [row[:2] for row in stored(database)] == [
        ("a#0", "On a"),
        ("a#1", "On a"),
        ("a#12", "On a"),
        ("x#1#0", "On x#1"),
    ]
    assert done.problems == ("out.jsonl, line 5: no papers in the database have custom_id 'y#1'.",)


def exported(database: Database, file_format: str) -> list[dict[str, Any]]:
    """The lines of our own export of batch b."""
    if file_format == "openai-batch":
        return [openai_batch.output_line(row, "m") for row in export(database, "b")]
    text = StringIO()
    write = layout("jsonl", str).open(text)
    for row in export(database, "b"):
        write(row)
    return [json.loads(row) for row in text.getvalue().split("\n") if row]


@pytest.mark.parametrize("file_format", ["openai-batch", "referee"])
def test_own_export_with_samples_and_duplicates_imports_whole(
    database: Database, tmp_path: Path, file_format: str
) -> None:
    # Given two samples of two papers, and a duplicate of one
    submit(database, "b", paper("a"), paper("b"), paper("twin", "a"), samples=2)
    assert commit_review(
        database, claim_one(database), a_review("cut \u2028 here", finish="length")
    )
    review_all(database)

    done = import_lines(
        database, tmp_path, *exported(database, file_format), file_format=file_format
    )

    assert (done.imported, done.problems) == (6, ())
    assert [row[0] for row in stored(database)] == [
        *("a#0", "a#1", "b#0", "b#1", "twin#0", "twin#1")
    ]
    assert done.cut == 2


def test_own_export_finds_its_paper_by_hash_where_two_have_the_name(
    database: Database, tmp_path: Path
) -> None:
    submit(database, "b", paper("a", "first"))
    review_all(database)
    submit(database, "other", paper("a", "second"))
    first: PaperContent = content("first")

    done = import_lines(database, tmp_path, *exported(database, "referee"), file_format="referee")

    assert (done.imported, done.problems) == (1, ())
    assert stored(database)[0][:2] == ("a#0", first.title)
    ambiguous = import_lines(
        database, tmp_path, {"custom_id": "a", "text": RAW}, file_format="text"
    )
    assert ambiguous.problems == (
        "out.jsonl, line 1: 2 papers in the database have custom_id 'a'.",
    )
