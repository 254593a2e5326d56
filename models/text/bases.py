"""Base models: the weights below the adapters, one YAML file each in `configs/bases`.

A reviewer names one of them, `base: llama31-8b`, or describes its own by a mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from errors import UserError
from resources import package_folder

FOLDER = package_folder("configs") / "bases"


@dataclass(frozen=True)
class BaseModel:
    """The weights below the adapters. `rope_scaling` overrides the checkpoint's own."""

    name: str
    hub: str
    revision: str
    #: Positions, in tokens, after `rope_scaling`.
    max_context: int
    rope_scaling: Mapping[str, Any] | None = None


def builtin() -> dict[str, BaseModel]:
    """Each base model that comes with Referee, by name."""
    return {name: BaseModel(**fields) for name, (fields, _) in _descriptions().items()}


def with_base(document: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A reviewer's document with the base that it names written out, and the base's template.

    UserError, naming `source`, if there is no base of that name.
    """
    name = document.get("base")
    if not isinstance(name, str):
        return dict(document)
    known = _descriptions()
    if name not in known:
        raise UserError(
            f"{source}: base: there is no base model {name!r}: name one of {', '.join(known)}, or "
            "describe it by name, hub, revision and max_context"
        )
    fields, template = known[name]
    return {"template": template, **document, "base": fields}


def _descriptions() -> dict[str, tuple[dict[str, Any], str]]:
    """The fields and the template of each base model, by name."""
    found = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        template = fields.pop("template")
        found[path.stem] = ({"name": path.stem, **fields}, template)
    return found
