"""The engine "verified": diffusion drafts, one causal pass accepts what the AR engine would have written."""
