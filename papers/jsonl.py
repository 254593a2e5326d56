"""Read a `Paper` from a JSON object: Referee's own lines, OpenAI Batch lines, parsers' output.

Referee's: `custom_id` or `id`, `title`, `abstract`, and `text`, or `sections` as a list of
`{"heading", "text", "kind"}` where kind is body, references, acknowledgments or appendix.
OpenAI's: `{"custom_id", "method", "url", "body": {"messages": [...]}}`; the last user message is
the paper. Parsers': doc2json and S2ORC (`pdf_parse.body_text`), CORD-19 (`metadata`, `body_text`),
science-parse and PeerRead (`metadata.sections`), and the names in `TEXT_FIELDS`. A line whose text
stands under other names is refused with these names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from errors import PaperUnreadable
from papers.encoding import decode_line
from papers.markdown import is_markdown, read_markdown
from papers.outline import paper_from_blocks
from papers.paper import Paper, Section
from papers.plain_text import read_text
from papers.sections import SectionKind

#: Fields that hold a paper's whole text, a string or a list of paragraphs, in this order.
TEXT_FIELDS = (
    "text",
    "full_text",
    "fulltext",
    "fullText",
    "paper_text",
    "article_text",
    "main_text",
    "body",
    "markdown",
    "md",
    "content",
    "raw_text",
    "article",
    "paper",
    "paragraphs",
    "body_markdown",
)
#: Fields that hold the sections of a paper.
SECTION_FIELDS = ("sections", "body_text")
#: Objects within a line that hold its paper, or part of it.
INNER_FIELDS = ("pdf_parse", "latex_parse", "grobid_parse", "metadata", "content", "paper")
#: Words in fields of other names from which on a line without a text is not an abstract alone.
UNKNOWN_WORDS = 20
#: Levels of lists and objects that are searched for such words.
MAX_NESTING = 8
#: Fields about a paper, with whatever they hold.
_ABOUT = frozenset(
    [
        "custom_id",
        "id",
        "paper_id",
        "title",
        "abstract",
        "abstractText",
        "authors",
        "author",
        "venue",
        "year",
        "decision",
        "keywords",
        "url",
        "doi",
        "metadata",
        "header",
        "references",
        "bib_entries",
        "ref_entries",
        "back_matter",
        "authorids",
        "tldr",
        "TLDR",
        "categories",
        "subjects",
        "license",
        "reviews",
        "pdf",
        "openreview_id",
        "split",
        "ratings",
        "comments",
    ]
)


def parse_line(line: bytes) -> dict[str, Any]:
    """The JSON object in a line. Raises PaperUnreadable with kind bad_json."""
    return _object(decode_line(line)[0])


def read_line(line: bytes) -> Paper:
    """Read the paper in a line. Raises PaperUnreadable."""
    text, flags = decode_line(line)
    paper = read_json(_object(text))
    return replace(paper, flags=(*flags, *paper.flags)) if flags else paper


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PaperUnreadable("The line is not JSON.", kind="bad_json") from error
    if not isinstance(value, dict):
        raise PaperUnreadable("The line is JSON but not an object.", kind="bad_json")
    return value


def custom_id(value: Mapping[str, Any]) -> str | None:
    """The object's name, if it has one."""
    for key in ("custom_id", "id", "paper_id"):
        name = value.get(key)
        if isinstance(name, str | int) and not isinstance(name, bool) and str(name).strip():
            return str(name).strip()
    return None


