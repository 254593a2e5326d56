"""Handlers of the kinds of jobs that write reviews."""
