"""From a file to a `Paper`: PDF, TeX, Markdown, text, JSONL; knows nothing of models.

Start at `papers.reading`.
"""
