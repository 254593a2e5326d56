"""A reviewer's configuration: read from YAML, checked, hashed.

Everything that can change what a reviewer writes is in here, so that equal hashes mean equal
reviewers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from errors import UserError, first_problem
from models.text.aspects import SHIPPED, AspectSet, aspect_sets
from models.text.bases import BaseModel, with_base
from models.text.gate import CHECKS, ON_DEMAND, GateConfig
from models.text.generation import Arithmetic, GenerationRequest, Message, Suppression
from models.text.merging_prompt import STRUCTURED, merging_prompt
from models.text.templates import TEMPLATES
from resources import package_folder

ReviewerKind = Literal["local", "api", "human", "merged", "imported"]
#: Kinds that may run on this site's own weights.
_OWN_MODEL = ("local", "merged")

#: Tokens of the whole prompt, the recipe's `max_prompt_length`; with the next one 12,288.
MAX_PROMPT_TOKENS = 11_138
#: Tokens of an answer, the recipe's `max_response_length`.
MAX_NEW_TOKENS = 1_150

_FOLDER = package_folder("configs") / "reviewers"


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server. Prices are in US dollars per million tokens."""

    url: str
    model: str
    concurrency: int = 4
    requests_per_minute: int = 60
    timeout_s: float = 300.0
    usd_per_million_input: float | None = None
    usd_per_million_output: float | None = None


@dataclass(frozen=True)
class ReviewerConfig:
    """One version of a reviewer. `local` needs `base` and `template`, `api` needs `endpoint`.

    `merged` reads a paper's human reviews: with a base or an endpoint, or without any model.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False
    )

    name: str
    kind: ReviewerKind
    aspects: str
    base: BaseModel | None = None
    template: str | None = None
    adapter_sha256: str | None = None
    weights: Literal["nf4", "bf16"] = "nf4"
    #: `fp8` lets workers read prompts in FP8 where the GPU can.
    arithmetic: Arithmetic = "exact"
    suppression: Suppression | None = None
    guided: bool = False
    temperature: float = 0.35
    top_p: float = 0.9
    max_prompt_tokens: int = MAX_PROMPT_TOKENS
    max_new_tokens: int = MAX_NEW_TOKENS
    gate: GateConfig = field(default_factory=GateConfig)
    endpoint: Endpoint | None = None

    @property
    def aspect_set(self) -> AspectSet:
        """The criteria of this reviewer's reviews."""
        return aspect_sets()[self.aspects]

    @property
    def system_prompt(self) -> str:
        """The system prompt; for a merger without a model, the name of its method."""
        if self.kind != "merged":
            return self.aspect_set.system_prompt
        has_model = self.base is not None or self.endpoint is not None
        return merging_prompt(self.aspect_set) if has_model else STRUCTURED

    @property
    def queue(self) -> str:
        """The queue whose workers can serve this reviewer."""
        return f"reviews.{self.base.name}" if self.base and self.kind in _OWN_MODEL else "cpu"

    @property
    def sha256(self) -> str:
        """Hash of all but the name, with the texts behind `aspects` and `template`."""
        template = TEMPLATES[self.template].sha256 if self.template else None
        aspects = self.aspect_set
        fields = self.to_json() | {
            "name": None,
            "prompt_sha256": hashlib.sha256(self.system_prompt.encode()).hexdigest(),
            "headings": [aspect.heading for aspect in aspects.aspects],
            "template_sha256": template,
        }
        if self.arithmetic == "exact":
            # Hashes were fixed before this field existed.
            del fields["arithmetic"]
        if aspects.name not in SHIPPED:
            # Hashes of the recipe's sets were fixed before a set had keys and rules of its own.
            fields["aspects_sha256"] = aspects.sha256
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As JSON types; `from_json` is the inverse."""
        document: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return document

    @property
    def max_request_tokens(self) -> int:
        """Tokens of the longest prompt and answer together."""
        return self.max_prompt_tokens + self.max_new_tokens

    def request(
        self, id: str, paper_text: str, seed: int, *, temperature: float | None = None
    ) -> GenerationRequest:
        """The request for one review of one paper; `temperature` is the gate's second try."""
        return GenerationRequest(
            id=id,
            messages=(Message("system", self.system_prompt), Message("user", paper_text)),
            template=self.template,
            max_prompt_tokens=self.max_prompt_tokens,
            max_new_tokens=self.max_new_tokens,
            adapter_sha256=self.adapter_sha256,
            temperature=self.temperature if temperature is None else temperature,
            top_p=self.top_p,
            seed=seed,
            suppression=self.suppression,
            form=self.aspect_set,
            guided=self.guided,
            arithmetic=self.arithmetic,
        )


