"""QLoRA and QDoRA training: recipe, model, loop, checkpoints."""
