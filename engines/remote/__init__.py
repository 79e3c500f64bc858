"""Engines behind HTTP: OpenAI-compatible servers, Anthropic, Gemini. Which server can do what is data (`presets/`)."""
