"""What a review is and how it is asked for: forms, templates, prompts, parsing, the gate."""
