"""Model weights on this machine: fetched once, converted once, checked always.

`carrara.engines.weights.store` is the way in: `ensure("smollm2")` or `ensure("path/to/folder")` gives a
Hugging Face folder that is whole. Nothing here knows how a model computes.
"""
