"""The siege: fault injection on real processes, and checks of the result."""
