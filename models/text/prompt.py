"""Builds the prompt that a model reads, cut to its limit.

The limit counts the whole prompt: system prompt, template, paper and suffix. Only the paper's tail
is cut. The parts are tokenised apart, so the cut is exact and a paper's text can never become a
special token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, TypedDict

from errors import RequestRefused
from models.text.generation import ReviewRequest
from models.text.templates import TEMPLATES, AnyTokenizer, encode_text


class Message(TypedDict):
    """One message of the OpenAI chat format."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """Token ids to feed, with what was cut from the paper's tail, in tokens."""

    token_ids: tuple[int, ...]
    n_prompt_tokens: int
    truncated_tokens: int


class PaperTokens(NamedTuple):
    """Length of a whole paper and how much of its tail a reviewer would not see, in tokens."""

    n_tokens: int
    truncated_tokens: int


def build_prompt(tokenizer: AnyTokenizer, request: ReviewRequest) -> Prompt:
    """Tokenise `request` within `max_prompt_tokens`.

    RequestRefused (kind `prompt_too_small`) when not even an empty paper fits.
    """
    template = TEMPLATES[request.template]
    prefix = template.encode_prefix(tokenizer, request.system)
    suffix = template.encode_suffix(tokenizer)
    paper = encode_text(tokenizer, request.paper_text)
    room = _room(request, len(prefix) + len(suffix))
    token_ids = (*prefix, *paper[:room], *suffix)
    return Prompt(token_ids, len(token_ids), max(0, len(paper) - room))


def count_tokens(tokenizer: AnyTokenizer, request: ReviewRequest) -> PaperTokens:
    """Measure a paper as `build_prompt` would cut it, for a dry run; needs no torch."""
    prompt = build_prompt(tokenizer, request)
    frame = build_prompt(tokenizer, replace(request, paper_text=""))
    seen = prompt.n_prompt_tokens - frame.n_prompt_tokens
    return PaperTokens(seen + prompt.truncated_tokens, prompt.truncated_tokens)


def _room(request: ReviewRequest, n_frame_tokens: int) -> int:
    if n_frame_tokens > request.max_prompt_tokens:
        raise RequestRefused(
            f"the prompt needs {n_frame_tokens} tokens before any paper, but max_prompt_tokens is "
            f"{request.max_prompt_tokens}",
            kind="prompt_too_small",
        )
    return request.max_prompt_tokens - n_frame_tokens


def prompt_messages(request: ReviewRequest) -> list[Message]:
    """The request as chat messages; the server applies its own template and limits."""
    return [
        {"role": "system", "content": request.system},
        {"role": "user", "content": request.paper_text},
    ]