def builtin() -> dict[str, Path]:
    """Path of each reviewer that comes with Referee, by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def load(path: Path) -> ReviewerConfig:
    """Read a reviewer's YAML. UserError, naming file and key, for whatever is wrong with it."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the reviewer file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not YAML: {reason}") from error
    if not isinstance(document, Mapping):
        raise UserError(f"{path}: a reviewer is a mapping of keys to values")
    return from_json(document, source=str(path))


def from_json(document: Mapping[str, Any], *, source: str = "reviewer") -> ReviewerConfig:
    """A checked reviewer; `source` is named in the UserError that says what is wrong."""
    try:
        described = _with_limits(with_base(document, source))
        config = _adapter().validate_json(json.dumps(described, default=str))
    except ValidationError as error:
        raise UserError(f"{source}: {first_problem(error)}") from error
    for key, problem in _problems(config):
        raise UserError(f"{source}: {key}: {problem}")
    return config


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[ReviewerConfig]:
    return TypeAdapter(ReviewerConfig)


def _with_limits(document: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the prompt limit that a short context leaves."""
    base, n_new = document.get("base"), document.get("max_new_tokens", MAX_NEW_TOKENS)
    context = base.get("max_context") if isinstance(base, Mapping) else None
    if (
        "max_prompt_tokens" in document
        or not isinstance(context, int)
        or not isinstance(n_new, int)
    ):
        return dict(document)
    return {**document, "max_prompt_tokens": min(MAX_PROMPT_TOKENS, context - n_new)}


def _problems(config: ReviewerConfig) -> list[tuple[str, str]]:
    """What types alone cannot express, as (key, sentence)."""
    n_context = config.base.max_context if config.base else None
    n_tokens = config.max_prompt_tokens + config.max_new_tokens
    coefficient = config.suppression.coefficient if config.suppression else 1.0
    unknown_checks = sorted(set(config.gate.fatal) - {*CHECKS, *ON_DEMAND})
    known = aspect_sets()
    local = config.kind == "local" or (config.kind == "merged" and config.base is not None)
    rules = [
        ("name", bool(config.name.strip()), "a reviewer needs a name"),
        ("aspects", config.aspects in known, f"must be one of {', '.join(known)}"),
        ("base", not local or config.base is not None, "a local reviewer needs a base model"),
        (
            "template",
            config.template in TEMPLATES or (config.template is None and not local),
            f"must be one of {', '.join(TEMPLATES)}",
        ),
        (
            "endpoint",
            config.kind == "merged" or (config.endpoint is not None) == (config.kind == "api"),
            "an api reviewer needs an endpoint; besides it only a merged one may have one",
        ),
        (
            "endpoint",
            config.endpoint is None or config.base is None,
            "reviews come from a base model or from an endpoint, not from both",
        ),
        ("guided", local or not config.guided, "only a local reviewer can be guided"),
        (
            "arithmetic",
            local or config.arithmetic == "exact",
            "only a local reviewer can read prompts in FP8",
        ),
        (
            "suppression",
            local or config.suppression is None,
            "only a local reviewer can suppress the empty marker",
        ),
        ("suppression.coefficient", 0 < coefficient <= 1, "must be above 0 and at most 1"),
        ("temperature", config.temperature >= 0, "must not be negative"),
        ("top_p", 0 < config.top_p <= 1, "must be above 0 and at most 1"),
        ("max_new_tokens", config.max_new_tokens > 0, "must be above 0"),
        ("max_prompt_tokens", config.max_prompt_tokens > 0, "must be above 0"),
        (
            "max_prompt_tokens",
            n_context is None or n_tokens <= n_context,
            f"prompt and answer may take {n_tokens} tokens, but the context holds {n_context}",
        ),
        ("gate.fatal", not unknown_checks, f"unknown checks: {', '.join(unknown_checks)}"),
        *_endpoint_rules(config.endpoint),
    ]
    return [(key, sentence) for key, holds, sentence in rules if not holds]


def _endpoint_rules(endpoint: Endpoint | None) -> list[tuple[str, bool, str]]:
    if endpoint is None:
        return []
    positive = ("concurrency", "requests_per_minute", "timeout_s")
    return [
        (
            "endpoint.url",
            endpoint.url.startswith(("http://", "https://")),
            "must begin with http:// or https://",
        ),
        *((f"endpoint.{key}", getattr(endpoint, key) > 0, "must be above 0") for key in positive),
    ]
