"""Aspect sets: the headings of a review, and the system prompt that asks for them.

A set is a YAML file. Those of the recipe are in configs/aspects; a site's own are in `aspects` in
Referee's home folder, and are read again when they change.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from errors import UserError, first_problem
from resources import package_folder
from settings import get_settings

#: Stands in an aspect that has nothing to say; the whole line is EMPTY_MARKER + " -".
EMPTY_MARKER = "<No related terms>"
EMPTY_LINE = EMPTY_MARKER + " -"

#: What a point of a human review is about; configs/merging/subjects.yaml has the words for each.
Topic = Literal[
    "idea", "novelty", "experiments", "clarity", "soundness", "minor", "limits", "other"
]
#: Which part of a human review a text is in.
PartKind = Literal["summary", "praise", "criticism", "request", "limits", "minor", "free"]

_FOLDER = package_folder("configs") / "aspects"
_STRICT = ConfigDict(extra="forbid", strict=True)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,31}")
#: Characters that mark headings and items in an answer.
_MARKS = frozenset("[]<>*#")
#: The parser takes the number off "2. Novelty".
_NUMBERED = re.compile(r"\d{1,2} ")
#: Characters of a heading; the parser looks no further than 250, decoration included.
_LONGEST_HEADING = 200
_NOT_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Aspect:
    """One criterion of a review.

    `key` names it in the database, `heading` in prompts and answers, `label` in tables and charts.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    key: str
    heading: str
    label: str = ""
    #: What an aspect holds: a list of titled items.
    kind: str = "items"

    @property
    def short_name(self) -> str:
        """The label, or the heading if there is none."""
        return self.label or self.heading


@dataclass(frozen=True)
class PointFilter:
    """Selects points of human reviews. An empty list does not restrict."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    topics: tuple[Topic, ...] = ()
    stances: tuple[Literal["praise", "criticism", "request"], ...] = ()
    parts: tuple[PartKind, ...] = ()
    except_parts: tuple[PartKind, ...] = ()

    def accepts(self, topic: Topic, stance: str, part: PartKind) -> bool:
        """Does a point of this topic and stance, from this part of a review, fit?"""
        return (
            (not self.topics or topic in self.topics)
            and (not self.stances or stance in self.stances)
            and (not self.parts or part in self.parts)
            and part not in self.except_parts
        )


@dataclass(frozen=True)
class MergeRule:
    """Which points of human reviews belong to an aspect when they are merged without a model."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    aspect: str
    #: A point belongs here when one of these accepts it.
    any: tuple[PointFilter, ...]
    #: Most aspects of the line's public data hold two items.
    max_items: int = 2


@dataclass(frozen=True)
class AspectSet:
    """The criteria of a review, in order, and the system prompt that asks for them."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    aspects: tuple[Aspect, ...]
    system_prompt: str
    #: In the order in which aspects choose points; empty: the set needs a model to merge.
    merging: tuple[MergeRule, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The aspects' keys in order."""
        return tuple(aspect.key for aspect in self.aspects)

    @property
    def headings(self) -> dict[str, str]:
        """Heading by key, in order."""
        return {aspect.key: aspect.heading for aspect in self.aspects}

    @property
    def labels(self) -> dict[str, str]:
        """Short name by key, in order."""
        return {aspect.key: aspect.short_name for aspect in self.aspects}

    @property
    def sha256(self) -> str:
        """Hash of everything in the set."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def normalise(text: str) -> str:
    """Words in lower case with single spaces, without decoration or punctuation."""
    return _NOT_WORD.sub(" ", text).strip().casefold()


def aspect_sets() -> Mapping[str, AspectSet]:
    """Every aspect set by name: the recipe's two, then the site's own.

    UserError, naming file and key, for a file that is not an aspect set.
    """
    return SHIPPED | _load_all(_stamps(get_settings().home / "aspects"))


def find_aspect_set(name: object) -> AspectSet | None:
    """The set of this name, for a review whose set may be gone by now; None when there is none."""
    return aspect_sets().get(name) if isinstance(name, str) else None


def load_aspect_set(path: Path) -> AspectSet:
    """Read an aspect set. UserError, naming file and key, for whatever is wrong with it."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the aspect set {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        aspects = _adapter().validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}") from error
    for key, problem in _problems(aspects, path.stem):
        raise UserError(f"{path}: {key}: {problem}")
    return aspects


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[AspectSet]:
    return TypeAdapter(AspectSet)


