"""The Llama family in torch: configuration, weights, attention patterns, cache and LoRA adapters.

`llama` states how tokens, positions, masks and the cache fit together; start there.
"""
