"""The official chat formats as explicit strings.

A tokenizer's own chat template is never used: Llama 3.1's of July 2024 ignored
`add_generation_prompt=False` and always wrote two dates. Sources: Meta's model cards of Llama 2 and
Llama 3, and the tokenizer configuration of SmolLM2-Instruct.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

from tokenizers import Tokenizer

from errors import UserError

_SYSTEM = "{system}"


@runtime_checkable
class WrapsTokenizer(Protocol):
    """A fast tokenizer of transformers; `Tokenizer` itself needs no torch."""

    @property
    def backend_tokenizer(self) -> Tokenizer: ...


AnyTokenizer = Tokenizer | WrapsTokenizer


def backend(tokenizer: AnyTokenizer) -> Tokenizer:
    """The `tokenizers.Tokenizer` inside a fast tokenizer, or the tokenizer itself."""
    return tokenizer.backend_tokenizer if isinstance(tokenizer, WrapsTokenizer) else tokenizer


@dataclass(frozen=True)
class Template:
    """One chat format: system and paper in, everything up to the answer's first token out.

    `end_of_turn` is the token that ends an answer. It is named here because the tokenizer's
    `eos_token` is wrong for some checkpoints (SmolLM2 after its conversion from GGUF).
    """

    name: str
    prefix: str
    end_of_user: str
    generation_prompt: str
    end_of_turn: str
    special_tokens: tuple[str, ...]

    @property
    def suffix(self) -> str:
        """What follows the paper; it is never cut."""
        return self.end_of_user + self.generation_prompt

    @property
    def sha256(self) -> str:
        """Hash of all that the model can notice, so not of the name."""
        fields = asdict(self) | {"name": None}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def render(self, system: str, paper: str, *, generation_prompt: bool = True) -> str:
        """The whole prompt as one string."""
        end = self.suffix if generation_prompt else self.end_of_user
        return self.prefix.replace(_SYSTEM, system) + paper + end

    def encode_prefix(self, tokenizer: AnyTokenizer, system: str) -> list[int]:
        """Token ids of all that precedes the paper; special strings in `system` stay text."""
        return self._encode(tokenizer, self.prefix, system, continues=False)

    def encode_suffix(self, tokenizer: AnyTokenizer) -> list[int]:
        """Token ids of all that follows the paper, the generation prompt included."""
        return self._encode(tokenizer, self.suffix)

    def end_of_turn_id(self, tokenizer: AnyTokenizer) -> int:
        """The id that ends an answer; UserError when the tokenizer does not have it."""
        return self._special_id(backend(tokenizer), self.end_of_turn)

    def check(self, tokenizer: AnyTokenizer) -> None:
        """UserError when this template and this tokenizer do not belong together."""
        raw = backend(tokenizer)
        for token in self.special_tokens:
            token_id = self._special_id(raw, token)
            if token_id in encode_text(tokenizer, f"a {token} b"):
                raise UserError(
                    f"template {self.name}: the tokenizer turns a paper's text {token!r} into the "
                    "special token itself, so papers could end their own turn"
                )
        closed = self._encode(tokenizer, self.end_of_user)
        if self.encode_suffix(tokenizer) == closed:
            raise UserError(
                f"template {self.name}: the prompt is the same with and without its generation "
                "prompt, so the model would not know that it is its turn"
            )

    def _special_id(self, raw: Tokenizer, token: str) -> int:
        token_id = raw.token_to_id(token)
        added = raw.get_added_tokens_decoder()
        if token_id is None or token_id not in added or not added[token_id].special:
            raise UserError(
                f"template {self.name} does not fit this tokenizer: {token!r} is not one of its "
                "special tokens"
            )
        return token_id

    def _encode(
        self, tokenizer: AnyTokenizer, form: str, system: str = "", *, continues: bool = True
    ) -> list[int]:
        pattern = "|".join(map(re.escape, self.special_tokens))
        ids: list[int] = []
        for piece in filter(None, re.split(f"({pattern})", form)):
            if piece in self.special_tokens:
                ids.append(self._special_id(backend(tokenizer), piece))
                continues = False
            else:
                text = piece.replace(_SYSTEM, system)
                ids += encode_text(tokenizer, text, continues=continues)
        return ids


@lru_cache(maxsize=4)
def _text_encoder(raw: Tokenizer) -> Tokenizer:
    # A copy, because the switch is global to a tokenizer and other threads may be using this one.
    copy = Tokenizer.from_str(raw.to_str())
    copy.encode_special_tokens = True
    copy.no_truncation()
    copy.no_padding()
    return copy


def encode_text(tokenizer: AnyTokenizer, text: str, *, continues: bool = True) -> list[int]:
    """Token ids of `text` as mere text: special tokens written in it are spelled out.

    SentencePiece tokenizers put a space before whatever they are given. Text that `continues` other
    text must not get one, so it is encoded behind a newline, which never merges in them.
    """
    encoder = _text_encoder(backend(tokenizer))
    newline: list[int] = encoder.encode("\n", add_special_tokens=False).ids
    anchored = continues and len(newline) > 1
    ids: list[int] = encoder.encode("\n" + text if anchored else text, add_special_tokens=False).ids
    return ids[len(newline) :] if anchored else ids


LLAMA3 = Template(
    name="llama3",
    prefix=(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n"
    ),
    end_of_user="<|eot_id|>",
    generation_prompt="<|start_header_id|>assistant<|end_header_id|>\n\n",
    end_of_turn="<|eot_id|>",
    special_tokens=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
)

LLAMA2 = Template(
    name="llama2",
    prefix="<s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n",
    end_of_user="",
    generation_prompt=" [/INST]",
    end_of_turn="</s>",
    special_tokens=("<s>", "</s>"),
)

CHATML = Template(
    name="chatml",
    prefix="<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n",
    end_of_user="<|im_end|>\n",
    generation_prompt="<|im_start|>assistant\n",
    end_of_turn="<|im_end|>",
    special_tokens=("<|im_start|>", "<|im_end|>"),
)

TEMPLATES = {template.name: template for template in (LLAMA3, LLAMA2, CHATML)}
