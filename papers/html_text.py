"""Read the HTML within Markdown: what it shows as text, and what it hides."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, replace

from papers.colours import BLACK, WHITE, Colour, css_alpha, css_colour, shows
from papers.unseen import Unseen

#: Pixels; smaller text cannot be read on a screen at 100 %.
TINY_PX = 2.0
#: Pixels; a shift further than this leads off any window.
OFF_SCREEN_PX = 900.0
#: Opacity below which nothing can be read.
CLEAR = 0.06
#: Elements that are open at once; deeper nesting is no document.
MAX_DEPTH = 1_000
#: Marks lines of code, in which nothing is markup. Private use: it is removed from every paper.
CODE = "\ue0ff"

_VOID = frozenset(
    [
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
    ]
)
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hr",
        "html",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "tr",
        "ul",
        "caption",
    ]
)
_INLINE = frozenset(
    [
        "a",
        "abbr",
        "acronym",
        "b",
        "bdi",
        "bdo",
        "big",
        "cite",
        "code",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "ins",
        "kbd",
        "label",
        "mark",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "time",
        "tt",
        "u",
        "var",
        "td",
        "th",
        "button",
        "output",
    ]
)
_NEVER_SHOWN = frozenset(
    [
        "script",
        "template",
        "noscript",
        "head",
        "title",
        "object",
        "iframe",
        "datalist",
        "audio",
        "video",
        "canvas",
        "style",
        "textarea",
        "noembed",
        "noframes",
        "select",
        "option",
    ]
)
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_KNOWN = _VOID | _BLOCKS | _INLINE | _NEVER_SHOWN | frozenset(_HEADINGS)
#: Comments that converters of PDFs leave where they could not convert something.
_PLACEHOLDER = re.compile(
    r"\s*(?:(?:image|picture|figure|table|formula|chart|code|equation)(?:[ _-]?not[ _-]?decoded"
    r"|[ _-]?omitted|[ _-]?placeholder)?(?:[ :#]*[\w./-]{0,40})?"
    r"|(?:page|slide)[ _-]?(?:break|number|header|footer|start|end)?(?:\s*[:=#]?\s*[\"']?[^\"'<>\n]{0,90}[\"']?)?"  # noqa: E501
    r"|(?:start|end) of (?:picture|image|table|page)(?: text)?|toc|more|missing[ -]text"
    r"|(?:markdownlint|prettier|textlint|vale|omit|lint)[\w -]{0,60}|)\s*",
    re.I,
)
_TOKEN = re.compile(
    rf"(?P<code>{CODE}[^\n]*)|(?P<tick>`+)|(?P<comment><!--)"
    r"|<(?P<end>/?)(?P<name>[a-zA-Z][a-zA-Z0-9-]{0,20})"
    r"(?P<attributes>(?:[\s/](?:[^<>\"']|\"[^\"]*\"|'[^']*')*)?)>"
    r"|(?P<other><[!?][^<>\n]{0,2000}>)",
)
_ATTRIBUTE = re.compile(r"([a-zA-Z-]{1,40})(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'<>]+)))?")
_RULE = re.compile(r"([^{}]{1,200})\{([^{}]{0,1000})\}")
_LENGTH = re.compile(r"(-?\d*\.?\d+)\s*([a-z%]*)")


@dataclass(frozen=True)
class _Element:
    name: str
    reason: str = ""
    colour: Colour | None = BLACK
    ground: Colour | None = WHITE


def visible_text(text: str, unseen: Unseen) -> str:
    """The text without markup, and without what the markup hides, which `unseen` collects."""
    return _Reader(text, unseen).read()


class _Reader:
    def __init__(self, text: str, unseen: Unseen) -> None:
        self._text = text
        self._unseen = unseen
        self._parts: list[str] = []
        self._open = [_Element("")]
        self._hiding = _hiding_selectors(text)

    def read(self) -> str:
        position = 0
        while (found := _TOKEN.search(self._text, position)) is not None:
            self._put(html.unescape(self._text[position : found.start()]))
            position = self._token(found)
        self._put(html.unescape(self._text[position:]))
        return "".join(self._parts)

    def _token(self, found: re.Match[str]) -> int:
        """Handle one token; return where reading goes on."""
        if found["code"] is not None:
            self._put(found[0])
        elif found["tick"] is not None:
            return self._code_span(found)
        elif found["comment"] is not None:
            return self._comment(found.end())
        elif found["name"] is not None:
            name = found["name"].lower()
            if name not in _KNOWN or _is_comparison(name, found["attributes"]):
                self._put(found[0])
            elif found["end"]:
                self._close(name)
            else:
                self._start(name, found["attributes"])
        return found.end()

    def _put(self, text: str) -> None:
        element = self._open[-1]
        reason = element.reason
        if not reason and not shows(element.colour, element.ground):
            reason = "no contrast"
        if not reason:
            self._parts.append(text)
        elif element.name != "style":
            self._unseen.add(reason, text)

    def _code_span(self, found: re.Match[str]) -> int:
        """Code between backticks of one paragraph."""
        ticks = found["tick"]
        end = self._text.find(ticks, found.end(), found.end() + 2000)
        inside = self._text[found.end() : max(end, 0)]
        if end < 0 or "\n\n" in inside:
            self._put(ticks)
            return found.end()
        self._put(ticks + inside + ticks)
        return end + len(ticks)

    def _comment(self, start: int) -> int:
        end = self._text.find("-->", start)
        if end < 0:
            end = self._text.find("\n\n", start)
            end = len(self._text) if end < 0 else end
            after = end
        else:
            after = end + 3
        content = self._text[start:end]
        if not _PLACEHOLDER.fullmatch(content):
            self._unseen.add("comment", " " + content)
        self._parts.append(" ")
        return after

    def _start(self, name: str, source: str) -> None:
        if name == "tr":
            self._put("\n" + CODE)  # a cell that begins with # is no heading
        elif name in _BLOCKS:
            self._put("\n")
        elif name in _HEADINGS:
            self._put(f"\n\n{_HEADINGS[name]} ")
        elif name in ("br", "td", "th"):
            self._put(" ")
        if name in _VOID:
            return
        if len(self._open) < MAX_DEPTH:
            self._open.append(self._element(name, _attributes(source)))

    def _close(self, name: str) -> None:
        for depth in range(1, min(len(self._open), 50)):
            if self._open[-depth].name == name:
                del self._open[-depth:]
                break
        if name in _BLOCKS:
            self._put("\n")
        elif name in _HEADINGS:
            self._put("\n\n")

    def _element(self, name: str, attributes: dict[str, str]) -> _Element:
        outer = self._open[-1]
        element = replace(outer, name=name)
        if outer.reason == "in a closed part" and name == "summary":
            element = replace(element, reason="")
        style = attributes.get("style", "")
        for key in self._selectors(name, attributes):
            style = self._hiding.get(key, "") + ";" + style
        rules = _declarations(style)
        if name == "font" or "bgcolor" in attributes:
            rules = {**_presentation(attributes), **rules}
        ground = css_colour(rules.get("background-color", rules.get("background", "")))
        if "background" in rules or "background-color" in rules:
            element = replace(element, ground=ground)
        if "color" in rules:
            element = replace(element, colour=css_colour(rules["color"]) or None)
        reason = element.reason or _why_never_shown(name, attributes) or _why_hidden(rules)
        return replace(element, reason=reason)

    def _selectors(self, name: str, attributes: dict[str, str]) -> list[str]:
        if not self._hiding:
            return []
        classes = ["." + one for one in attributes.get("class", "").split()[:50]]
        return [name, *classes, "#" + attributes.get("id", "")]


def _is_comparison(name: str, attributes: str) -> bool:
    """Is this "a <b and c> d", and not an element of one letter?"""
    words = attributes.strip(" /\n\t")
    return len(name) == 1 and bool(words) and "=" not in words and words.lower() != "hidden"


def _attributes(source: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(source):
        value = match[2] if match[2] is not None else match[3] or match[4] or ""
        found.setdefault(match[1].lower(), html.unescape(value))
    return found


def _hiding_selectors(text: str) -> dict[str, str]:
    """The rules of the text's own style sheets, by selectors of one name."""
    rules: dict[str, str] = {}
    for sheet in re.findall(r"<style\b[^<>]{0,200}>([^<]{0,20000})", text, re.I)[:20]:
        for selectors, style in _RULE.findall(sheet):
            for selector in selectors.split(","):
                name = re.sub(r"^[a-z0-9]+(?=[.#])", "", selector.strip())
                if re.fullmatch(r"[.#]?[\w-]+", name):
                    rules[name] = rules.get(name, "") + ";" + style
    return rules


