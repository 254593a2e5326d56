"""Measurements of other systems on the same papers, for users to run."""
