"""Decides whether a loaded model can serve a request."""

from __future__ import annotations

from errors import RequestRefused
from models.text.generation import GenerationRequest
from models.text.prompt import Prompt, build_prompt
from models.weights.loading import LoadedModel


def admit(loaded: LoadedModel, request: GenerationRequest, max_tokens: int) -> Prompt:
    """Build the request's prompt.

    RequestRefused when it needs another template (kind `template`) or a JSON answer (kind
    `unsupported`), or when prompt and answer may take more than `max_tokens` (kind `too_long`).
    """
    if request.template not in (None, loaded.template.name):
        raise RequestRefused(
            f"the request wants template {request.template}, the engine has {loaded.template.name}",
            kind="template",
        )
    if request.json_schema is not None:
        raise RequestRefused("a local model cannot follow a JSON schema", kind="unsupported")
    prompt = build_prompt(loaded.tokenizer, request, loaded.template)
    n_tokens = prompt.n_prompt_tokens + request.max_new_tokens
    if n_tokens > max_tokens:
        raise RequestRefused(
            f"prompt and answer may take {n_tokens} tokens, but the context holds {max_tokens}",
            kind="too_long",
        )
    return prompt
