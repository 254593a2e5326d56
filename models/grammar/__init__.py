"""The output grammar as tensors: token tables, suppression and sampling."""
