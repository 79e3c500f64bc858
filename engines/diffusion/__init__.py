"""The diffusion engine: a whole answer carved out of noise, its structure pinned from the start."""
