"""The paged cache returns the stored keys, rotated, and values, exactly or in fp8."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.kernels.fp8 import FP8
from models.kernels.paged_cache import CacheShape, HadamardRotation, PagedCache

HEADS, DIM, BLOCK = 2, 8, 8


def cache_of(dtype: torch.dtype) -> PagedCache:
    shape = CacheShape(2, HEADS, DIM, dtype, torch.device("cpu"), torch.float32)
    return PagedCache(shape, n_blocks=9, block_tokens=BLOCK, slots=3, max_tokens=20)


def stored(cache: PagedCache, slot: int, n_tokens: int) -> tuple[Tensor, Tensor]:
    """Keys and values of a slot in layer 1, [token, head, dim]."""
    slot_mapping, kv_scales = cache.slot_mapping(slot, n_tokens), cache.kv_scales_of(1, 3)
    pools = [pool[1].float().flatten(0, 1)[slot_mapping] for pool in (cache.keys, cache.values)]
    if kv_scales is not None:
        pools = [pool * unit[slot, :, None] for pool, unit in zip(pools, kv_scales, strict=True)]
    # Products of a key with each axis as the query, as attention computes them
    return pools[0] @ cache.rotate_query(torch.eye(DIM)).T, pools[1]


def test_cache_in_the_models_dtype_is_exact() -> None:
    cache = cache_of(torch.float32)
    keys, values = torch.randn(2, 17, HEADS, DIM)
    cache.reserve(1, 20)
    cache.write_prompt(1, 1, cache.slot_mapping(1, 17), keys, values)
    assert all(map(torch.equal, stored(cache, 1, 17), (keys, values)))


def test_a_request_is_reserved_whole_or_not_at_all() -> None:
    cache = cache_of(torch.float32)
    for slot in (0, 1):
        cache.reserve(slot, 20)
    cache.reserve(2, 10)
    assert (cache.has_room(BLOCK), cache.has_room(BLOCK + 1)) == (True, False)
    cache.release(2)
    cache.reserve(2, 20)
    with pytest.raises(ValueError, match="20 tokens take 3 blocks, 0 are free"):
        cache.reserve(3, 20)
    assert not cache.has_room(1)
    cache.release(0)
    assert (cache.has_room(20), cache.has_room(25)) == (True, False)


@settings(max_examples=40)
@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.integers(0, 1 << 30))
def test_fp8_cache_has_a_relative_error_of_at_most_a_sixteenth_at_any_scale(
    key_scale: float, value_scale: float, seed: int
) -> None:
    # Given a prompt and a step of two slots, of any magnitude
    torch.manual_seed(seed)
    cache = cache_of(FP8)
    scales = torch.tensor([key_scale, value_scale])[:, None, None, None]
    prompts = {slot: torch.randn(2, 17, HEADS, DIM) * scales for slot in (0, 1)}
    step = torch.randn(2, 2, HEADS, DIM) * scales
    for slot, (keys, values) in prompts.items():
        cache.reserve(slot, 20)
        cache.write_prompt(1, slot, cache.slot_mapping(slot, 17), keys, values)
    ends = torch.stack([cache.slot_mapping(slot, 18)[-1] for slot in (0, 1)])
    cache.write_step(1, ends, step[0], step[1], torch.tensor([0, 1]))
    # Then the error of each number is at most a sixteenth of it, or its head's smallest step
    for slot, prompt in prompts.items():
        whole = torch.cat([prompt, step[:, slot, None]], dim=1)
        (keys, values), least = stored(cache, slot, 18), whole.abs().amax(dim=(1, 2, 3)) * 2**-13
        lost = (keys - whole[0]).norm(dim=-1)
        assert lost.le(whole[0].norm(dim=-1) / 16 + least[0]).all()
        assert (values - whole[1]).abs().le(whole[1].abs() / 16 + least[1]).all()


@pytest.mark.parametrize("width", [8, 64, 128, 96])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotated_queries_and_keys_have_the_same_products(width: int, dtype: torch.dtype) -> None:
    shape = CacheShape(1, 1, width, FP8, torch.device("cpu"), dtype)
    rotation = HadamardRotation.of(shape)
    if width == 96:
        assert rotation is None
        return
    assert rotation is not None
    product = rotation.key_matrix.double() @ rotation.query_matrix.double().T
    assert torch.equal(product, torch.eye(width, dtype=torch.float64))


def test_outlier_channel_does_not_degrade_other_channels_in_fp8() -> None:
    # Given keys of which one channel is 30 times larger, and a query with a large weight on it
    torch.manual_seed(0)
    shape = CacheShape(1, 1, 128, FP8, torch.device("cpu"), torch.float32)
    cache = PagedCache(shape, n_blocks=1, block_tokens=64, slots=1, max_tokens=64)
    keys, query = torch.randn(64, 1, 128), torch.randn(128)
    keys[..., 5] *= 30
    query[5] = 10
    cache.reserve(0, 64)
    cache.write_prompt(0, 0, cache.slot_mapping(0, 64), keys, keys)
    plain, kv_scales = keys[:, 0] @ query, cache.kv_scales_of(0, 1)
    assert kv_scales is not None
    # Then the error of a product is at most a third of that of rounding the keys directly
    rotated = cache.keys[0, 1, :, 0].float() * kv_scales[0][0]
    unrotated = cache.values[0, 1, :, 0].float() * kv_scales[1][0]
    lost = (rotated @ cache.rotate_query(query) - plain).std()
    assert lost < 0.33 * (unrotated @ query - plain).std()


def test_values_beyond_the_fp8_range_are_clipped_and_finite() -> None:
    cache = cache_of(FP8)
    cache.reserve(0, 20)
    prompt = torch.ones(2, 4, HEADS, DIM)
    cache.write_prompt(1, 0, cache.slot_mapping(0, 4), *prompt)
    large = prompt[0, :1] * 1e9
    cache.write_step(1, cache.slot_mapping(0, 5)[-1:], large, large, torch.tensor([0]))
    keys, values = stored(cache, 0, 5)
    assert keys.isfinite().all()
    assert values[-1].allclose(torch.full((HEADS, DIM), 2.0))
