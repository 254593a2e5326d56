"""Builds the prompt that a local model reads, cut to its limit.

The limit counts the whole prompt: system prompt, template, text and suffix. Only the tail of the
text is cut. The parts are tokenised separately, so the cut is exact and no part of the text can
become a special token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from errors import RequestRefused
from models.text.generation import GenerationRequest
from models.text.templates import AnyTokenizer, Template, encode_text


@dataclass(frozen=True)
class Prompt:
    """Token ids of a prompt, and how many tokens were cut from the tail of its text."""

    token_ids: tuple[int, ...]
    n_prompt_tokens: int
    truncated_tokens: int


class PaperTokens(NamedTuple):
    """Length of a whole paper and of the part that a reviewer would not see, in tokens."""

    n_tokens: int
    truncated_tokens: int


def build_prompt(tokenizer: AnyTokenizer, request: GenerationRequest, template: Template) -> Prompt:
    """Tokenise `request` within `max_prompt_tokens`.

    RequestRefused (kind `prompt_too_small`) when not even an empty text fits, or a tokenised prompt
    is too long; kind `messages` when the template cannot express them.
    """
    if request.token_ids:
        n_tokens = len(request.token_ids)
        if n_tokens > request.max_prompt_tokens:
            raise RequestRefused(
                f"the prompt has {n_tokens} tokens, but max_prompt_tokens is "
                f"{request.max_prompt_tokens}",
                kind="prompt_too_small",
            )
        return Prompt(request.token_ids, n_tokens, 0)
    if [message.role for message in request.messages] != ["system", "user"]:
        raise RequestRefused(
            "a local model takes one system message followed by one user message", kind="messages"
        )
    system, user = request.messages
    prefix = template.encode_prefix(tokenizer, system.content)
    suffix = template.encode_suffix(tokenizer)
    text = encode_text(tokenizer, user.content)
    room = _room(request, len(prefix) + len(suffix))
    token_ids = (*prefix, *text[:room], *suffix)
    return Prompt(token_ids, len(token_ids), max(0, len(text) - room))


def count_tokens(
    tokenizer: AnyTokenizer, request: GenerationRequest, template: Template
) -> PaperTokens:
    """Measure a paper as `build_prompt` would cut it, for a dry run; needs no torch."""
    prompt = build_prompt(tokenizer, request, template)
    *others, user = request.messages
    empty = replace(request, messages=(*others, user._replace(content="")))
    seen = prompt.n_prompt_tokens - build_prompt(tokenizer, empty, template).n_prompt_tokens
    return PaperTokens(seen + prompt.truncated_tokens, prompt.truncated_tokens)


def _room(request: GenerationRequest, n_frame_tokens: int) -> int:
    if n_frame_tokens > request.max_prompt_tokens:
        raise RequestRefused(
            f"the prompt needs {n_frame_tokens} tokens before any paper, but max_prompt_tokens is "
            f"{request.max_prompt_tokens}",
            kind="prompt_too_small",
        )
    return request.max_prompt_tokens - n_frame_tokens
