"""From a file to a `Paper`: PDF, TeX, Markdown, text, JSONL.

The entry point is `papers.reading`.
"""
