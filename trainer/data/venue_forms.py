"""Review forms of venues, as YAML in configs/forms.

A form says, for the invitations that its pattern matches, which field holds which part of a review.
A new venue needs a new file only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from errors import UserError, first_problem
from resources import package_folder
from trainer.data.source_records import PARTS, NoteKind

FOLDER = package_folder("configs") / "forms"


@dataclass(frozen=True)
class Form:
    """The review form of one or more venues."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    #: Regular expression that finds these venues' invitations.
    invitation: str
    #: Kind of note -> regular expression on the invitation; tried in order.
    notes: Mapping[NoteKind, str]
    #: Part of a review -> the form's fields that belong there, in order.
    parts: Mapping[str, tuple[str, ...]]
    rating: tuple[str, ...] = ()
    confidence: tuple[str, ...] = ()
    decision: tuple[str, ...] = ("decision", "recommendation")
    #: Fields that are stored unchanged, such as scores.
    extra: tuple[str, ...] = ()
    #: Forms are tried by rank; the general one is last.
    rank: int = 0

    def matches(self, invitations: Sequence[str]) -> bool:
        """Is this the form of a note with these invitations?"""
        return any(re.search(self.invitation, each) for each in invitations)

    def kind_of(self, invitations: Sequence[str]) -> NoteKind | None:
        """The kind of a note with these invitations; None for the submission and others."""
        for kind, pattern in self.notes.items():
            if any(re.search(pattern, each) for each in invitations):
                return kind
        return None


@dataclass(frozen=True)
class Forms:
    """All forms, the special ones first."""

    forms: tuple[Form, ...] = field(default_factory=tuple)

    def of(self, invitations: Sequence[str]) -> Form | None:
        """The first form that matches."""
        return next((form for form in self.forms if form.matches(invitations)), None)


def load_forms(folder: Path = FOLDER) -> Forms:
    """Read all forms of a folder. UserError, naming file and key, for an invalid one."""
    forms = [_load(path) for path in sorted(folder.glob("*.yaml"))]
    return Forms(tuple(sorted(forms, key=lambda form: form.rank)))


def _load(path: Path) -> Form:
    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        form = _form_type().validate_python(document)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}") from error
    unknown = sorted(set(form.parts) - set(PARTS))
    if unknown:
        raise UserError(f"{path}: parts: {unknown[0]} is none of {', '.join(PARTS)}")
    return form


@lru_cache(maxsize=1)
def _form_type() -> TypeAdapter[Form]:
    return TypeAdapter(Form)