_Stamp = tuple[Path, int, int]


def _stamps(folder: Path) -> tuple[_Stamp, ...]:
    """The folder's files with what changes when they do."""
    found = [(path, path.stat()) for path in sorted(folder.glob("*.yaml"))]
    return tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in found)


@lru_cache(maxsize=8)
def _load_all(stamps: tuple[_Stamp, ...]) -> dict[str, AspectSet]:
    found = [load_aspect_set(path) for path, _, _ in stamps]
    for aspects, (path, _, _) in zip(found, stamps, strict=True):
        if aspects.name in SHIPPED:
            raise UserError(f"{path}: name: {aspects.name} is a set that comes with Referee")
    return {aspects.name: aspects for aspects in found}


def _problems(aspects: AspectSet, stem: str) -> list[tuple[str, str]]:
    """What types alone cannot express, as (key, sentence)."""
    ruled = [rule.aspect for rule in aspects.merging]
    rules = [
        (
            "name",
            _NAME.fullmatch(aspects.name) is not None,
            "must be at most 32 lower-case letters, digits, hyphens and underscores",
        ),
        ("name", aspects.name == stem, f"must be the file's name, {stem}"),
        ("system_prompt", bool(aspects.system_prompt.strip()), "must not be empty"),
        ("aspects", bool(aspects.aspects), "a set needs at least one aspect"),
        *_aspect_rules(aspects),
        *((f"merging.{key}", key in aspects.keys, "is not an aspect's key") for key in ruled),
        *((f"merging.{key}", ruled.count(key) == 1, "has two rules") for key in ruled),
        *((f"merging.{key}", not ruled or key in ruled, "has no rule") for key in aspects.keys),
        *(
            (f"merging.{rule.aspect}.max_items", rule.max_items > 0, "must be above 0")
            for rule in aspects.merging
        ),
    ]
    return [(key, sentence) for key, holds, sentence in rules if not holds]


def _aspect_rules(aspects: AspectSet) -> list[tuple[str, bool, str]]:
    rules: list[tuple[str, bool, str]] = []
    keys: set[str] = set()
    names: dict[str, str] = {}
    for number, aspect in enumerate(aspects.aspects):
        place, heading = f"aspects.{number}", aspect.heading
        name = normalise(heading)
        rules += [
            (
                f"{place}.key",
                _KEY.fullmatch(aspect.key) is not None,
                "must be at most 32 lower-case letters, digits and underscores",
            ),
            (f"{place}.key", aspect.key not in keys, f"{aspect.key} is there twice"),
            (f"{place}.heading", bool(name), "must contain a word"),
            (
                f"{place}.heading",
                heading == heading.strip() and heading.isprintable(),
                "must be one line without white space around it",
            ),
            (
                f"{place}.heading",
                not _MARKS & set(heading),
                "must not contain brackets, asterisks or number signs",
            ),
            (f"{place}.heading", not _NUMBERED.match(name), "must not begin with a number"),
            (
                f"{place}.heading",
                len(heading) <= _LONGEST_HEADING,
                f"must have at most {_LONGEST_HEADING} characters",
            ),
            (
                f"{place}.heading",
                name not in names,
                f"reads the same as {names.get(name, '')!r}: the parser ignores case and "
                "punctuation",
            ),
            (f"{place}.label", aspect.label.isprintable(), "must be one line"),
            (
                f"{place}.kind",
                aspect.kind == "items",
                f"{aspect.kind} is not supported, only items",
            ),
        ]
        keys.add(aspect.key)
        names[name] = heading
    return rules


SEVEN = load_aspect_set(_FOLDER / "7.yaml")
FOUR = load_aspect_set(_FOLDER / "4.yaml")
#: The sets of the recipe.
SHIPPED = {"7": SEVEN, "4": FOUR}
