"""Import of reviews from files, for papers in the database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from db.completion import NewItem
from db.imports import FrozenReview, import_reviews
from db.paper_contents import PaperContent, contents_named
from db.session import Database
from dispatch import roster
from errors import PaperUnreadable
from models.engines.chat import (
    MAX_SENTENCE,
    ChatCompletion,
    UnusableAnswer,
    error_sentence,
    read_completion,
)
from models.text.aspects import aspect_sets
from models.text.parsing import parse
from models.text.reviewer import from_json
from papers.line_files import scan

#: A later sample in a file where custom_ids must be unique (`dispatch.openai_batch.custom_id`).
_LATER_SAMPLE = re.compile(r"(.+)#([1-9][0-9]{0,8})", re.DOTALL)
#: Characters of a name that a sentence repeats.
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class ImportResult:
    """The result of an import; `problems` has a sentence for each line that was left out.

    `cut` counts the imported answers that end where their limit of tokens did.
    """

    imported: int
    known: int
    cut: int
    problems: tuple[str, ...]


class _LineRefused(Exception):
    """The line holds no review that can be stored; the message says why."""


@dataclass(frozen=True)
class _Answer:
    """A review as a line has it."""

    text: str
    #: Added to the external id of a second answer in one line.
    suffix: str = ""
    finish: str | None = None
    n_prompt_tokens: int | None = None
    n_output_tokens: int | None = None


@dataclass
class _File:
    """What was read of a file so far."""

    rows: list[FrozenReview] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    #: Paper and external id -> number of the line and text.
    seen: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)


def import_file(
    database: Database, file: Path, file_format: str, reviewer_name: str, aspects: str
) -> ImportResult:
    """Store a file's reviews under a reviewer of kind `imported`. Repeating it adds nothing."""
    config = from_json({"name": reviewer_name, "kind": "imported", "aspects": aspects})
    reviewer = roster.register_version(database, config)
    found = _File()
    try:
        for number, _, line in scan(file):
            try:
                reviews = _read_line(database, line, file_format, aspects)
                for review in reviews:
                    _add(found, number, review)
            except _LineRefused as refused:
                found.problems.append(f"{file.name}, line {number}: {refused}.")
    except PaperUnreadable as error:
        found.problems.append(f"{file.name}: {error}")
    done = import_reviews(database, reviewer, found.rows)
    cut = sum(row.finish == "length" for row in found.rows)
    return ImportResult(done.new, done.known, cut, tuple(found.problems))


def _add(found: _File, number: int, review: FrozenReview) -> None:
    """Keep a review, unless an earlier line has one of the same name."""
    key = (review.paper.sha256, review.external_id)
    first, text = found.seen.setdefault(key, (number, review.raw))
    if text != review.raw:
        raise _LineRefused(
            f"the custom_id of line {first} comes again with another text, which was left out"
        )
    found.rows.append(review)


