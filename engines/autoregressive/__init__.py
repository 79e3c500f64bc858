"""Autoregressive decoding: one token after the other, many requests in each pass. `local` is the engine."""
