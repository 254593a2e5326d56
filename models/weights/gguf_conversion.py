"""Convert a GGUF file of the Llama architecture into a transformers folder.

transformers does the same with equal bits, but needs torch and four times as long, and loses the
pre-tokenizer (SmolLM2's splits numbers into digits).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray
from safetensors import TensorSpec, serialize_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from errors import MissingPart

_OUTER_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
#: GGUF's token type of control tokens, such as <|im_start|>.
_CONTROL = 3
#: Supported pre-tokenizers of byte-level BPE, by their names in GGUF.
_PRE_TOKENIZERS = {
    "smollm": lambda: pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    ),
}


def convert(gguf_file: Path, folder: Path) -> None:
    """Write config.json, model.safetensors (bf16) and the tokenizer's files into `folder`.

    MissingPart when the file is of a kind that is not supported.
    """
    reader = GGUFReader(gguf_file)
    metadata = _GgufMetadata(reader)
    if metadata["general.architecture"] != "llama" or metadata.pre_tokenizer not in _PRE_TOKENIZERS:
        raise MissingPart(f"{gguf_file.name} holds a model that Referee cannot convert")
    tensors = dict(_tensors(reader, metadata))
    tied = "lm_head.weight" not in tensors
    _save(tensors, folder / "model.safetensors")
    _tokenizer(metadata).save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(metadata))
    _write_json(folder / "config.json", _model_config(metadata, tied=tied))


class _GgufMetadata:
    """The metadata of a GGUF file."""

    def __init__(self, reader: GGUFReader) -> None:
        self._fields = reader.fields
        self.tokens: list[str] = self["tokenizer.ggml.tokens"]

    def __getitem__(self, key: str) -> Any:
        return self._fields[key].contents()

    @property
    def pre_tokenizer(self) -> str:
        return str(self["tokenizer.ggml.pre"])

    def token(self, role: str) -> str:
        return str(self.tokens[self[f"tokenizer.ggml.{role}_token_id"]])


def _tensors(
    reader: GGUFReader, metadata: _GgufMetadata
) -> Iterator[tuple[str, NDArray[np.uint16]]]:
    """Each weight's name in transformers, and its bfloat16 bits: NumPy has no such type."""
    heads = {
        "attn_q": metadata["llama.attention.head_count"],
        "attn_k": metadata["llama.attention.head_count_kv"],
    }
    for tensor in reader.tensors:
        name, kind = _name(tensor.name)
        values = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if kind in heads:
            values = _undo_rope_order(values, heads[kind])
        yield name, _bf16_bits(values)


def _name(gguf_name: str) -> tuple[str, str]:
    """A tensor's name in transformers, and its kind in GGUF."""
    stem = gguf_name.removesuffix(".weight")
    if not stem.startswith("blk."):
        return f"{_OUTER_NAMES[stem]}.weight", stem
    _, layer, kind = stem.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[kind]}.weight", kind


def _undo_rope_order(weight: NDArray[np.float32], n_heads: int) -> NDArray[np.float32]:
    """GGUF interleaves the two halves that rotary embedding pairs; transformers does not."""
    rows, columns = weight.shape
    pairs = weight.reshape(n_heads, rows // n_heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _bf16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to the nearest bfloat16, ties to even, as the upper half of the float32 bits."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def _save(tensors: dict[str, NDArray[np.uint16]], path: Path) -> None:
    specs = {
        name: TensorSpec(
            dtype="bfloat16", shape=bits.shape, data_ptr=bits.ctypes.data, data_len=bits.nbytes
        )
        for name, bits in tensors.items()
    }
    serialize_file(specs, str(path), {"format": "pt"})


def _tokenizer(metadata: _GgufMetadata) -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate(metadata.tokens)}
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = _PRE_TOKENIZERS[metadata.pre_tokenizer]()
    tokenizer.decoder = decoders.ByteLevel()
    types = metadata["tokenizer.ggml.token_type"]
    control = [
        token for token, kind in zip(metadata.tokens, types, strict=True) if kind == _CONTROL
    ]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in control]
    )
    return tokenizer


def _tokenizer_config(metadata: _GgufMetadata) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": metadata.token("bos"),
        "eos_token": metadata.token("eos"),
        "pad_token": metadata.token("padding"),
        "unk_token": metadata.token("unknown"),
        "model_max_length": metadata["llama.context_length"],
        "clean_up_tokenization_spaces": False,
    }


def _model_config(metadata: _GgufMetadata, *, tied: bool) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(metadata.tokens),
        "hidden_size": metadata["llama.embedding_length"],
        "intermediate_size": metadata["llama.feed_forward_length"],
        "num_hidden_layers": metadata["llama.block_count"],
        "num_attention_heads": metadata["llama.attention.head_count"],
        "num_key_value_heads": metadata["llama.attention.head_count_kv"],
        "max_position_embeddings": metadata["llama.context_length"],
        "rms_norm_eps": metadata["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_type": "default", "rope_theta": metadata["llama.rope.freq_base"]},
        "tie_word_embeddings": tied,
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
        "dtype": "bfloat16",
    }


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
