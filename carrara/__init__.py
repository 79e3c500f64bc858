"""Carrara: workflows of chained LLM calls on a local text-diffusion engine."""

__version__ = "0.1.0"