def read_json(value: Mapping[str, Any]) -> Paper:
    """Read a paper. Raises PaperUnreadable with kind bad_json or empty."""
    if isinstance(value.get("body"), dict):
        return _read_any(_last_user_message(value["body"]))
    levels = [value, *_inner(value)]
    title = _first(levels, ("title",))
    abstract = _first(levels, ("abstract", "abstractText"))
    for level in levels:
        for name in SECTION_FIELDS:
            if level.get(name) is not None:
                sections = _sections(name, level[name])
                return paper_from_blocks(title, sections, abstract=abstract)
    text = _first(levels, TEXT_FIELDS)
    if not text.strip():
        _refuse_unknown_text(value)
    if not text.strip() and not abstract.strip():
        sentence = "The line has neither text nor sections nor an abstract."
        raise PaperUnreadable(sentence, kind="empty")
    if not title and not abstract:
        return _read_any(text)
    if not text.strip():
        return paper_from_blocks(title, (), abstract=abstract)
    text = _without_title(text, title)
    mark = "# " if title and is_markdown(text) else ""
    found = _read_any(f"{mark}{title}\n\n{text}")
    return _with_given(found, title, abstract)


def _with_given(found: Paper, title: str, abstract: str) -> Paper:
    """The paper in a text, with the title and abstract that its line gives."""
    return paper_from_blocks(
        title or found.title,
        found.sections,
        abstract=abstract or found.abstract,
        captions=found.captions,
        flags=[flag for flag in found.flags if flag.kind not in ("abstract_only", "not_a_paper")],
    )


def _inner(value: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The objects within a line that may hold parts of its paper."""
    for name in INNER_FIELDS:
        inner = value.get(name)
        if isinstance(inner, dict):
            yield inner


def _first(levels: list[Mapping[str, Any]], names: tuple[str, ...]) -> str:
    """The first of these fields that has text, in any of the objects."""
    for level in levels:
        for name in names:
            text = _text(level.get(name), name)
            if text.strip():
                return text
    return ""


def _text(value: object, name: str) -> str:
    """A field's text: a string, a list of paragraphs, or OpenReview's `{"value": ...}`."""
    if value is None or (isinstance(value, dict) and "value" not in value):
        return ""
    if isinstance(value, dict):
        return _text(value["value"], name)
    if isinstance(value, list):
        parts = [one.get("text") if isinstance(one, dict) else one for one in value]
        return "\n\n".join(part for part in parts if isinstance(part, str))
    if not isinstance(value, str):
        raise PaperUnreadable(f'"{name}" is not a string.', kind="bad_json")
    return value


def _refuse_unknown_text(value: Mapping[str, Any]) -> None:
    """Refuse a line that has its text under names that are not known."""
    names = [
        name
        for name, field in value.items()
        if name not in _ABOUT and name not in TEXT_FIELDS and _n_words(field) >= UNKNOWN_WORDS
    ]
    if names:
        listed = ", ".join(json.dumps(name) for name in names[:5])
        sentence = f'The line has no text that Referee knows: it is under {listed}; name it "text".'
        raise PaperUnreadable(sentence, kind="empty")


def _n_words(value: object, depth: int = MAX_NESTING) -> int:
    if isinstance(value, str):
        return len(value.split())
    if depth == 0 or not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return sum(_n_words(one, depth - 1) for one in inner)


def _read_any(text: str) -> Paper:
    return read_markdown(text) if is_markdown(text) else read_text(text)


def _without_title(text: str, title: str) -> str:
    """The text without a first line that repeats the title."""
    first, _, rest = text.lstrip().partition("\n")
    return rest if _alphanumeric(first) == _alphanumeric(title) else text


def _alphanumeric(text: str) -> str:
    return "".join(filter(str.isalnum, text)).lower()


def _sections(name: str, value: object) -> list[Section]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise PaperUnreadable(f'"{name}" is not a list of objects.', kind="bad_json")
    found: list[Section] = []
    for one in value:
        if one.get("kind", SectionKind.BODY.value) != SectionKind.BODY.value:
            continue
        heading = _first([one], ("heading", "section", "title", "name", "section_title"))
        number = one.get("sec_num")
        if isinstance(number, str) and number.strip() and heading:
            heading = f"{number.strip()} {heading}"
        text = _first([one], ("text", "content", "paragraphs", "body"))
        if found and heading and found[-1].heading == heading:
            found[-1] = Section(heading, f"{found[-1].text}\n{text}")  # one object a paragraph
        else:
            found.append(Section(heading, text))
    return found


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
