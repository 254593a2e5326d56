"""Training data: import, clean, merge, split and build."""
