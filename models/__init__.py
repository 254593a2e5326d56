"""Language models: prompts, loading, grammar, suppression, sampling, engines, parsing, the gate."""