def _declarations(style: str) -> dict[str, str]:
    style = re.sub(r"/\*.*?\*/", "", style[:20_000], flags=re.S)
    pairs = (one.partition(":") for one in style.split(";"))
    return {
        name.strip().lower(): value.replace("!important", "").strip().lower()
        for name, _, value in pairs
    }


def _presentation(attributes: dict[str, str]) -> dict[str, str]:
    names = {"color": "color", "bgcolor": "background-color"}
    return {rule: attributes[name] for name, rule in names.items() if name in attributes}


def _why_never_shown(name: str, attributes: dict[str, str]) -> str:
    if name in _NEVER_SHOWN:
        return f"in <{name}>"
    if name in ("details", "dialog") and "open" not in attributes:
        return "in a closed part"
    return "hidden attribute" if "hidden" in attributes else ""


def _why_hidden(rules: dict[str, str]) -> str:
    """The declaration of a style that hides an element's text."""
    if rules.get("display") == "none" or rules.get("content-visibility") == "hidden":
        return "display: none"
    if rules.get("visibility") in ("hidden", "collapse"):
        return "visibility: hidden"
    if _number(rules.get("opacity", "")) < CLEAR or "opacity(0" in rules.get("filter", ""):
        return "transparent"
    fill = rules.get("-webkit-text-fill-color", "")
    if css_alpha(rules.get("color", "")) < CLEAR or (fill and css_alpha(fill) < CLEAR):
        return "transparent"
    if _is_tiny(rules):
        return "tiny"
    if _is_off_screen(rules):
        return "off the page"
    return "without size" if _has_no_size(rules) else ""


