"""Validation of the judge: its matcher and verdicts compared with published labels."""
