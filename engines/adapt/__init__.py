"""Adapting a Llama-shaped model: one set of weights that denoises scaffolds and still writes token by token.

`train.Training` is the loop, `recipe.Recipe` its numbers, `rows` reads labelled data, `export` writes the adapter
that the local engines load. torch is needed; nothing here is imported before it is used.
"""
