"""Reviewers, aspect sets, training recipes, review forms and subjects as YAML files."""
