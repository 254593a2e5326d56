"""The siege: a night of failures on real processes, and the books afterwards."""
