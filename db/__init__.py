"""The truth: schema, sessions and every state change as one function."""
