"""Text in, text out: the diffusion engine, the autoregressive engines and the embedded model.

Nothing here knows of a run, a step or another engine. Import what you need by its full name, for example
`from carrara.engines.request import Request`; this package loads nothing by itself.
"""
