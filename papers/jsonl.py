"""Read a `Paper` from a JSON object: Referee's own lines and OpenAI Batch lines.

Referee's: `custom_id` or `id`, `title`, `abstract`, and `text`, or `sections` as a list of
`{"heading", "text", "kind"}` where kind is body, references, acknowledgments or appendix.
OpenAI's: `{"custom_id", "method", "url", "body": {"messages": [...]}}`; the last user message is
the paper.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from errors import PaperUnreadable
from papers.markdown import is_markdown, read_markdown
from papers.outline import paper_from_blocks
from papers.paper import Paper, Section
from papers.plain_text import read_text
from papers.sections import SectionKind


def parse_line(line: bytes) -> dict[str, Any]:
    """The JSON object in a line. Raises PaperUnreadable with kind bad_json."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PaperUnreadable("The line is not JSON.", kind="bad_json") from error
    if not isinstance(value, dict):
        raise PaperUnreadable("The line is JSON but not an object.", kind="bad_json")
    return value


def custom_id(value: Mapping[str, Any]) -> str | None:
    """The object's name, if it has one."""
    for key in ("custom_id", "id"):
        name = value.get(key)
        if isinstance(name, str | int) and not isinstance(name, bool) and str(name).strip():
            return str(name).strip()
    return None


def read_json(value: Mapping[str, Any]) -> Paper:
    """Read a paper. Raises PaperUnreadable with kind bad_json or empty."""
    if isinstance(value.get("body"), dict):
        return _read_any(_last_user_message(value["body"]))
    title, abstract = _string(value, "title"), _string(value, "abstract")
    if value.get("sections") is not None:
        return paper_from_blocks(title, _sections(value["sections"]), abstract=abstract)
    text = _string(value, "text")
    if not text.strip() and not abstract.strip():
        sentence = "The line has neither text nor sections nor an abstract."
        raise PaperUnreadable(sentence, kind="empty")
    if not title and not abstract:
        return _read_any(text)
    found = _read_any(f"{title}\n\n{_without_title(text, title)}") if text.strip() else None
    return paper_from_blocks(
        title or (found.title if found else ""),
        found.sections if found else (),
        abstract=abstract or (found.abstract if found else ""),
        captions=found.captions if found else (),
        flags=found.flags if found else (),
    )


def _read_any(text: str) -> Paper:
    return read_markdown(text) if is_markdown(text) else read_text(text)


def _without_title(text: str, title: str) -> str:
    """The text without a first line that repeats the title."""
    first, _, rest = text.lstrip().partition("\n")
    return rest if _alphanumeric(first) == _alphanumeric(title) else text


def _alphanumeric(text: str) -> str:
    return "".join(filter(str.isalnum, text)).lower()


def _string(value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise PaperUnreadable(f'"{key}" is not a string.', kind="bad_json")
    return text


def _sections(value: object) -> list[Section]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise PaperUnreadable('"sections" is not a list of objects.', kind="bad_json")
    return [
        Section(_string(one, "heading"), _string(one, "text"))
        for one in value
        if one.get("kind", SectionKind.BODY.value) == SectionKind.BODY.value
    ]


def _last_user_message(body: Mapping[str, Any]) -> str:
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise PaperUnreadable('"body" has no list of messages.', kind="bad_json")
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return _content(message.get("content"))
    raise PaperUnreadable("The request has no user message.", kind="bad_json")


def _content(content: object) -> str:
    """A message's text: a string, or the text parts of OpenAI's list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(text for text in texts if isinstance(text, str))
    raise PaperUnreadable("The user message has no text.", kind="bad_json")
