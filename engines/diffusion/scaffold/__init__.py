"""Scaffolds: output contracts compiled to pinned literals and typed slots on a diffusion canvas."""
