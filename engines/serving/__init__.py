"""The engines of this project behind the OpenAI wire format: `carrara serve`."""
