"""Read a `Paper` from Markdown: `#` headings, underlined headings, bold lines.

Fenced code is text. Front matter gives title and abstract. HTML that a browser would not show is
left out and flagged, as are comments, link definitions that serve as comments, and tooltips.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from papers.encoding import with_newlines
from papers.html_text import CODE, visible_text
from papers.outline import paper_from_blocks
from papers.paper import Flag, Paper, Section
from papers.plain_text import blocks, plain_heading, read_text, split_title
from papers.printed_text import without_binary, without_placeholders
from papers.sections import is_named
from papers.unseen import Unseen

#: A paper with fewer marked headings is assumed to have unmarked ones.
FEW_HEADINGS = 3
#: Characters; a longer line is not a heading.
HEADING_CHARS = 300
#: Characters of YAML that are read; longer front matter is no description of a paper.
MAX_FRONT_MATTER = 64 * 2**10
#: Words; a link's title of fewer names a page.
TOOLTIP_WORDS = 5

_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(\S[^\n]*)")
_BOLD = re.compile(r"(?:\*\*|__)([^*_]{3,80})(?:\*\*|__)")
_UNDERLINE = re.compile(r"(=|-){3,}\s*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^\n]*)")
_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_FIELD = re.compile(r"^[\w-]{1,60}:(?:\s|$)", re.M)
_TITLE = (
    r"(?:\s+(?:\"(?P<t1>[^\"\n]{0,1000})\"|'(?P<t2>[^'\n]{0,1000})'|\((?P<t3>[^()\n]{0,1000})\)))?"
)
_DESTINATION = r"(?:<[^<>\n]{0,2000}>|[^()\s<]*(?:\([^()\s]{0,500}\)[^()\s]{0,500}){0,3})"
_IMAGE = re.compile(
    r"(?<!\\)!\[(?P<text>(?:[^\[\]\\\n]|\\[^\n]){0,2000})\]\(\s{0,9}"
    + _DESTINATION
    + _TITLE
    + r"\s{0,9}\)"
)
_LINK = re.compile(
    r"(?<!\\)\[(?P<text>(?:[^\[\]\\\n]|\\[^\n]){1,500})\]\((?=https?:|#|mailto:|/|\.|doi|<)"
    + _DESTINATION
    + _TITLE
    + r"\s{0,9}\)"
)
_DEFINITION = re.compile(
    r"^ {0,3}\[(?P<label>[^\[\]\n]{1,200})\]:[ \t]*(?P<to><[^<>\n]{0,2000}>|[^\s()]\S{0,2000})"
    r"(?:[ \t]+(?:\"(?P<t1>[^\"\n]{0,4000})\"|'(?P<t2>[^'\n]{0,4000})'|\((?P<t3>[^\n]{0,4000})\)))?"
    r"[ \t]*$",
    re.M,
)
#: What converters write for want of a caption.
_FILE_NAME = re.compile(
    r"(?:image|picture|figure|img|[\w-]+\.(?:png|jpe?g|gif|svg|pdf|webp))", re.I
)
_NOTE = re.compile(r"^ {0,3}\[\^(?P<label>[^\[\]\s]{1,80})\]:(?P<text>[^\n]*)", re.M)
_LEAD_IN = re.compile(
    r"^[*_]{1,3}(abstract)[*_]{0,3}\s{0,3}([.:—–-]{0,3})\s{0,3}[*_]{0,3}\s{0,3}[.:—–-]{0,3}[ \t]*(.*)$",  # noqa: E501
    re.I | re.M,
)
_EMPHASIS = re.compile(r"\*{1,3}|(?<!\w)_{1,3}(?=\S)|(?<=\S)_{1,3}(?!\w)")
_ESCAPED = re.compile(r"\\([\[\]])")


@dataclass(frozen=True)
class _FrontMatter:
    title: str = ""
    abstract: str = ""


def is_markdown(text: str) -> bool:
    """Does the text have Markdown headings?"""
    return re.search(r"^#{1,6}[ \t]+\S", text, re.M) is not None


def read_markdown(text: str, flags: Sequence[Flag] = ()) -> Paper:
    """Read Markdown. Raises PaperUnreadable (empty)."""
    if text.lstrip().startswith("[TITLE]"):
        return read_text(text, flags)
    front, text = _front_matter(without_binary(with_newlines(text).replace(CODE, "")))
    unseen = Unseen()
    text = visible_text(_marked_code(text), unseen)
    text = _plain(text, unseen)
    lines = _joined_underlines(without_placeholders(text).split("\n"))
    marked = sum(_heading(line, "") is not None for line in lines)
    found = blocks(lines, _heading if marked >= FEW_HEADINGS else _any_heading)
    title, found = ("", found) if front.title else _title(found)
    return paper_from_blocks(
        front.title or _without_emphasis(title),
        [Section(one.heading, _without_code_marks(one.text)) for one in found],
        abstract=front.abstract,
        flags=[*flags, *unseen.flags()],
    )


def _front_matter(text: str) -> tuple[_FrontMatter, str]:
    """Title and abstract of the YAML before a text, and the text."""
    start = text.lstrip("\ufeff \n")
    found = _FRONT_MATTER.match(start[: MAX_FRONT_MATTER + 10])
    if found is None or not _FIELD.search(found[1]):
        return _FrontMatter(), text
    import yaml  # only for the files that have any

    try:
        value = yaml.load(found[1], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        value = _loose_fields(found[1])
    fields = value if isinstance(value, dict) else {}
    return _FrontMatter(_string(fields, "title"), _string(fields, "abstract")), start[found.end() :]


def _loose_fields(source: str) -> dict[str, str]:
    """Fields of one line, of front matter that is not YAML: `title: On A: a study`."""
    return dict(re.findall(r"^([\w-]{1,60}):[ \t]*[\"']?(.{0,2000}?)[\"']?[ \t]*$", source, re.M))


def _string(fields: dict[object, object], name: str) -> str:
    for key, value in fields.items():
        if str(key).lower() == name and isinstance(value, str | int | float):
            return str(value).strip()
    return ""


def _marked_code(text: str) -> str:
    """The text with a mark before the lines of fenced code, and without the fences.

    A fence that is not closed is left out: it would make code of the rest of the paper. So is one
    that is followed by a fence with a language, which opens code and cannot close any.
    """
    lines = text.split("\n")
    fences = [_FENCE.fullmatch(line) for line in lines]
    longest = {"`": 0, "~": 0}
    later: list[dict[str, int]] = []
    for fence in reversed(fences):
        later.append(dict(longest) if fence else {})
        if fence and not fence[2].strip():
            longest[fence[1][0]] = max(longest[fence[1][0]], len(fence[1]))
    later.reverse()
    kept: list[str] = []
    opening, started = "", 0
    for line, fence, after in zip(lines, fences, later, strict=True):
        if opening:
            if fence and fence[1].startswith(opening) and not fence[2].strip():
                opening = ""
            elif fence and fence[1].startswith(opening) and after[fence[1][0]] >= len(fence[1]):
                kept[started:] = [one.removeprefix(CODE) for one in kept[started:]]
                opening, started = fence[1], len(kept)
            else:
                kept.append(CODE + line)
        elif fence and not (fence[1][0] == "`" and "`" in fence[2]):
            if after[fence[1][0]] >= len(fence[1]):
                opening, started = fence[1], len(kept)
        else:
            kept.append(line)
    return "\n".join(kept)


def _without_code_marks(text: str) -> str:
    return text.replace(CODE, "")


def _plain(text: str, unseen: Unseen) -> str:
    text = _without_definitions(text, unseen)
    text = _IMAGE.sub(lambda found: _image(found, text, unseen), text)
    text = _LINK.sub(lambda found: _link(found, unseen), text)
    return _LEAD_IN.sub(_abstract_line, text)


def _without_definitions(text: str, unseen: Unseen) -> str:
    """The text without definitions of links, and without notes that it does not refer to."""
    used = set(re.findall(r"\[\^([^\[\]\s]{1,80})\](?!:)", text))

    def note(found: re.Match[str]) -> str:
        if found["label"] in used:
            return found["text"].strip()
        unseen.add("note without a reference", found["text"])
        return ""

    def definition(found: re.Match[str]) -> str:
        title = found["t1"] or found["t2"] or found["t3"] or ""
        is_comment = found["to"] in ("#", "<>") or found["label"] in ("//", "comment")
        if is_comment or len(title.split()) >= TOOLTIP_WORDS:
            unseen.add("comment" if is_comment else "tooltip", " " + title)
        return ""

    return _DEFINITION.sub(definition, _NOTE.sub(note, text))


def _image(found: re.Match[str], text: str, unseen: Unseen) -> str:
    """The caption of an image that stands alone; elsewhere its words are not shown."""
    _tooltip(found, unseen)
    before = text[max(0, found.start() - 200) : found.start()].rpartition("\n")[2]
    after = text[found.end() : found.end() + 200].partition("\n")[0]
    if not before.strip() and not after.strip():
        return "" if _FILE_NAME.fullmatch(found["text"]) else found["text"]
    unseen.add("in place of an image", " " + found["text"])
    return " "


def _link(found: re.Match[str], unseen: Unseen) -> str:
    _tooltip(found, unseen)
    return _ESCAPED.sub(r"\1", found["text"])


def _tooltip(found: re.Match[str], unseen: Unseen) -> None:
    title = found["t1"] or found["t2"] or found["t3"] or ""
    if len(title.split()) >= TOOLTIP_WORDS:
        unseen.add("tooltip", " " + title)


def _abstract_line(found: re.Match[str]) -> str:
    text = found[3].rstrip()
    if text.count("*") % 2 == 1 or text.endswith(("**", "__")):
        text = text.rstrip("*_")
    return f"{found[1]}: {text}" if text else found[1]


def _joined_underlines(lines: Sequence[str]) -> list[str]:
    """Convert headings that are underlined with === or --- to headings with #."""
    joined: list[str] = []
    for line in lines:
        above = joined[-1] if joined else ""
        if (
            _UNDERLINE.fullmatch(line)
            and 0 < len(above.strip()) < 120
            and not above.startswith((CODE, "|"))
        ):
            joined[-1] = "# " + above.strip().lstrip("# ")
        else:
            joined.append(line)
    return joined


def _heading(line: str, before: str) -> str | None:
    if len(line) > HEADING_CHARS or line.startswith(CODE):
        return None
    mark = _HEADING.fullmatch(line)
    if mark:
        return _without_emphasis(mark[1].strip().rstrip("#"))
    bold = _BOLD.fullmatch(line.strip())
    if bold and is_named(bold[1].strip()):
        return bold[1].strip()
    return None


def _without_emphasis(text: str) -> str:
    if "$" in text or "\\(" in text:
        return text.strip("* _")
    return " ".join(_EMPHASIS.sub("", text).split())


def _any_heading(line: str, before: str) -> str | None:
    """Recognise plain headings too: PDF converters mark only the title."""
    if line.startswith(CODE):
        return None
    return _heading(line, before) or plain_heading(line, before)


def _title(found: list[Section]) -> tuple[str, list[Section]]:
    """The first heading is the title, with headings that follow it without text between."""
    if found[0].text:
        title, rest = split_title(found[0].text)
        return title, [Section("", rest), *found[1:]]
    if len(found) == 1:
        return "", found
    first = found[1]
    if is_named(first.heading):
        return "", found[1:]
    return first.heading, [Section("", first.text), *found[2:]]
