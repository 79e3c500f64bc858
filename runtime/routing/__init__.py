"""Which engine answers an LLM step, when an answer is accepted, and what is tried after one that is not."""