def _is_tiny(rules: dict[str, str]) -> bool:
    size = rules.get("font-size", "")
    if not size and "font" in rules:
        found = re.search(r"-?\d*\.?\d+(?:px|pt|r?em|%|mm)", rules["font"])
        size = found[0] if found else ""
    return _pixels(size, default=16.0) < TINY_PX


def _is_off_screen(rules: dict[str, str]) -> bool:
    moved = [
        rules.get("text-indent", ""),
        rules.get("margin-left", ""),
        rules.get("margin-top", ""),
    ]
    if rules.get("position") in ("absolute", "fixed", "relative"):
        moved += [rules.get(side, "") for side in ("left", "top", "right", "bottom")]
    moved += re.findall(r"translate[xy3d]*\(([^,()]+)", rules.get("transform", ""))
    return any(abs(_pixels(one, default=0.0)) > OFF_SCREEN_PX for one in moved)


def _has_no_size(rules: dict[str, str]) -> bool:
    if re.search(r"scale[xy]?\(\s*0?\.?0*\s*[,)]", rules.get("transform", "")):
        return True
    clip = rules.get("clip-path", "")
    if re.search(r"inset\(\s*(?:[5-9]\d|100)%|circle\(\s*0", clip):
        return True
    if re.search(r"rect\(\s*(?:0|1px)[\s,]", rules.get("clip", "")):
        return True
    sides = [rules.get(name, "") for name in ("width", "height", "max-width", "max-height")]
    cut = rules.get("overflow", rules.get("overflow-y", "")) in ("hidden", "clip")
    return cut and any(_pixels(side, default=100.0) <= 1 for side in sides)


def _number(text: str) -> float:
    found = _LENGTH.match(text)
    return 1.0 if found is None else float(found[1]) / (100 if found[2] == "%" else 1)


def _pixels(text: str, *, default: float) -> float:
    found = _LENGTH.match(text.strip())
    if found is None:
        return default
    units = {"em": 16, "rem": 16, "ex": 8, "pt": 1.33, "cm": 37.8, "mm": 3.78, "in": 96, "%": 0.16}
    units |= {"vw": 12, "vh": 8, "ch": 8, "pc": 16}
    return float(found[1]) * units.get(found[2], 1)