def _read_line(
    database: Database, line: bytes, file_format: str, aspects: str
) -> Sequence[FrozenReview]:
    document = _parsed(line)
    answers = _READERS[file_format](document)
    custom_id, sample, paper = _paper(database, document)
    return [_frozen(custom_id, sample, paper, answer, aspects) for answer in answers]


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _LineRefused("not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise _LineRefused("not JSON") from error
    if not isinstance(document, dict):
        raise _LineRefused("not a JSON object")
    return document


def _paper(database: Database, line: Mapping[str, Any]) -> tuple[str, int, PaperContent]:
    """The custom_id, sample and paper of a line.

    An export of our own names its paper by hash; another paper may have the same custom_id.
    """
    custom_id, sample = _named(line, "custom_id"), line.get("sample", 0)
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 0:
        raise _LineRefused("'sample' is not a number")
    about = line.get("paper")
    sha256 = about.get("sha256") if isinstance(about, dict) else None
    if isinstance(sha256, str) and (papers := contents_named(database, sha256)):
        return custom_id, sample, papers[0]
    papers = contents_named(database, custom_id)
    later = _LATER_SAMPLE.fullmatch(custom_id)
    if not papers and later is not None:
        custom_id, sample = later[1], int(later[2])
        papers = contents_named(database, custom_id)
    if len(papers) != 1:
        name = _shown(_named(line, "custom_id"))
        raise _LineRefused(f"{len(papers) or 'no'} papers in the database have custom_id {name}")
    return custom_id, sample, papers[0]


def _named(line: Mapping[str, Any], key: str) -> str:
    name = line.get(key)
    if name is None:
        raise _LineRefused(f"'{key}' is missing")
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise _LineRefused(f"'{key}' is not a name")
    return str(name).strip()


def _frozen(
    custom_id: str, sample: int, paper: PaperContent, answer: _Answer, aspects: str
) -> FrozenReview:
    review = parse(answer.text, aspect_sets()[aspects])
    return FrozenReview(
        external_id=f"{custom_id}#{sample}{answer.suffix}",
        paper=paper,
        raw=answer.text,
        items=tuple(NewItem(i.aspect, i.position, i.title, i.text) for i in review.items),
        empty_aspects=review.empty_aspects,
        unplaced=review.unplaced,
        finish=answer.finish,
        n_prompt_tokens=answer.n_prompt_tokens,
        n_output_tokens=answer.n_output_tokens,
    )


def _from_openai_batch(line: Mapping[str, Any]) -> Sequence[_Answer]:
    """Every choice of the completion: a request for several is answered by several reviews."""
    if line.get("error"):
        raise _LineRefused(f"the request failed: {_sentence(line['error'])}")
    response = line.get("response")
    if not isinstance(response, dict):
        raise _LineRefused("'response' is missing")
    body, status = response.get("body"), response.get("status_code", 200)
    failed = isinstance(body, dict) and body.get("error") and not body.get("choices")
    if status != 200 or failed:
        raise _LineRefused(f"the endpoint answered {_shown(status)}: {_sentence(body)}")
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(choices, list):
        raise _LineRefused("the response is not a chat completion")
    try:
        completions = [read_completion({**body, "choices": [choice]}) for choice in choices]
    except UnusableAnswer as unusable:
        raise _LineRefused(f"the endpoint answered: {_one_line(str(unusable))}") from None
    except ValueError:
        completions = []
    if not completions:
        raise _LineRefused("the response is not a chat completion")
    return [_answer(completion, number) for number, completion in enumerate(completions)]


def _answer(completion: ChatCompletion, number: int) -> _Answer:
    return _Answer(
        completion.text,
        suffix=f".{number}" if number else "",
        finish="length" if completion.finish_reason == "length" else "stop",
        n_prompt_tokens=completion.n_prompt_tokens or None,
        n_output_tokens=completion.n_output_tokens or None,
    )


def _from_referee(line: Mapping[str, Any]) -> Sequence[_Answer]:
    review = line.get("review")
    if review is None:
        raise _LineRefused(f"the job has no review, its state is {_shown(line.get('state'))}")
    if not isinstance(review, dict):
        raise _LineRefused("'review' is not an object")
    finish = review.get("finish")
    return [_Answer(_text(review, "raw"), finish=finish if finish in ("stop", "length") else None)]


def _from_text(line: Mapping[str, Any]) -> Sequence[_Answer]:
    return [_Answer(_text(line, "text"))]


_READERS: dict[str, Callable[[Mapping[str, Any]], Sequence[_Answer]]] = {
    "openai-batch": _from_openai_batch,
    "referee": _from_referee,
    "text": _from_text,
}


def _text(document: Mapping[str, Any], key: str) -> str:
    text = document.get(key)
    if text is None:
        raise _LineRefused(f"'{key}' is missing")
    if not isinstance(text, str):
        raise _LineRefused(f"'{key}' is not a text")
    if not text.strip():
        raise _LineRefused(f"'{key}' is empty")
    return text


def _sentence(error: object) -> str:
    return _one_line(error_sentence(error) or json.dumps(error))


def _one_line(sentence: str) -> str:
    """A sentence of the file, bounded, printable and without the full stop that ends a problem."""
    plain = "".join(c if c.isprintable() else " " for c in sentence[:MAX_SENTENCE])
    return " ".join(plain.split()).removesuffix(".")


def _shown(value: object) -> str:
    text = ascii(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
