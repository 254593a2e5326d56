"""GPU kernels and the layers built on them: attention, the paged cache, NF4 products."""
