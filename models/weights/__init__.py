"""Base weights: where they come from, how they are converted, cached and loaded."""
