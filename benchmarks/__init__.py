"""Runnable measurements; their dated results are in results/."""
