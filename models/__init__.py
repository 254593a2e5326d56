"""Language models: prompts, loading, grammar, suppression, sampling, engines, parsing, the gate.

Knows nothing of queues or databases.
"""
