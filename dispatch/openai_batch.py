"""Batches in the format of OpenAI's Batch API: output, errors, and the prompts as input.

docs/openai.md maps states and counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TextIO

from db import batch_records
from db.exporting import ExportFormat, Writer
from db.reviews import ExportLine
from db.session import Database
from errors import UserError
from models.engines.chat import chat_body
from models.text.reviewer import ReviewerConfig, from_json

#: Error codes of jobs that have neither a review nor an error.
_CODES = {
    "expired": ("batch_expired", "The batch's deadline passed before the paper was reviewed."),
    "cancelled": ("batch_cancelled", "The paper was cancelled."),
    "queued": ("not_finished", "The paper still waits for its review."),
    "running": ("not_finished", "The paper is being reviewed."),
}


def layout(database: Database, batch: str, file_format: str) -> ExportFormat:
    """The format of `export --format openai` or `openai-input`."""
    version = batch_records.reviewer_of(database, batch)
    config = from_json(version.config)
    if file_format == "openai":
        return ExportFormat(
            _writer(lambda line: output_line(line, model_of(config))),
            failure=lambda line: _dump(error_line(line)),
            separate_failures=True,
        )
    if config.base is None and config.endpoint is None:
        raise UserError(f"Reviewer {version.name} is {config.kind} and sends no prompts.")
    return ExportFormat(
        _writer(lambda line: input_line(line, config)),
        complete=_has_text,
        separate_failures=True,
        with_text=True,
    )


def model_of(config: ReviewerConfig) -> str:
    """The name of the reviewer's model on a chat server."""
    if config.endpoint is not None:
        return config.endpoint.model
    return config.base.hub if config.base is not None else config.name


def output_line(line: ExportLine, model: str) -> dict[str, Any]:
    """A review as a successful response."""
    assert line.review is not None
    response = {
        "status_code": 200,
        "request_id": f"job-{line.job}",
        "body": _completion(line, model),
    }
    return _head(line) | {"response": response, "error": None}


def error_line(line: ExportLine) -> dict[str, Any]:
    """A job without a review, as OpenAI reports a request that got no response."""
    code, message = _CODES.get(line.state, (line.error_kind, line.error))
    return _head(line) | {"response": None, "error": {"code": code, "message": message}}


def input_line(line: ExportLine, config: ReviewerConfig) -> dict[str, Any]:
    """A job's prompt. The server that gets it applies its own length limit to the paper."""
    request = config.request(str(line.job), line.text or "", line.seed)
    return {
        "custom_id": custom_id(line),
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": chat_body(request, model_of(config)),
    }


def custom_id(line: ExportLine) -> str:
    """The custom_id in the file, where it must be unique: later samples get their number added."""
    return f"{line.custom_id}#{line.sample}" if line.sample else line.custom_id


def _head(line: ExportLine) -> dict[str, Any]:
    return {"id": f"batch_req_{line.job}", "custom_id": custom_id(line)}


def _completion(line: ExportLine, model: str) -> dict[str, Any]:
    review = line.review
    assert review is not None
    n_prompt, n_output = review.n_prompt_tokens or 0, review.n_output_tokens or 0
    usage = {"prompt_tokens": n_prompt, "completion_tokens": n_output}
    message = {"role": "assistant", "content": review.raw, "refusal": None}
    reason = review.finish or "stop"
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {
        "id": f"chatcmpl-{review.id}",
        "object": "chat.completion",
        "created": int(review.created_at),
        "model": model,
        "choices": [choice],
        "usage": usage | {"total_tokens": n_prompt + n_output},
        "system_fingerprint": None,
    }


def _has_text(line: ExportLine) -> bool:
    return line.text is not None


def _writer(document: Callable[[ExportLine], dict[str, Any]]) -> Callable[[TextIO], Writer]:
    def open_writer(stream: TextIO) -> Writer:
        def write_line(line: ExportLine) -> None:
            stream.write(_dump(document(line)))

        return write_line

    return open_writer


def _dump(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False) + "\n"
