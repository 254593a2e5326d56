"""Decides whether a loaded model can serve a request."""

from __future__ import annotations

from errors import RequestRefused
from models.text.generation import ReviewRequest
from models.text.prompt import Prompt, build_prompt
from models.weights.loading import LoadedModel


def admit(loaded: LoadedModel, request: ReviewRequest, max_tokens: int) -> Prompt:
    """Build the request's prompt.

    RequestRefused when its template is another (kind `template`), or when prompt and answer may
    take more than `max_tokens` (kind `too_long`).
    """
    if request.template != loaded.template.name:
        raise RequestRefused(
            f"the request wants template {request.template}, the engine has {loaded.template.name}",
            kind="template",
        )
    prompt = build_prompt(loaded.tokenizer, request)
    n_tokens = prompt.n_prompt_tokens + request.max_new_tokens
    if n_tokens > max_tokens:
        raise RequestRefused(
            f"prompt and answer may take {n_tokens} tokens, but the context holds {max_tokens}",
            kind="too_long",
        )
    return prompt
