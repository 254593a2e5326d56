"""Whether a judge is right: its matcher and its verdicts held against published labels."""
