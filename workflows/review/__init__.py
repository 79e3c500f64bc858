"""Rows that were not sure enough, looked at by a person: what stands where, and what is decided of each."""
