"""The published samplers of each family, written with the loop of this engine: same passes, same answers.

For checkpoints that were trained for them, and as the proof that loop, rules and caches are exact. Greedy
throughout. Each takes prompts and gives rows of tokens as its reference does; `trace` sees every pass.

- `llada`: LLaDA's own, and Fast-dLLM's with its caches.
- `adapted`: dllm's for adapted models (masked diffusion, infilling, blocks), and its port of Fast-dLLM.
- `dream`: Dream's own, and Fast-dLLM's for it.
- `sdar`, `llada2`: blocks behind blocks; with edits for LLaDA 2.1.
"""
