"""A GGUF file becomes the same model in transformers' own format."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGUFWriter, TokenType
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from errors import MissingPart
from models.weights import gguf_conversion, store

N_HEADS, N_KV_HEADS, N_HIDDEN = 4, 2, 64
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def tiny_model(vocabulary_size: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=N_HIDDEN,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=N_HEADS,
        num_key_value_heads=N_KV_HEADS,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    return model.eval()


def gguf_order(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """llama.cpp's `permute`, which conversion undoes."""
    rows, columns = weight.shape
    return (
        weight.reshape(n_heads, 2, rows // n_heads // 2, columns)
        .swapaxes(1, 2)
        .reshape(rows, columns)
    )


def write_gguf(path: Path, model: LlamaForCausalLM, tokens: list[str], pre: str) -> None:
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(N_HIDDEN)
    writer.add_feed_forward_length(96)
    writer.add_block_count(2)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    kinds = [TokenType.CONTROL if token in SPECIALS else TokenType.NORMAL for token in tokens]
    writer.add_token_types(kinds)
    writer.add_token_merges(["h e", "he l"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        if "q_proj" in name or "k_proj" in name:
            values = gguf_order(values, N_HEADS if "q_proj" in name else N_KV_HEADS)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def vocabulary() -> list[str]:
    return [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet()), "he", "hel"]


def test_the_converted_model_computes_the_same(vocabulary: list[str], tmp_path: Path) -> None:
    # Given a model in a GGUF file
    model = tiny_model(len(vocabulary))
    write_gguf(tmp_path / "tiny.gguf", model, vocabulary, "smollm")
    # When it is converted
    folder = tmp_path / "model"
    folder.mkdir()
    gguf_conversion.convert(tmp_path / "tiny.gguf", folder)
    # Then transformers loads the same weights and computes the same
    assert store.is_complete(folder)
    converted = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.arange(30)[None]
    with torch.no_grad():
        torch.testing.assert_close(converted(ids).logits, model(ids).logits)


def test_the_converted_tokenizer_reads_digits_apart(vocabulary: list[str], tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", tiny_model(len(vocabulary)), vocabulary, "smollm")
    gguf_conversion.convert(tmp_path / "tiny.gguf", tmp_path)
    tokenizer = store.load_tokenizer(tmp_path)
    tokens = tokenizer.encode("hello 42<|im_end|>").tokens
    assert tokens == ["hel", "l", "o", "Ġ", "4", "2", "<|im_end|>"]
    text = "naïve 漢字\n\n <a> 3.14"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    # transformers reads the same files and knows which token ends a turn.
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token == "<|im_end|>"


def test_an_unknown_pre_tokenizer_is_refused(vocabulary: list[str], tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", tiny_model(len(vocabulary)), vocabulary, "other")
    with pytest.raises(MissingPart, match="cannot convert"):
        gguf_conversion.convert(tmp_path / "tiny.gguf", tmp_path)


@given(arrays.arrays(np.float32, 16, elements=st.floats(width=32, allow_nan=False)))
def test_rounding_to_bfloat16_is_torchs(values: np.ndarray) -> None:
    ours = gguf_conversion._bf16_bits(values)
    theirs = torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    np.testing.assert_array_equal(ours, theirs)
