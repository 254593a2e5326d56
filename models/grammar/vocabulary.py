"""The bytes that each token id stands for.

Text is looked at as UTF-8 bytes because byte-level tokenizers cut characters in two. Covers the two
families in use: byte-level BPE (Llama 3, SmolLM2) and sentencepiece with byte fallback (Llama 2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from errors import UserError

#: Sentencepiece writes a space as U+2581.
_SPACE_MARK = "\u2581"
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_PROBE = "A <b> \u201cna\u00efve\u201d - [c]\n\n\u65e5\u672c \U0001f389."


@dataclass(frozen=True)
class Vocabulary:
    """`pieces[id]` is the text of a token as bytes, None for special and unused ids."""

    pieces: tuple[bytes | None, ...]
    backend: Any  # tokenizers.Tokenizer, which ships no types

    @classmethod
    def read(cls, tokenizer: Any) -> Vocabulary:
        """Take a transformers or `tokenizers` tokenizer; UserError when its bytes are unknown."""
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        ids = backend.get_vocab(with_added_tokens=True)
        added = backend.get_added_tokens_decoder()
        decode = _piece_decoder(repr(backend.decoder))
        pieces: list[bytes | None] = [None] * (max(ids.values()) + 1)
        for piece, token in ids.items():
            pieces[token] = decode(piece) if token not in added else None
        for token, entry in added.items():
            pieces[token] = None if entry.special else entry.content.encode()
        vocabulary = cls(tuple(pieces), backend)
        vocabulary._check()
        return vocabulary

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of `text` at the start of an answer."""
        return tuple(self.backend.encode(text, add_special_tokens=False).ids)

    def encode_line(self, text: str) -> tuple[int, ...]:
        """The ids of `text` where it begins a line; UserError if it merges with the newline."""
        ids = self.encode("\n" + text)
        for start in range(len(ids)):
            if self.text(ids[start:]) == text.encode():
                return ids[start:]
        raise UserError(f"This tokenizer merges a newline with {text!r}; it cannot be guided.")

    def text(self, ids: tuple[int, ...]) -> bytes:
        """The bytes that `ids` spell together; special ids spell nothing."""
        return b"".join(self.pieces[token] or b"" for token in ids)

    def _check(self) -> None:
        if self.text(self.encode("\n" + _PROBE)).lstrip() != _PROBE.encode():
            raise UserError(
                "The bytes of this tokenizer's tokens are unknown; it cannot be guided."
            )


def _piece_decoder(decoder: str) -> Any:
    if "ByteLevel" in decoder:
        return _byte_level
    if "ByteFallback" in decoder:
        return _sentencepiece
    raise UserError("Only byte-level and byte-fallback tokenizers can be guided.")


def _alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + position): byte for position, byte in enumerate(others)}


_BYTE_OF = _alphabet()


def _byte_level(piece: str) -> bytes | None:
    try:
        return bytes([_BYTE_OF[character] for character in piece])
    except KeyError:
        return None


def _sentencepiece(piece: str) -> bytes:
    if match := _BYTE_PIECE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace(_SPACE_MARK, " ").encode()
