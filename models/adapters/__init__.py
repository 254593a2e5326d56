"""LoRA and DoRA adapters: their files, checks, and how a model applies them."""
