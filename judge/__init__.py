"""Holds reviews against human ones: points, matching, PK, statistics and reports."""
