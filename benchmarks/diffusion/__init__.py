"""The diffusion engine's speed: passes, tokens a second, chains, crowds, and other decoders beside it."""
