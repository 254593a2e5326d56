"""Engines: what turns requests into generations, on a GPU, a CPU or behind an API."""
