"""Papers for the demo, with their attributions."""
