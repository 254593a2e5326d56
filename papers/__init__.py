"""From a file to a `Paper`: PDF, TeX, Markdown, text, JSONL.

Start at `papers.reading`.
"""
