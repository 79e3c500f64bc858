"""Proof by golden files: does a model here compute what the public reference implementations compute?

A golden folder holds a tiny checkpoint in a family's published layout, and what the reference made of it:
forward passes with their logits, and decoding runs with every pass. `python -m carrara.engines.goldens
FOLDER…` runs all of it and prints one line of JSON for each folder.
"""
