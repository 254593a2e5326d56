"""The 8-bit floating point type of FP8 products and of an 8-bit cache."""

from __future__ import annotations

import torch

#: Eight bits of which three are the mantissa's (Micikevicius et al. 2022, arXiv:2209.05433).
FP8 = torch.float8_e4m3fn
#: The type's largest number.
LARGEST_FP8: float = torch.finfo(FP8).max
#: Lower bound of a row's largest absolute value: a row of zeros still needs a scale.
MIN_LIMIT = 1e-12
