"""Parts of requests that many tests build."""

from __future__ import annotations

from dataclasses import replace

from models.text.generation import GenerationRequest, Message


def chat(system: str = "", text: str = "") -> tuple[Message, ...]:
    """A system message and a user message."""
    return (Message("system", system), Message("user", text))


def with_text(request: GenerationRequest, text: str) -> GenerationRequest:
    """The request with another last message."""
    *others, last = request.messages
    return replace(request, messages=(*others, last._replace(content=text)))
