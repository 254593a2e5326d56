"""The paged cache gives back what was stored, exactly or in eight bits."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.paged_cache import EIGHT_BITS, CacheShape, PagedCache

HEADS, DIM, BLOCK = 2, 4, 8


def cache_of(dtype: torch.dtype) -> PagedCache:
    shape = CacheShape(2, HEADS, DIM, dtype, torch.device("cpu"))
    return PagedCache(shape, n_blocks=9, block_tokens=BLOCK, slots=3, max_tokens=20)


def stored(cache: PagedCache, slot: int, n_tokens: int) -> tuple[Tensor, Tensor]:
    """What layer 1 holds of a slot, [token, head, dim]."""
    places, units = cache.places(slot, n_tokens), cache.units_of(1, 3)
    pools = [pool[1].float().flatten(0, 1)[places] for pool in (cache.keys, cache.values)]
    if units is not None:
        pools = [pool * unit[slot, :, None] for pool, unit in zip(pools, units, strict=True)]
    return pools[0], pools[1]


def test_a_cache_in_the_models_type_gives_back_the_very_numbers() -> None:
    cache = cache_of(torch.float32)
    keys, values = torch.randn(2, 17, HEADS, DIM)
    assert cache.reserve(1, 20)
    cache.write_prompt(1, 1, cache.places(1, 17), keys, values)
    assert all(map(torch.equal, stored(cache, 1, 17), (keys, values)))


@settings(max_examples=40)
@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.integers(0, 1 << 30))
def test_eight_bits_keep_a_sixteenth_of_every_number_whatever_its_scale(
    key_scale: float, value_scale: float, seed: int
) -> None:
    # Given a prompt and a step of two slots, of any magnitude
    torch.manual_seed(seed)
    cache = cache_of(EIGHT_BITS)
    scales = torch.tensor([key_scale, value_scale])[:, None, None, None]
    prompts = {slot: torch.randn(2, 17, HEADS, DIM) * scales for slot in (0, 1)}
    step = torch.randn(2, 2, HEADS, DIM) * scales
    for slot, (keys, values) in prompts.items():
        assert cache.reserve(slot, 20)
        cache.write_prompt(1, slot, cache.places(slot, 17), keys, values)
    ends = torch.stack([cache.places(slot, 18)[-1] for slot in (0, 1)])
    cache.write_step(1, ends, *step)
    # Then each number comes back to a sixteenth of itself, or to its head's smallest part
    for slot, prompt in prompts.items():
        whole = torch.cat([prompt, step[:, slot, None]], dim=1)
        for found, given_ in zip(stored(cache, slot, 18), whole, strict=True):
            smallest = given_.abs().amax() * 2**-14
            assert (found - given_).abs().le(given_.abs() / 16 + smallest).all()


def test_what_is_too_large_for_eight_bits_is_clipped_and_stays_a_number() -> None:
    cache = cache_of(EIGHT_BITS)
    assert cache.reserve(0, 20)
    prompt = torch.ones(2, 4, HEADS, DIM)
    cache.write_prompt(1, 0, cache.places(0, 4), *prompt)
    cache.write_step(1, cache.places(0, 5)[-1:], *(prompt[:, :1] * 1e9))
    keys, values = stored(cache, 0, 5)
    assert keys.isfinite().all()
    assert values[-1].allclose(torch.full((HEADS, DIM), 2.0))
